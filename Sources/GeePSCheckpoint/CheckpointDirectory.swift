internal import CGeePSShims
import Glibc

/// The checkpoints in a directory, as they are found.
public struct CheckpointDirectory: Sendable {
    static let partialSuffix = ".partial"
    static let removedSuffix = ".removed"
    private static let prefix = "step-"

    /// Where it is.
    public let path: String

    /// The directory at `path`, which need not exist.
    public init(_ path: String) { self.path = path }

    /// The directory of the checkpoint of `tick` in `directory`.
    public static func path(_ directory: String, _ tick: UInt64) -> String {
        "\(directory)/\(prefix)\(padded(tick, 10))"
    }

    /// The ticks of all checkpoints that have their final name, ascending.
    public var ticks: [UInt64] {
        names(in: path).compactMap { name in
            guard name.hasPrefix(Self.prefix) else { return nil }
            let digits = name.dropFirst(Self.prefix.count)
            guard digits.count >= 10, digits.allSatisfy({ $0.isASCII && $0.isNumber }) else {
                return nil
            }
            return UInt64(digits)
        }.sorted()
    }
}

/// A checkpoint that has a manifest.
public struct Checkpoint: Sendable {
    /// Its directory.
    public let path: String
    /// What it consists of.
    public let manifest: Manifest
    private let names: Set<String>

    /// Opens the checkpoint at `path`; its files are not read.
    ///
    /// - Throws: `.damaged` when there is no manifest that says what it should.
    public init(path: String) throws(CheckpointError) {
        self.path = path
        let file = path + "/" + Manifest.fileName
        var bytes: [UInt8] = []
        do throws(CheckpointError) {
            try forEachPiece(of: file, byteCountMaximum: Manifest.byteCountMaximum) {
                bytes.append(contentsOf: $0)
            }
        } catch {
            throw CheckpointError(.damaged, error.message)
        }
        do throws(CheckpointError) {
            manifest = try Manifest(bytes: bytes)
            names = Set(manifest.files.map(\.name))
        } catch {
            throw CheckpointError(error.code, "\(file): \(error.message)")
        }
    }

    /// The path of one of the manifest's files.
    ///
    /// - Throws: `.damaged` where the manifest does not name it, so that nobody has compared its checksum.
    public func path(ofFile name: String) throws(CheckpointError) -> String {
        guard names.contains(name) else {
            throw CheckpointError(
                .damaged,
                "\(path)/\(Manifest.fileName) does not name \(name), which should be there: "
                    + "\(manifest.keepers) keepers and \(manifest.workers) workers have written it")
        }
        return path + "/" + name
    }

    /// Reads every `parts`-th file of the manifest, from `part` on, and compares length and checksum.
    ///
    /// - Throws: `.damaged`, naming the file and what was found.
    public func verify(part: Int = 0, of parts: Int = 1) throws(CheckpointError) {
        for index in stride(from: part, to: manifest.files.count, by: parts) {
            let expected = manifest.files[index]
            var register: UInt32 = ~0
            var length: UInt64 = 0
            do throws(CheckpointError) {
                try forEachPiece(of: path + "/" + expected.name) {
                    register = geeps_crc32c(register, $0.baseAddress, $0.count)
                    length += UInt64($0.count)
                }
            } catch {
                throw CheckpointError(.damaged, error.message)
            }
            guard length == expected.bytes else {
                throw CheckpointError(
                    .damaged,
                    "\(path)/\(expected.name) has \(length) bytes, \(expected.bytes) were written")
            }
            guard ~register == expected.checksum else {
                throw CheckpointError(
                    .damaged,
                    "\(path)/\(expected.name) has checksum \(String(~register, radix: 16)), "
                        + "\(String(expected.checksum, radix: 16)) was written")
            }
        }
    }
}

/// Reads a file from its first byte to its last, a mebibyte at a time.
///
/// A link, and what is no file, is refused: a pipe would never end, and nothing of ours writes either.
private func forEachPiece(
    of path: String, byteCountMaximum: UInt64 = .max, _ body: (UnsafeRawBufferPointer) -> Void
) throws(CheckpointError) {
    let file = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK)
    guard file >= 0 else {
        guard errno == ELOOP else { throw .system("open \(path)") }
        throw CheckpointError(
            .inputOutput, "\(path) is a symbolic link, expected the file that geeps wrote")
    }
    defer { close(file) }
    var status = stat()
    guard fstat(file, &status) == 0 else { throw .system("look at \(path)") }
    guard status.st_mode & S_IFMT == S_IFREG else {
        throw CheckpointError(.inputOutput, "\(path) is not a file, expected one that geeps wrote")
    }
    guard UInt64(status.st_size) <= byteCountMaximum else {
        throw CheckpointError(
            .inputOutput,
            "\(path) has \(status.st_size) bytes, at most \(byteCountMaximum) are read")
    }
    let piece = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 64)
    defer { piece.deallocate() }
    while true {
        let count = read(file, piece.baseAddress, piece.count)
        if count < 0 && errno == EINTR { continue }
        guard count >= 0 else { throw .system("read \(path)") }
        if count == 0 { return }
        body(UnsafeRawBufferPointer(rebasing: piece[..<count]))
    }
}
