import Glibc

/// A file of tensors, opened for reading.
///
/// The header is read and checked at once, tensors when asked for, straight into their destination. Any
/// thread may read. The file is not mapped: one that shrinks meanwhile gives an error, not a fault.
public final class SafetensorsFile: Sendable {
    /// As given.
    public let path: String
    /// What is in it.
    public let header: Header

    private let descriptor: Int32
    private let dataStart: Int

    /// Opens `path` and checks its header against the format's rules and the file's length.
    public init(path: String) throws(SafetensorsError) {
        // Else opening a pipe would wait for somebody to write.
        let descriptor = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)
        guard descriptor >= 0 else { throw systemError("open \(path)") }
        do throws(SafetensorsError) {
            (header, dataStart) = try Self.readHeader(descriptor, path)
        } catch {
            close(descriptor)
            throw error
        }
        self.path = path
        self.descriptor = descriptor
    }

    deinit { close(descriptor) }

    /// The tensors, by position in the file.
    public var tensors: [TensorInfo] { header.tensors }

    /// The entry of a tensor.
    public func info(_ name: String) throws(SafetensorsError) -> TensorInfo {
        guard let info = header[name] else {
            throw SafetensorsError(
                .unknownTensor,
                "\(path): no tensor \(name) among its \(tensors.count)"
                    + (tensors.first.map { ", such as \($0.name)" } ?? ""))
        }
        return info
    }

    /// Reads a tensor's bytes, little endian, into `destination`, which has exactly their size.
    public func read(
        _ name: String, into destination: UnsafeMutableRawBufferPointer
    ) throws(SafetensorsError) {
        let info = try info(name)
        guard destination.count == info.byteCount else {
            throw SafetensorsError(
                .mismatch,
                "\(path): tensor \(name) has \(info.byteCount) bytes, "
                    + "the destination \(destination.count)")
        }
        try readFully(
            descriptor, destination, at: dataStart + info.byteRange.lowerBound,
            doing: "\(path): read tensor \(name)")
    }

    /// Reads a part of a tensor's bytes, from `offset` on, as many as `destination` has.
    public func read(
        _ name: String, from offset: Int, into destination: UnsafeMutableRawBufferPointer
    ) throws(SafetensorsError) {
        let info = try info(name)
        guard offset >= 0, offset <= info.byteCount, destination.count <= info.byteCount - offset
        else {
            throw SafetensorsError(
                .mismatch,
                "\(path): tensor \(name) has \(info.byteCount) bytes, asked for "
                    + "\(destination.count) from \(offset) on")
        }
        try readFully(
            descriptor, destination, at: dataStart + info.byteRange.lowerBound + offset,
            doing: "\(path): read tensor \(name)")
    }

    /// Calls `body` with a copy of a tensor's bytes, 64-byte aligned, valid during the call.
    public func withBytes<Result>(
        _ name: String, _ body: (UnsafeRawBufferPointer) -> Result
    ) throws(SafetensorsError) -> Result {
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: try info(name).byteCount, alignment: 64)
        defer { buffer.deallocate() }
        try read(name, into: buffer)
        return body(UnsafeRawBufferPointer(buffer))
    }

    /// The values of a tensor as float32: F32 as it is, F16 and BF16 widened exactly.
    public func floats(_ name: String) throws(SafetensorsError) -> [Float] {
        let info = try info(name)
        guard [.float32, .float16, .bfloat16].contains(info.elementType) else {
            throw SafetensorsError(
                .mismatch,
                "\(path): tensor \(name) is \(info.elementType.rawValue), "
                    + "expected F32, F16 or BF16")
        }
        return try withBytes(name) { bytes in
            switch info.elementType {
            case .float16:
                bytes.bindMemory(to: UInt16.self).map { widened(half: UInt16(littleEndian: $0)) }
            case .bfloat16:
                bytes.bindMemory(to: UInt16.self).map {
                    Float(bitPattern: UInt32(UInt16(littleEndian: $0)) << 16)
                }
            default:
                bytes.bindMemory(to: UInt32.self).map {
                    Float(bitPattern: UInt32(littleEndian: $0))
                }
            }
        }
    }

    private static func readHeaderLength(
        _ descriptor: Int32, _ path: String
    ) throws(SafetensorsError) -> (dataStart: Int, fileByteCount: Int) {
        var status = stat()
        guard fstat(descriptor, &status) == 0 else {
            throw systemError("\(path): find its length")
        }
        guard status.st_mode & S_IFMT == S_IFREG else {
            throw SafetensorsError(.header, "\(path): not a file, expected one of tensors")
        }
        let fileByteCount = Int(status.st_size)
        guard fileByteCount >= 8 else {
            throw SafetensorsError(
                .header, "\(path): \(fileByteCount) bytes, a header's length alone takes 8")
        }
        var little: UInt64 = 0
        try withUnsafeMutableBytes(of: &little) { (bytes) throws(SafetensorsError) in
            try readFully(descriptor, bytes, at: 0, doing: "\(path): read the header's length")
        }
        let length = UInt64(littleEndian: little)
        guard length <= UInt64(Header.byteCountMaximum) else {
            throw SafetensorsError(
                .header,
                "\(path): header of \(length) bytes, at most \(Header.byteCountMaximum) are read")
        }
        guard length <= UInt64(fileByteCount - 8) else {
            throw SafetensorsError(
                .header, "\(path): header of \(length) bytes in a file of \(fileByteCount)")
        }
        return (8 + Int(length), fileByteCount)
    }

    private static func readHeader(
        _ descriptor: Int32, _ path: String
    ) throws(SafetensorsError) -> (Header, dataStart: Int) {
        let (dataStart, fileByteCount) = try readHeaderLength(descriptor, path)
        let buffer = UnsafeMutableRawBufferPointer.allocate(
            byteCount: dataStart - 8, alignment: 16)
        defer { buffer.deallocate() }
        try readFully(descriptor, buffer, at: 8, doing: "\(path): read the header")
        let header: Header
        do throws(SafetensorsError) {
            header = try Header(json: UnsafeRawBufferPointer(buffer))
        } catch {
            throw SafetensorsError(error.code, "\(path): \(error.message)")
        }
        guard header.dataByteCount == fileByteCount - dataStart else {
            throw SafetensorsError(
                .length,
                "\(path): \(fileByteCount - dataStart) bytes of tensors in the file, "
                    + "its header speaks of \(header.dataByteCount)")
        }
        return (header, dataStart)
    }
}

/// The error of the system call that has just failed.
func systemError(_ action: String) -> SafetensorsError {
    SafetensorsError(.inputOutput, "\(action): \(String(cString: strerror(errno)))")
}

/// Reads until `destination` is full.
private func readFully(
    _ descriptor: Int32, _ destination: UnsafeMutableRawBufferPointer, at offset: Int,
    doing action: String
) throws(SafetensorsError) {
    var done = 0
    while done < destination.count {
        let rest = UnsafeMutableRawBufferPointer(rebasing: destination[done...])
        let count = pread(descriptor, rest.baseAddress, rest.count, off_t(offset + done))
        if count < 0 && errno == EINTR { continue }
        if count < 0 { throw systemError(action) }
        if count == 0 {
            throw SafetensorsError(
                .length, "\(action): the file ended \(rest.count) bytes early")
        }
        done += count
    }
}

/// IEEE half precision to single, exactly.
private func widened(half bits: UInt16) -> Float {
    let sign = UInt32(bits & 0x8000) << 16
    let exponent = UInt32(bits >> 10) & 0x1F
    let fraction = UInt32(bits & 0x3FF)
    switch exponent {
    case 0:
        let magnitude = Float(fraction) * 0x1p-24
        return sign == 0 ? magnitude : -magnitude
    case 31: return Float(bitPattern: sign | 0x7F80_0000 | fraction << 13)
    default: return Float(bitPattern: sign | (exponent + 112) << 23 | fraction << 13)
    }
}
