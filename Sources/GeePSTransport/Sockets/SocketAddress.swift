import GeePSCore
import Glibc

/// An address the kernel takes: IPv4, IPv6 or an abstract Unix-domain name.
struct SocketAddress: Sendable {
    private var storage = sockaddr_storage()
    private var length = socklen_t(MemoryLayout<sockaddr_storage>.size)

    /// The family, as for `socket`.
    var family: Int32 { Int32(storage.ss_family) }

    /// Calls `body` with the address in the kernel's form.
    func withAddress<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        withUnsafePointer(to: storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { body($0, length) }
        }
    }

    /// An address filled in by the kernel; nil when the call fails.
    init?(filledBy call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32)
    {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { call($0, &length) }
        }
        guard status == 0 else { return nil }
        self.storage = storage
        self.length = length
    }

    /// This end of a socket.
    static func local(of descriptor: Int32) -> SocketAddress? {
        SocketAddress { getsockname(descriptor, $0, $1) }
    }

    /// The other end of a socket.
    static func remote(of descriptor: Int32) -> SocketAddress? {
        SocketAddress { getpeername(descriptor, $0, $1) }
    }

    /// The abstract Unix-domain address `name`: no file, gone with its last socket, visible in the
    /// network namespace.
    ///
    /// - Precondition: at most 100 bytes of UTF-8.
    init(abstract name: String) {
        precondition(
            name.utf8.count <= 100, "an abstract socket name is at most 100 bytes: \(name)")
        let pathOffset = MemoryLayout<sockaddr_un>.offset(of: \.sun_path) ?? 2
        storage.ss_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &storage) { bytes in
            for (index, byte) in name.utf8.enumerated() { bytes[pathOffset + 1 + index] = byte }
        }
        length = socklen_t(pathOffset + 1 + name.utf8.count)
    }

    private init(_ entry: addrinfo) {
        withUnsafeMutableBytes(of: &storage) { target in
            let source = UnsafeRawBufferPointer(start: entry.ai_addr, count: Int(entry.ai_addrlen))
            target.copyMemory(from: source)
        }
        length = entry.ai_addrlen
    }

    /// All stream addresses of `host`: IPv4, IPv6 or a name.
    ///
    /// Asks the resolver, which may take seconds.
    static func resolve(
        _ host: String, port: UInt16, toListen: Bool = false
    ) throws(TransportError) -> [SocketAddress] {
        var hints = addrinfo()
        hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        hints.ai_flags = AI_NUMERICSERV | (toListen ? AI_PASSIVE : 0)
        var list: UnsafeMutablePointer<addrinfo>?
        let status = getaddrinfo(host, String(port), &hints, &list)
        guard status == 0 else {
            let reason =
                status == EAI_SYSTEM ? systemMessage(errno) : String(cString: gai_strerror(status))
            throw TransportError(.unreachable, "cannot resolve host \"\(host)\": \(reason)")
        }
        defer { freeaddrinfo(list) }
        var addresses: [SocketAddress] = []
        var next = list
        while let entry = next {
            addresses.append(SocketAddress(entry.pointee))
            next = entry.pointee.ai_next
        }
        return addresses
    }

    /// The numeric host and port; nil for a Unix-domain address.
    var numeric: (host: String, port: UInt16)? {
        guard family == AF_INET || family == AF_INET6 else { return nil }
        var host = [CChar](repeating: 0, count: 128)
        var service = [CChar](repeating: 0, count: 16)
        let status = withAddress { address, length in
            getnameinfo(
                address, length, &host, socklen_t(host.count), &service, socklen_t(service.count),
                NI_NUMERICHOST | NI_NUMERICSERV)
        }
        guard status == 0 else { return nil }
        let portText = String(
            decoding: service.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        let hostText = String(
            decoding: host.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
        return UInt16(portText).map { (hostText, $0) }
    }

    /// "10.0.0.7:9090" or "[::1]:9090".
    var text: String {
        numeric.map { formatAddress(host: $0.host, port: $0.port) } ?? "a Unix-domain socket"
    }
}

/// "10.0.0.7:9090", with brackets around IPv6.
func formatAddress(host: String, port: UInt16) -> String {
    host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)"
}

/// Whether both ends of a connected socket are on this host.
func isLoopback(_ descriptor: Int32) -> Bool {
    guard let local = SocketAddress.local(of: descriptor)?.numeric,
        let remote = SocketAddress.remote(of: descriptor)?.numeric
    else { return false }
    return local.host == remote.host
}
