import CUDAEmulator
import GeePSDevice
import GeePSMemory
import Testing

/// Managed memory on a GPU's streams and events: the random plans of `ManagedStressTests` over the emulated
/// driver, which checks that every two conflicting copies are ordered.
@Suite struct ManagedCUDATests {
    @Test(arguments: 0..<10)
    func randomPlansAreFollowedInOrder(slice: Int) throws {
        for seed in (slice * 10)..<(slice * 10 + 10) {
            let jitter = Jitter(seed: UInt64(seed), delayMicrosecondsMaximum: 60)
            let findings = try CUDAEmulator.findings(.init(jitter: jitter)) { emulator in
                try ManagedStressTests.run(seed: UInt64(seed)) { memory in
                    try emulator.makeDevice(limitBytes: memory.budgetBytes ?? 64 << 20)
                }
            }
            #expect(findings == [], "seed \(seed)")
        }
    }
}
