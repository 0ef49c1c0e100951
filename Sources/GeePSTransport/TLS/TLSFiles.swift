import GeePSCore
import Glibc

/// Where a process has its part of the job's TLS: three files in PEM.
public struct TLSFiles: Hashable, Sendable {
    /// The certificate of this process; certificates between it and the CA may follow.
    public var certificate: String
    /// Its private key, without a password.
    public var key: String
    /// The CA of the job: whoever has a certificate of it may be of the job.
    public var ca: String

    /// Three paths.
    public init(certificate: String, key: String, ca: String) {
        self.certificate = certificate
        self.key = key
        self.ca = ca
    }
}

/// What the files of `TLSFiles` hold.
struct TLSMaterial {
    /// Bytes and what to call them in messages.
    struct Part {
        var bytes: [UInt8]
        var name: String
    }

    var certificate: Part
    var key: Part
    var ca: Part
    /// A line about a key that others can read.
    var warning: String?

    init(certificate: Part, key: Part, ca: Part) {
        self.certificate = certificate
        self.key = key
        self.ca = ca
    }

    /// Reads the files.
    ///
    /// - Throws: `.certificate` with the file that cannot be read, and why.
    init(_ files: TLSFiles) throws(TransportError) {
        var isOpenToAll = false
        certificate = try Self.read(files.certificate, "certificate", &isOpenToAll)
        ca = try Self.read(files.ca, "CA", &isOpenToAll)
        isOpenToAll = false
        key = try Self.read(files.key, "key", &isOpenToAll)
        if isOpenToAll {
            warning =
                "everybody on this machine can read the private key \(files.key): chmod 600 \(files.key)"
        }
    }

    /// More is no certificate but a wrong file.
    private static let bytesMaximum = 1 << 20

    private static func read(
        _ path: String, _ what: String, _ isOpenToAll: inout Bool
    ) throws(TransportError) -> Part {
        func failure(_ why: String) -> TransportError {
            TransportError(
                .certificate, "cannot read the TLS \(what) in \(path): \(why), expected a PEM file")
        }
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { throw failure(systemMessage(errno)) }
        defer { close(descriptor) }
        var status = stat()
        guard fstat(descriptor, &status) == 0 else { throw failure(systemMessage(errno)) }
        isOpenToAll = status.st_mode & 0o007 != 0
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 64 << 10)
        while bytes.count <= bytesMaximum {
            let count = Glibc.read(descriptor, &buffer, buffer.count)
            if count < 0 && errno == EINTR { continue }
            guard count >= 0 else { throw failure(systemMessage(errno)) }
            if count == 0 { return Part(bytes: bytes, name: path) }
            bytes += buffer[..<count]
        }
        throw failure("it has more than \(bytesMaximum) bytes")
    }
}
