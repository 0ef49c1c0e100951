import GeePSTestSupport
import Testing

@testable import Safetensors

@Suite(
    "Safetensors Oracle",
    .enabled(if: OraclePython.withTorch != nil, "needs Python with torch and safetensors"))
struct SafetensorsOracleTests {
    @Test func whatTheReferenceWritesWeReadAndWriteBackByteForByte() throws {
        let directory = try TemporaryDirectory()
        let theirs = "\(directory.path)/theirs"
        let ours = "\(directory.path)/ours"
        _ = try OraclePython.run("safetensors_round_trip.py", ["write", theirs])
        let file = try SafetensorsFile(path: theirs)
        #expect(file.tensors.count == 21)
        #expect(try file.floats("scalar") == [0.1])
        let sources = try file.tensors.map { info in
            TensorSource(
                name: info.name, elementType: info.elementType, shape: info.shape,
                bytes: try file.withBytes(info.name, Array.init))
        }
        try SafetensorsWriter.write(path: ours, tensors: sources.reversed())
        #expect(try bytes(ours) == bytes(theirs))
    }

    @Test func whatWeWriteTheReferenceReadsAndWritesBackByteForByte() throws {
        let directory = try TemporaryDirectory()
        let ours = "\(directory.path)/ours"
        let theirs = "\(directory.path)/theirs"
        try SafetensorsWriter.write(
            path: ours,
            tensors: SafetensorsFileTests.goldenTensors + [
                TensorSource(name: "", shape: [1, 1, 1], floats: [.infinity]),
                TensorSource(
                    name: "a\n\u{1}\u{7F}\\", elementType: .bool, shape: [3], bytes: [0, 1, 1]),
            ], metadata: ["format": "pt"])
        _ = try OraclePython.run("safetensors_round_trip.py", ["copy", ours, theirs])
        #expect(try bytes(theirs) == bytes(ours))
    }
}
