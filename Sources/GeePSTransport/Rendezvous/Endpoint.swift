public import GeePSCore
import Glibc

/// Where a process listens: what others need to dial it, small enough to pass through a rendezvous.
public struct Endpoint: Hashable, Sendable, CustomStringConvertible {
    /// IPv4, IPv6 or a name that the others can resolve.
    public var host: String
    /// TCP port.
    public var port: UInt16
    /// Which host and network namespace the listener is in, see `HostIdentity`; empty: unknown.
    public var hostIdentity: String
    /// Name of the abstract Unix-domain socket for peers of the same host; empty: none.
    public var localName: String
    /// Whether it has an RDMA device and UCX for it.
    public var hasRDMA: Bool

    /// An endpoint in full.
    public init(
        host: String, port: UInt16, hostIdentity: String, localName: String, hasRDMA: Bool = false
    ) {
        self.host = host
        self.port = port
        self.hostIdentity = hostIdentity
        self.localName = localName
        self.hasRDMA = hasRDMA
    }

    /// An endpoint of which only the address is known, as a person writes it: TCP is the only way there.
    public init(host: String, port: UInt16) {
        self.init(host: host, port: port, hostIdentity: "", localName: "")
    }

    /// "10.0.0.7:9090".
    public var description: String { formatAddress(host: host, port: port) }

    /// Whether the listener is in this process's host and network namespace, so that shared memory works.
    public var isOnThisHost: Bool {
        !hostIdentity.isEmpty && !localName.isEmpty && hostIdentity == HostIdentity.current
    }

    private static let version: UInt8 = 2
    private static let textBytesMaximum = 255

    /// The endpoint as bytes: version 2, port (16 bits, little endian), 1 with RDMA or 0, then host, host identity and
    /// local name, each as one byte of length and UTF-8.
    ///
    /// - Precondition: no text is longer than 255 bytes.
    public func encoded() -> [UInt8] {
        var bytes = [
            Self.version, UInt8(truncatingIfNeeded: port), UInt8(port >> 8), hasRDMA ? 1 : 0,
        ]
        for text in [host, hostIdentity, localName] {
            precondition(
                text.utf8.count <= Self.textBytesMaximum, "an endpoint's text is too long: \(text)")
            bytes.append(UInt8(text.utf8.count))
            bytes += text.utf8
        }
        return bytes
    }

    /// Reads an endpoint from untrusted bytes.
    ///
    /// - Throws: `.malformed`.
    public init(decoding bytes: [UInt8]) throws(TransportError) {
        guard bytes.count >= 4, bytes[0] == Self.version, bytes[3] <= 1 else {
            let found = bytes.first.map { "version \($0)" } ?? "nothing"
            throw TransportError(
                .malformed, "endpoint: expected version \(Self.version) and a port, found \(found)")
        }
        var rest = bytes[4...]
        var texts: [String] = []
        for _ in 0..<3 {
            guard let count = rest.popFirst(), rest.count >= Int(count),
                let text = String(validating: rest.prefix(Int(count)), as: UTF8.self)
            else {
                throw TransportError(
                    .malformed, "endpoint: text \(texts.count + 1) of 3 is cut short or not UTF-8")
            }
            texts.append(text)
            rest = rest.dropFirst(Int(count))
        }
        guard rest.isEmpty else {
            throw TransportError(.malformed, "endpoint: \(rest.count) bytes too many")
        }
        guard texts[2].utf8.count <= LocalSocket.nameBytesMaximum else {
            throw TransportError(
                .malformed,
                "endpoint: local name of \(texts[2].utf8.count) bytes, at most "
                    + "\(LocalSocket.nameBytesMaximum) are allowed")
        }
        self.init(
            host: texts[0], port: UInt16(bytes[1]) | UInt16(bytes[2]) << 8,
            hostIdentity: texts[1], localName: texts[2], hasRDMA: bytes[3] == 1)
    }
}

/// What tells hosts apart: the kernel's boot id and the network namespace.
///
/// Two processes that agree on both share memory and abstract sockets; host names and addresses would
/// not tell (containers).
public enum HostIdentity {
    /// This process's; empty where the kernel does not say.
    public static let current: String = {
        guard let bootID = readLine("/proc/sys/kernel/random/boot_id") else { return "" }
        var status = stat()
        guard stat("/proc/self/ns/net", &status) == 0 else { return "" }
        return "\(bootID)/\(status.st_dev):\(status.st_ino)"
    }()

    private static func readLine(_ path: String) -> String? {
        let descriptor = open(path, O_RDONLY | O_CLOEXEC)
        guard descriptor >= 0 else { return nil }
        defer { close(descriptor) }
        var bytes = [UInt8](repeating: 0, count: 64)
        let count = read(descriptor, &bytes, bytes.count)
        guard count > 0 else { return nil }
        let line = String(decoding: bytes[..<count].prefix { $0 != 10 }, as: UTF8.self)
        return line.isEmpty ? nil : line
    }
}
