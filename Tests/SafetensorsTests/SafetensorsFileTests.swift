import Foundation
import Testing

@testable import Safetensors

@Suite("SafetensorsFile") struct SafetensorsFileTests {
    /// Written by the reference library, 0.8.0.
    static let goldenHeader =
        #"{"__metadata__":{"format":"pt"},"#
        + #""step":{"dtype":"I64","shape":[],"data_offsets":[0,8]},"#
        + #""empty":{"dtype":"F32","shape":[0,3],"data_offsets":[8,8]},"#
        + #""fc.bias":{"dtype":"F32","shape":[2],"data_offsets":[8,16]},"#
        + #""fc.weight":{"dtype":"F32","shape":[2,2],"data_offsets":[16,32]},"#
        + #""hé\"":{"dtype":"BF16","shape":[2],"data_offsets":[32,36]}}     "#
    static let goldenData: [UInt8] = [
        0x07, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x3F,
        0x00, 0x00, 0x80, 0xBF, 0x00, 0x00, 0x80, 0x3F, 0x00, 0x00, 0x00, 0x40,
        0x00, 0x00, 0x40, 0x40, 0x00, 0x00, 0x80, 0x40, 0xC0, 0x3F, 0x00, 0xC0,
    ]
    static var goldenTensors: [TensorSource] {
        [
            TensorSource(name: "fc.weight", shape: [2, 2], floats: [1, 2, 3, 4]),
            TensorSource(name: "fc.bias", shape: [2], floats: [0.5, -1]),
            TensorSource(
                name: "step", elementType: .int64, shape: [], bytes: [7, 0, 0, 0, 0, 0, 0, 0]),
            TensorSource(
                name: "h\u{E9}\"", elementType: .bfloat16, shape: [2],
                bytes: [0xC0, 0x3F, 0x00, 0xC0]),
            TensorSource(name: "empty", shape: [0, 3], floats: []),
        ]
    }

    @Test func theReferencesFileIsReadWhole() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(
            "golden", fileBytes(header: Self.goldenHeader, data: Self.goldenData))
        let file = try SafetensorsFile(path: path)
        #expect(
            file.tensors.map(\.name) == ["step", "empty", "fc.bias", "fc.weight", "h\u{E9}\""])
        #expect(file.header.metadata == ["format": "pt"])
        #expect(try file.floats("fc.weight") == [1, 2, 3, 4])
        #expect(try file.floats("fc.bias") == [0.5, -1])
        #expect(try file.floats("h\u{E9}\"") == [1.5, -2])
        #expect(try file.floats("empty") == [])
        let step = try file.info("step")
        #expect(step.elementType == .int64 && step.shape == [] && step.elementCount == 1)
        #expect(try file.withBytes("step", Array.init) == [7, 0, 0, 0, 0, 0, 0, 0])
    }

    @Test func ourFileIsTheReferencesByteForByte() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/ours"
        try SafetensorsWriter.write(path: path, tensors: Self.goldenTensors)
        #expect(
            try bytes(path) == fileBytes(header: Self.goldenHeader, data: Self.goldenData))
    }

    @Test(arguments: ElementType.allCases)
    func everyTypeSurvivesTheRoundTrip(type: ElementType) throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/file"
        let content = (0..<type.bitCount).map { UInt8(truncatingIfNeeded: $0 * 37 + 1) }
        try SafetensorsWriter.write(
            path: path,
            tensors: [
                TensorSource(name: "a", elementType: type, shape: [2, 4], bytes: content),
                TensorSource(name: "b", elementType: .uint8, shape: [3], bytes: [1, 2, 3]),
            ], metadata: [:])
        let file = try SafetensorsFile(path: path)
        #expect(try file.info("a").elementType == type)
        #expect(try file.info("a").shape == [2, 4])
        #expect(try file.withBytes("a", Array.init) == content)
        #expect(try file.withBytes("b", Array.init) == [1, 2, 3])
    }

    @Test func halvesWidenExactly() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/file"
        let halves = (0...UInt16.max).filter { $0 & 0x7C00 != 0x7C00 || $0 & 0x3FF == 0 }
        try SafetensorsWriter.write(
            path: path,
            tensors: [
                TensorSource(
                    name: "h", elementType: .float16, shape: [halves.count],
                    bytes: halves.flatMap { [UInt8($0 & 0xFF), UInt8($0 >> 8)] })
            ])
        let floats = try SafetensorsFile(path: path).floats("h")
        #expect(floats == halves.map { Float(Float16(bitPattern: $0)) })
    }

    @Test func anUnknownTensorAndAWrongUseAreErrorsThatSayWhatIsThere() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(
            "golden", fileBytes(header: Self.goldenHeader, data: Self.goldenData))
        let file = try SafetensorsFile(path: path)
        let unknown = #expect(throws: SafetensorsError.self) { try file.floats("fc.weights") }
        #expect(unknown?.code == .unknownTensor)
        #expect(unknown?.message.contains("fc.weights") == true)
        let integer = #expect(throws: SafetensorsError.self) { try file.floats("step") }
        #expect(integer?.code == .mismatch)
        let short = #expect(throws: SafetensorsError.self) {
            var room = [UInt8](repeating: 0, count: 15)
            try room.withUnsafeMutableBytes { try file.read("fc.weight", into: $0) }
        }
        #expect(short?.code == .mismatch)
    }

    @Test func aFileThatShrinksAfterOpeningIsAnError() throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file(
            "golden", fileBytes(header: Self.goldenHeader, data: Self.goldenData))
        let file = try SafetensorsFile(path: path)
        #expect(truncate(path, 100) == 0)
        let error = #expect(throws: SafetensorsError.self) { try file.floats("fc.weight") }
        #expect(error?.code == .length)
    }

    @Test func aFileThatIsNotThereIsAnError() {
        let error = #expect(throws: SafetensorsError.self) {
            try SafetensorsFile(path: "/nonexistent/file")
        }
        #expect(error?.code == .inputOutput)
        #expect(error?.message.contains("/nonexistent/file") == true)
    }
}
