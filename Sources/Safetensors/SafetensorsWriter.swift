import Glibc

/// A tensor to be written.
public struct TensorSource {
    /// Unique in the file; not `__metadata__`.
    public let name: String
    /// What an element is.
    public let elementType: ElementType
    /// Extents, the last one contiguous.
    public let shape: [Int]

    /// Takes bytes, little endian, in order, in as many pieces as the source likes.
    public typealias Sink = (UnsafeRawBufferPointer) throws(SafetensorsError) -> Void

    let produce: (Sink) throws(SafetensorsError) -> Void

    /// A tensor whose bytes are produced when it is their turn.
    ///
    /// - Parameter produce: calls the sink with exactly the bytes of `shape`, in pieces of any size.
    public init(
        name: String, elementType: ElementType, shape: [Int],
        produce: @escaping (Sink) throws(SafetensorsError) -> Void
    ) {
        self.name = name
        self.elementType = elementType
        self.shape = shape
        self.produce = produce
    }

    /// A tensor of float32 values.
    public init(name: String, shape: [Int], floats: [Float]) {
        self.init(name: name, elementType: .float32, shape: shape) {
            (sink) throws(SafetensorsError) in
            try withBytes(of: floats.map(\.bitPattern.littleEndian), sink)
        }
    }

    /// A tensor of bytes in the format's order.
    public init(name: String, elementType: ElementType, shape: [Int], bytes: [UInt8]) {
        self.init(name: name, elementType: elementType, shape: shape) {
            (sink) throws(SafetensorsError) in
            try withBytes(of: bytes, sink)
        }
    }
}

/// Writes files of tensors: whole or not at all.
public enum SafetensorsWriter {
    /// Writes `tensors` to `path`, replacing what is there only when all is on disk.
    ///
    /// The bytes go to a new file beside `path`, which is synced and renamed; on failure it is removed.
    /// Tensors are laid out as the reference does: by type, widest first, then by name.
    public static func write(
        path: String, tensors: [TensorSource], metadata: [String: String] = ["format": "pt"]
    ) throws(SafetensorsError) {
        let (tensors, json) = try prepare(tensors, metadata, path)
        let temporary = "\(path).partial-\(getpid())"
        do throws(SafetensorsError) {
            try writeFile(temporary, path: path, json: json, tensors: tensors)
            if rename(temporary, path) != 0 { throw systemError("rename \(temporary) to \(path)") }
        } catch {
            unlink(temporary)
            throw error
        }
        try syncDirectory(of: path)
    }

    /// Gives the bytes of a file of `tensors` to `sink`, from first to last, for those who write it themselves.
    ///
    /// - Parameter path: for messages.
    public static func produce(
        path: String, tensors: [TensorSource], metadata: [String: String] = ["format": "pt"],
        into sink: TensorSource.Sink
    ) throws(SafetensorsError) {
        let (tensors, json) = try prepare(tensors, metadata, path)
        try produce(path: path, json: json, tensors: tensors, into: sink)
    }

    /// The tensors in the order of the file, and its header.
    private static func prepare(
        _ tensors: [TensorSource], _ metadata: [String: String], _ path: String
    ) throws(SafetensorsError) -> ([TensorSource], json: [UInt8]) {
        let tensors = tensors.sorted {
            $0.elementType != $1.elementType
                ? $0.elementType > $1.elementType : NameKey($0.name) < NameKey($1.name)
        }
        let header: Header
        do throws(SafetensorsError) {
            header = try self.header(of: tensors, metadata: metadata)
        } catch {
            throw SafetensorsError(error.code, "write \(path): \(error.message)")
        }
        let json = header.json
        guard json.count <= Header.byteCountMaximum else {
            throw SafetensorsError(
                .header,
                "write \(path): header of \(json.count) bytes, readers take "
                    + "\(Header.byteCountMaximum); fewer tensors a file would do")
        }
        return (tensors, json)
    }

    private static func header(
        of tensors: [TensorSource], metadata: [String: String]
    ) throws(SafetensorsError) -> Header {
        var infos: [TensorInfo] = []
        var end = 0
        for tensor in tensors {
            guard tensor.name != "__metadata__" else {
                throw SafetensorsError(.tensor, "tensor __metadata__: the name is the format's own")
            }
            guard let byteCount = tensor.elementType.byteCount(shape: tensor.shape),
                case let (sum, overflow) = end.addingReportingOverflow(byteCount), !overflow
            else {
                throw SafetensorsError(
                    .tensor,
                    "tensor \(tensor.name): \(tensor.elementType.rawValue) "
                        + "\(tensor.shape) is no whole number of bytes that can be counted")
            }
            infos.append(
                TensorInfo(
                    name: tensor.name, elementType: tensor.elementType, shape: tensor.shape,
                    byteRange: end..<sum))
            end = sum
        }
        return try Header(tensors: infos, metadata: metadata)
    }

    private static func writeFile(
        _ temporary: String, path: String, json: [UInt8], tensors: [TensorSource]
    ) throws(SafetensorsError) {
        let descriptor = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0o666)
        guard descriptor >= 0 else { throw systemError("create \(temporary)") }
        defer { close(descriptor) }
        try produce(path: path, json: json, tensors: tensors) {
            (bytes) throws(SafetensorsError) in
            try writeFully(descriptor, bytes, doing: "write \(path)")
        }
        if fsync(descriptor) != 0 { throw systemError("sync \(temporary)") }
    }

    private static func produce(
        path: String, json: [UInt8], tensors: [TensorSource], into sink: TensorSource.Sink
    ) throws(SafetensorsError) {
        let length = withUnsafeBytes(of: UInt64(json.count).littleEndian, Array.init)
        try withBytes(of: length + json, sink)
        for tensor in tensors {
            let expected = tensor.elementType.byteCount(shape: tensor.shape) ?? 0
            var produced = 0
            try tensor.produce { (bytes) throws(SafetensorsError) in
                produced += bytes.count
                if produced > expected { return }
                try sink(bytes)
            }
            guard produced == expected else {
                throw SafetensorsError(
                    .mismatch,
                    "write tensor \(tensor.name) of \(path): its source gave "
                        + "\(produced) bytes, \(tensor.elementType.rawValue) \(tensor.shape) "
                        + "needs \(expected)")
            }
        }
    }

    // The rename itself must reach the disk too.
    private static func syncDirectory(of path: String) throws(SafetensorsError) {
        let directory =
            path.lastIndex(of: "/").map { $0 == path.startIndex ? "/" : String(path[..<$0]) } ?? "."
        let descriptor = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        guard descriptor >= 0 else { throw systemError("open \(directory) to sync it") }
        defer { close(descriptor) }
        if fsync(descriptor) != 0 { throw systemError("sync \(directory)") }
    }
}

/// Writes all of `bytes`.
private func writeFully(
    _ descriptor: Int32, _ bytes: UnsafeRawBufferPointer, doing action: String
) throws(SafetensorsError) {
    var done = 0
    while done < bytes.count {
        let rest = UnsafeRawBufferPointer(rebasing: bytes[done...])
        let count = write(descriptor, rest.baseAddress, rest.count)
        if count < 0 && errno == EINTR { continue }
        if count < 0 { throw systemError(action) }
        done += count
    }
}

/// `withUnsafeBytes` of an array for a body that throws our error: the library's forgets its type.
private func withBytes<Element>(
    of array: [Element], _ body: (UnsafeRawBufferPointer) throws(SafetensorsError) -> Void
) throws(SafetensorsError) {
    let result: Result<Void, SafetensorsError> = array.withUnsafeBytes { bytes in
        do throws(SafetensorsError) {
            try body(bytes)
            return .success(())
        } catch {
            return .failure(error)
        }
    }
    try result.get()
}
