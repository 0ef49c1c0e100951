import CZlib
import Glibc

/// A data file read from its beginning, plain or gzip (told by its first bytes, not by its name).
///
/// Memory grows with the bytes that are there, never with what a header claims.
struct DataFile: ~Copyable {
    let path: String
    /// Bytes read so far, after unpacking.
    private(set) var offset = 0
    private let handle: gzFile
    private let chunk: UnsafeMutablePointer<UInt8>

    /// - Throws: `.file` when it cannot be opened.
    init(path: String) throws(NNError) {
        errno = 0
        guard let handle = gzopen(path, "rb") else {
            throw NNError(.file, "open \(path): \(String(cString: strerror(errno)))")
        }
        gzbuffer(handle, 256 << 10)
        self.path = path
        self.handle = handle
        chunk = .allocate(capacity: Self.chunkBytes)
    }

    deinit {
        gzclose(handle)
        chunk.deallocate()
    }

    /// Reads exactly `count` bytes.
    ///
    /// - Throws: `.format` when the file ends before, `.file` when it cannot be read or unpacked.
    mutating func read(_ count: Int, _ what: String) throws(NNError) -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let got = try readChunk(most: count - bytes.count)
            guard !got.isEmpty else {
                throw NNError(
                    .format,
                    "\(path), offset \(offset): the file ends in \(what): found \(bytes.count) bytes, "
                        + "expected \(count)")
            }
            bytes.append(contentsOf: got)
        }
        return bytes
    }

    /// Reads to the end, which checks a gzip file's checksum too.
    ///
    /// - Throws: `.format` when more than `most` bytes are left.
    mutating func readRest(most: Int) throws(NNError) -> [UInt8] {
        var bytes: [UInt8] = []
        while true {
            let got = try readChunk(most: Self.chunkBytes)
            if got.isEmpty { return bytes }
            bytes.append(contentsOf: got)
            guard bytes.count <= most else {
                throw NNError(
                    .format,
                    "\(path), offset \(offset): found more than \(most) bytes, expected at most \(most)"
                )
            }
        }
    }

    /// - Throws: `.format` when the file goes on.
    mutating func expectEnd() throws(NNError) {
        let end = offset
        guard try readRest(most: 0).isEmpty else {
            throw NNError(
                .format, "\(path), offset \(end): found more bytes, expected the end of the file")
        }
    }

    private static let chunkBytes = 256 << 10

    /// Up to `most` bytes, valid until the next call; none at the end.
    private mutating func readChunk(most: Int) throws(NNError) -> UnsafeBufferPointer<UInt8> {
        let got = gzread(handle, chunk, UInt32(min(most, Self.chunkBytes)))
        var status: Int32 = Z_OK
        let text = gzerror(handle, &status)
        guard got >= 0 && (status == Z_OK || status == Z_STREAM_END) else {
            let reason =
                status == Z_ERRNO
                ? String(cString: strerror(errno)) : text.map { String(cString: $0) } ?? "error"
            throw NNError(
                status == Z_ERRNO ? .file : .format,
                "\(path), offset \(offset): cannot read or unpack: \(reason) (zlib \(status))")
        }
        offset += Int(got)
        return UnsafeBufferPointer(start: chunk, count: Int(got))
    }

    /// The first of `names` in `directory` that exists.
    ///
    /// - Throws: `.file` listing what was tried.
    static func find(_ names: [String], in directory: String) throws(NNError) -> String {
        for name in names where access("\(directory)/\(name)", F_OK) == 0 {
            return "\(directory)/\(name)"
        }
        throw NNError(
            .file,
            "\(directory): found none of \(names.joined(separator: ", ")), expected one of them")
    }
}
