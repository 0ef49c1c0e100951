import Testing

@testable import Safetensors

@Suite("SafetensorsWriter") struct SafetensorsWriterTests {
    private func write(_ path: String, _ tensors: [TensorSource]) -> SafetensorsError? {
        do throws(SafetensorsError) {
            try SafetensorsWriter.write(path: path, tensors: tensors)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [0, 3, 5, 9])
    func aSourceOfTheWrongLengthLeavesTheOldFileAndNothingElse(byteCount: Int) throws {
        let directory = try TemporaryDirectory()
        let path = try directory.file("file", [1, 2, 3])
        let content = [UInt8](repeating: 0, count: byteCount)
        let error = write(
            path, [TensorSource(name: "t", elementType: .float32, shape: [1], bytes: content)])
        #expect(error?.code == .mismatch)
        #expect(error?.message.contains("\(byteCount) bytes") == true)
        #expect(try bytes(path) == [1, 2, 3])
        #expect(try directory.names == ["file"])
    }

    @Test func aSourceThatFailsLeavesNothing() throws {
        let directory = try TemporaryDirectory()
        let failure = SafetensorsError(.inputOutput, "the source failed")
        let source = TensorSource(name: "t", elementType: .uint8, shape: [1]) {
            (_) throws(SafetensorsError) in throw failure
        }
        #expect(write("\(directory.path)/file", [source]) == failure)
        #expect(try directory.names == [])
    }

    @Test func bytesMayComeInPieces() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/file"
        let source = TensorSource(name: "t", elementType: .uint8, shape: [300]) {
            (sink) throws(SafetensorsError) in
            for piece in 0..<100 {
                let value = UInt8(piece)
                let storage = UnsafeMutableRawBufferPointer.allocate(byteCount: 3, alignment: 1)
                defer { storage.deallocate() }
                storage.copyBytes(from: [value, value, value])
                try sink(UnsafeRawBufferPointer(storage))
            }
        }
        try SafetensorsWriter.write(path: path, tensors: [source])
        #expect(
            try SafetensorsFile(path: path).withBytes("t", Array.init)
                == (0..<300).map { UInt8($0 / 3) })
    }

    @Test func impossibleTensorsAreRefused() throws {
        let directory = try TemporaryDirectory()
        let one = TensorSource(name: "t", shape: [1], floats: [1])
        let cases = [
            [one, one],
            [TensorSource(name: "__metadata__", shape: [1], floats: [1])],
            [TensorSource(name: "t", elementType: .float4, shape: [3], bytes: [0, 0])],
            [TensorSource(name: "t", shape: [-1], floats: [])],
            [TensorSource(name: "t", shape: [Int.max, 2], floats: [])],
        ]
        for tensors in cases {
            #expect(write("\(directory.path)/file", tensors)?.code == .tensor)
        }
        #expect(try directory.names == [])
    }

    @Test func aDirectoryThatIsNotThereIsAnError() {
        #expect(write("/nonexistent/file", [])?.code == .inputOutput)
    }

    @Test func namesAndMetadataSurviveWhateverTheyHold() throws {
        let directory = try TemporaryDirectory()
        let path = "\(directory.path)/file"
        let names = [
            "", "\"\\/\u{08}\u{0C}\n\r\t\u{01}\u{1F}\u{7F}", "\u{E9}", "e\u{301}", "\u{1F600}",
            "{}:,[]",
        ]
        let metadata = Dictionary(
            uniqueKeysWithValues: names.filter { $0 != "e\u{301}" }.map { ($0, $0) })
        try SafetensorsWriter.write(
            path: path,
            tensors: names.enumerated().map {
                TensorSource(name: $1, shape: [1], floats: [Float($0)])
            }, metadata: metadata)
        let file = try SafetensorsFile(path: path)
        for (index, name) in names.enumerated() {
            #expect(try file.floats(name) == [Float(index)])
        }
        #expect(file.header.metadata == metadata)
    }
}
