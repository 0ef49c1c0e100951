import Testing

@testable import GeePSNN

private func word(_ value: Int) -> [UInt8] {
    (0..<4).reversed().map { UInt8(truncatingIfNeeded: value >> (8 * $0)) }
}

@Suite struct IDXTests {
    /// Three images of 2 x 3.
    private let images = word(0x803) + word(3) + word(2) + word(3) + (0..<18).map { UInt8($0 * 15) }
    private let labels = word(0x801) + word(3) + [7, 0, 9]

    private func fails(
        _ images: [UInt8], _ labels: [UInt8], _ folder: TemporaryFolder
    ) -> NNError? {
        let imagePath = folder.write(images, to: "images")
        let labelPath = folder.write(labels, to: "labels")
        do throws(NNError) {
            _ = try IDX.load(images: imagePath, labels: labelPath)
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [
        "train-images-idx3-ubyte train-labels-idx1-ubyte",
        "train-images.idx3-ubyte train-labels.idx1-ubyte",
        "train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz",
        "train-images.idx3-ubyte.gz train-labels-idx1-ubyte",
    ])
    func readsEverySpellingPlainAndPacked(_ names: String) throws {
        let folder = TemporaryFolder()
        let names = names.split(separator: " ").map(String.init)
        for (name, bytes) in zip(names, [images, labels]) {
            folder.write(name.hasSuffix(".gz") ? folder.gzip(bytes) : bytes, to: name)
        }
        let data = try IDX.load(directory: folder.path, split: .train)
        #expect(data.count == 3)
        #expect(data.shape == Shape(channels: 1, height: 2, width: 3))
        var pixels = [Float](repeating: -1, count: 12)
        var found = [Int32](repeating: -1, count: 2)
        data.fill([2, 0], images: &pixels, labels: &found)
        #expect(found == [9, 7])
        #expect(pixels == (Array(12..<18) + Array(0..<6)).map { Float($0 * 15) / 255 })
    }

    @Test func readsTheDigits() throws {
        let folder = "/" + "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")
        let train = try IDX.load(directory: "\(folder)/data/digits", split: .train)
        let test = try IDX.load(directory: "\(folder)/data/digits", split: .test)
        #expect(train.count == 1438 && test.count == 359)
        #expect(train.shape == Shape(channels: 1, height: 8, width: 8))
        var pixels = [Float](repeating: -1, count: 64 * 1438)
        var labels = [Int32](repeating: -1, count: 1438)
        train.fill(Array(0..<1438), images: &pixels, labels: &labels)
        #expect(Set(labels) == Set(0..<10))
        #expect(pixels.max() == 240 / 255.0 as Float && pixels.min() == 0)
    }

    @Test func aFileCutAnywhereIsRefused() {
        let folder = TemporaryFolder()
        for length in 0..<images.count {
            let error = fails(Array(images[..<length]), labels, folder)
            #expect(error?.code == .format, "\(length): \(String(describing: error))")
            #expect(error?.message.contains("/images, offset") == true)
        }
        for length in 0..<labels.count {
            let error = fails(images, Array(labels[..<length]), folder)
            #expect(error?.code == .format, "\(length): \(String(describing: error))")
        }
        #expect(fails(images, labels, folder) == nil)
    }

    @Test func aPackedFileCutAnywhereIsRefused() {
        let folder = TemporaryFolder()
        let packed = folder.gzip(images)
        for length in 0..<packed.count {
            #expect(fails(Array(packed[..<length]), labels, folder)?.code == .format, "\(length)")
        }
        #expect(fails(packed, labels, folder) == nil)
    }

    @Test func aPackedFileWithAnyDamagedByteIsRefusedOrUnharmed() throws {
        let folder = TemporaryFolder()
        let packed = folder.gzip(images)
        for position in packed.indices {
            var damaged = packed
            damaged[position] ^= 0x55
            // Time stamp, flags of the packer and its system (bytes 4 to 9) say nothing of the contents.
            if fails(damaged, labels, folder) == nil {
                #expect((4..<10).contains(position), "byte \(position)")
            }
        }
    }

    @Test func anyDamagedByteOfTheHeaderIsRefused() {
        let folder = TemporaryFolder()
        for position in 0..<16 {
            for change: UInt8 in [0x01, 0x80, 0xFF] {
                var damaged = images
                damaged[position] ^= change
                #expect(fails(damaged, labels, folder)?.code == .format, "byte \(position)")
            }
        }
    }

    @Test func saysOffsetFoundAndExpected() {
        let folder = TemporaryFolder()
        func message(_ images: [UInt8], _ labels: [UInt8]) -> String {
            fails(images, labels, folder)?.message ?? "none"
        }
        #expect(
            message(labels, labels).contains(
                "offset 0: found magic 0x00000801, expected 0x00000803"))
        #expect(message(images + [0], labels).contains("expected at most 0"))
        #expect(
            message(images, word(0x801) + word(2) + [1, 1]).contains("found 2 labels, expected 3"))
        #expect(
            message(images, word(0x801) + word(3) + [1, 10, 1])
                .contains("/labels, offset 9: found label 10, expected 0 to 9"))
        #expect(
            message(word(0x803) + word(0) + word(2) + word(3), word(0x801) + word(0))
                .contains("found 0 images"))
        let huge = word(0x803) + word(0xFFFF_FFFF) + word(0xFFFF_FFFF) + word(0xFFFF_FFFF)
        #expect(message(huge, labels).contains("found dimension 4294967295"))
    }

    @Test func aHeaderThatClaimsMuchTakesNoMemory() {
        let folder = TemporaryFolder()
        // A terabyte, in a file of 20 bytes.
        let claim = word(0x803) + word(1 << 20) + word(1 << 10) + word(1 << 10) + [1, 2, 3, 4]
        #expect(fails(claim, labels, folder)?.message.contains("found 4 bytes") == true)
    }

    @Test func aMissingFileIsNamed() {
        let error = #expect(throws: NNError.self) {
            try IDX.load(directory: "/nonexistent", split: .test)
        }
        #expect(error?.code == .file)
        #expect(error?.message.contains("t10k-images-idx3-ubyte.gz") == true)
    }
}

@Suite struct CIFAR10Tests {
    private func record(_ label: UInt8, _ seed: Int) -> [UInt8] {
        [label] + (0..<3072).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ seed) }
    }

    @Test func readsAllBatchesInOrder() throws {
        let folder = TemporaryFolder()
        for batch in 1...5 {
            let bytes = record(UInt8(batch), batch) + record(9, 100 + batch)
            let name = "data_batch_\(batch).bin"
            if batch == 3 {
                folder.write(folder.gzip(bytes), to: "\(name).gz")
            } else {
                folder.write(bytes, to: name)
            }
        }
        folder.write(record(0, 0), to: "test_batch.bin")
        let train = try CIFAR10.load(directory: folder.path, split: .train)
        #expect(train.count == 10)
        #expect(train.shape == Shape(channels: 3, height: 32, width: 32))
        var images = [Float](repeating: -1, count: 3072)
        var labels = [Int32](repeating: -1, count: 1)
        train.fill([4], images: &images, labels: &labels)
        #expect(labels == [3])
        #expect(images == record(3, 3).dropFirst().map { Float($0) / 255 })
        #expect(try CIFAR10.load(directory: folder.path, split: .test).count == 1)
    }

    @Test(arguments: [0, 1, 3072, 3074, 6145]) func refusesPartsOfRecords(_ length: Int) {
        let folder = TemporaryFolder()
        folder.write((record(1, 1) + record(2, 2)).prefix(length), to: "test_batch.bin")
        let error = #expect(throws: NNError.self) {
            try CIFAR10.load(directory: folder.path, split: .test)
        }
        #expect(error?.code == .format)
        #expect(error?.message.contains("found \(length) bytes") == true)
    }

    @Test func refusesALabelOutOfRangeAndAMissingBatch() {
        let folder = TemporaryFolder()
        folder.write(record(1, 1) + record(10, 2), to: "test_batch.bin")
        let error = #expect(throws: NNError.self) {
            try CIFAR10.load(directory: folder.path, split: .test)
        }
        #expect(error?.message.contains("offset 3073: found label 10") == true)
        let missing = #expect(throws: NNError.self) {
            try CIFAR10.load(directory: folder.path, split: .train)
        }
        #expect(missing?.message.contains("data_batch_1.bin") == true)
    }
}

@Suite struct SyntheticDatasetTests {
    @Test func everyRankMakesTheSameAndTheTeacherKnowsEveryLabel() {
        let shape = Shape(channels: 2, height: 3, width: 4)
        let data = SyntheticDataset(count: 200, shape: shape, classCount: 5, seed: 4)
        let again = SyntheticDataset(count: 200, shape: shape, classCount: 5, seed: 4)
        var images = [Float](repeating: -9, count: 200 * 24)
        var labels = [Int32](repeating: -9, count: 200)
        data.fill(Array(0..<200), images: &images, labels: &labels)
        var other = images
        again.fill(Array(0..<200), images: &other, labels: &labels)
        #expect(images == other)
        #expect(images.allSatisfy { $0 >= -1 && $0 < 1 })
        for sample in 0..<200 {
            var scores = [Double](repeating: 0, count: 5)
            for c in 0..<5 {
                for i in 0..<24 {
                    let weight = Double(data.teacher[c * 24 + i])
                    scores[c] += Double(images[sample * 24 + i]) * weight
                }
            }
            #expect(scores[Int(labels[sample])] > scores.max()! - 1e-4)
        }
        #expect(Set(labels).count == 5)
    }

    @Test func aLaterFirstSampleContinuesTheRow() {
        let shape = Shape(channels: 6)
        let all = SyntheticDataset(count: 30, shape: shape, seed: 1)
        let rest = SyntheticDataset(count: 10, shape: shape, seed: 1, firstSample: 20)
        var (a, b) = ([Float](repeating: 0, count: 6), [Float](repeating: 1, count: 6))
        var (la, lb): ([Int32], [Int32]) = ([-1], [-2])
        all.fill([23], images: &a, labels: &la)
        rest.fill([3], images: &b, labels: &lb)
        #expect(a == b && la == lb)
    }
}
