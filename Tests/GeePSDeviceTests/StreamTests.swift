import GeePSCore
import GeePSDevice
import Testing

@Suite struct StreamTests {
    @Test func operationsOfAStreamRunInOrder() throws {
        let device = HostDevice(jitter: Jitter(seed: 1))
        let stream = try device.makeStream(name: "s")
        let buffer = try device.allocate(byteCount: 64, for: .localData)
        stream.fill(buffer.floats, with: 3, count: 16, label: "")
        try stream.synchronise()
        #expect(buffer.floats[15] == 3)
    }
}
