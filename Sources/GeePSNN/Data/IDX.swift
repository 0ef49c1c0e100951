/// The format of MNIST and its kin: a big-endian header, then bytes.
///
/// Plain or gzip.
///
/// Images: magic 0x00000803, count, rows, columns, then count x rows x columns bytes. Labels: magic
/// 0x00000801, count, then count bytes. (LeCun, Cortes, Burges: the MNIST database.)
public enum IDX {
    /// Reads a directory with MNIST's file names: `train-images-idx3-ubyte` and `t10k-...`, also written
    /// `train-images.idx3-ubyte`, each with or without `.gz`.
    ///
    /// - Throws: `.file` when one is missing or cannot be read, `.format` naming file, offset, found, expected.
    public static func load(
        directory: String, split: DataSplit, classCount: Int = 10
    ) throws(NNError) -> ByteImages {
        let prefix = split == .train ? "train" : "t10k"
        let images = try DataFile.find(names("\(prefix)-images", "idx3"), in: directory)
        let labels = try DataFile.find(names("\(prefix)-labels", "idx1"), in: directory)
        return try load(images: images, labels: labels, classCount: classCount)
    }

    /// Of one image of a directory, read from the header alone.
    ///
    /// - Throws: as `load`.
    public static func shape(directory: String, split: DataSplit) throws(NNError) -> Shape {
        let prefix = split == .train ? "train" : "t10k"
        var file = try DataFile(
            path: try DataFile.find(names("\(prefix)-images", "idx3"), in: directory))
        let header = try readHeader(&file, magic: 0x0803, dimensions: 3)
        guard header.allSatisfy({ $0 > 0 }) else { throw emptyImages(file.path, header) }
        return Shape(channels: 1, height: header[1], width: header[2])
    }

    /// Reads a file of images and its file of labels.
    ///
    /// - Throws: as above; also when the counts differ or a label is not below `classCount`.
    public static func load(
        images imagePath: String, labels labelPath: String, classCount: Int = 10
    ) throws(NNError) -> ByteImages {
        var file = try DataFile(path: imagePath)
        let header = try readHeader(&file, magic: 0x0803, dimensions: 3)
        guard header.allSatisfy({ $0 > 0 }) else { throw emptyImages(imagePath, header) }
        let pixels = try file.read(header[0] * header[1] * header[2], "the images")
        try file.expectEnd()
        let labels = try readLabels(labelPath, count: header[0], imagePath, classCount)
        return ByteImages(
            name: imagePath, shape: Shape(channels: 1, height: header[1], width: header[2]),
            classCount: classCount, pixels: pixels, labels: labels)
    }

    private static func names(_ stem: String, _ kind: String) -> [String] {
        ["\(stem)-\(kind)-ubyte", "\(stem).\(kind)-ubyte"].flatMap { [$0, "\($0).gz"] }
    }

    private static func emptyImages(_ path: String, _ header: [Int]) -> NNError {
        NNError(
            .format,
            "\(path), offset 4: found \(header[0]) images of \(header[1]) x \(header[2]), expected "
                + "at least 1 of each")
    }

    private static func readLabels(
        _ path: String, count: Int, _ imagePath: String, _ classCount: Int
    ) throws(NNError) -> [UInt8] {
        var file = try DataFile(path: path)
        let found = try readHeader(&file, magic: 0x0801, dimensions: 1)[0]
        guard found == count else {
            throw NNError(
                .format,
                "\(path), offset 4: found \(found) labels, expected \(count) as there are images in "
                    + imagePath)
        }
        let start = file.offset
        let labels = try file.read(count, "the labels")
        try file.expectEnd()
        if let bad = labels.firstIndex(where: { Int($0) >= classCount }) {
            throw NNError(
                .format,
                "\(path), offset \(start + bad): found label \(labels[bad]), expected 0 to "
                    + "\(classCount - 1)")
        }
        return labels
    }

    /// The dimensions, whose product is known not to overflow.
    private static func readHeader(
        _ file: inout DataFile, magic: UInt32, dimensions: Int
    ) throws(NNError) -> [Int] {
        let found = try readWord(&file)
        guard found == magic else {
            throw NNError(
                .format,
                "\(file.path), offset 0: found magic \(hexadecimal(found)), expected "
                    + hexadecimal(magic))
        }
        var sizes: [Int] = []
        var values = 1
        for _ in 0..<dimensions {
            let size = Int(try readWord(&file))
            let (product, overflow) = values.multipliedReportingOverflow(by: size)
            guard !overflow && product <= bytesMaximum else {
                throw NNError(
                    .format,
                    "\(file.path), offset \(file.offset - 4): found dimension \(size), which makes more than "
                        + "\(bytesMaximum) values; expected fewer")
            }
            values = product
            sizes.append(size)
        }
        return sizes
    }

    /// A data set held in memory is smaller than this; a header that says more is damaged.
    private static let bytesMaximum = 1 << 40

    private static func readWord(_ file: inout DataFile) throws(NNError) -> UInt32 {
        try file.read(4, "the header").reduce(0) { $0 << 8 | UInt32($1) }
    }

    private static func hexadecimal(_ word: UInt32) -> String {
        let digits = String(word, radix: 16)
        return "0x" + String(repeating: "0", count: 8 - digits.count) + digits
    }
}
