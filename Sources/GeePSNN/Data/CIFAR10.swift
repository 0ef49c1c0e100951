/// CIFAR-10's binary version: records of a label byte and 3 x 32 x 32 bytes, red plane first (Krizhevsky 2009).
public enum CIFAR10 {
    /// Of one image.
    public static let shape = Shape(channels: 3, height: 32, width: 32)
    private static var recordBytes: Int { 1 + shape.count }
    /// Labels are below this.
    public static let classCount = 10

    /// Reads `data_batch_1.bin` to `data_batch_5.bin`, or `test_batch.bin`, of a directory; each may be gzip.
    ///
    /// - Throws: `.file` when one is missing or cannot be read, `.format` naming file, offset, found, expected.
    public static func load(directory: String, split: DataSplit) throws(NNError) -> ByteImages {
        let names =
            split == .train ? (1...5).map { "data_batch_\($0).bin" } : ["test_batch.bin"]
        var paths: [String] = []
        for name in names {
            paths.append(try DataFile.find([name, "\(name).gz"], in: directory))
        }
        return try load(files: paths, name: "\(directory) (\(split.rawValue))")
    }

    /// Reads files one after the other, each of any number of whole records.
    public static func load(files: [String], name: String) throws(NNError) -> ByteImages {
        var pixels: [UInt8] = []
        var labels: [UInt8] = []
        for path in files { try read(path, &pixels, &labels) }
        return ByteImages(
            name: name, shape: shape, classCount: classCount, pixels: pixels, labels: labels)
    }

    private static func read(
        _ path: String, _ pixels: inout [UInt8], _ labels: inout [UInt8]
    ) throws(NNError) {
        var file = try DataFile(path: path)
        let bytes = try file.readRest(most: 1 << 32)
        guard !bytes.isEmpty && bytes.count % recordBytes == 0 else {
            throw NNError(
                .format,
                "\(path), offset \(bytes.count): the file ends in a record: found \(bytes.count) bytes, "
                    + "expected a positive multiple of \(recordBytes)")
        }
        for start in stride(from: 0, to: bytes.count, by: recordBytes) {
            guard bytes[start] < classCount else {
                throw NNError(
                    .format,
                    "\(path), offset \(start): found label \(bytes[start]), expected 0 to "
                        + "\(classCount - 1)")
            }
            labels.append(bytes[start])
            pixels.append(contentsOf: bytes[(start + 1)..<(start + recordBytes)])
        }
    }
}
