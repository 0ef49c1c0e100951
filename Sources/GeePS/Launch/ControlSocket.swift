import GeePSCore
import Glibc

/// A file descriptor with one owner, closed when the owner lets it go.
final class Descriptor: Sendable {
    let number: Int32

    init(_ number: Int32) { self.number = number }

    deinit { close(number) }
}

/// Why a socket call failed, in the system's words.
func systemText(_ code: Int32) -> String { String(cString: strerror(code)) }

/// The socket calls of the control plane.
///
/// Every descriptor is non-blocking and closed on exec; waiting is done by `poll`, with a deadline.
enum ControlSocket {
    private static let streamType =
        Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)

    /// Listens at `address`; where that is none of this machine's, as service addresses of clusters are, at `interface`.
    ///
    /// - Returns: the socket and the port, which the system chose when `address` has port 0.
    static func listen(
        at address: ControlAddress, orAt interface: String? = nil
    ) throws(LaunchError) -> (Descriptor, UInt16) {
        var failure: Int32 = 0
        for host in [address.host, interface].compactMap({ $0 }) {
            for candidate in try resolve(ControlAddress(host: host, port: address.port)) {
                switch bound(to: candidate) {
                case .success(let socket): return (socket, localPort(of: socket))
                case .failure(let error): failure = error.code
                }
            }
            if failure != EADDRNOTAVAIL { break }
        }
        guard failure == EADDRNOTAVAIL else { throw LaunchError(.address, systemText(failure)) }
        throw LaunchError(
            .address,
            "it is no address of this machine; where a service forwards to it, give the interface to listen on"
        )
    }

    /// Connects within `deadline`.
    static func connect(
        to address: ControlAddress, deadline: Deadline
    ) throws(LaunchError) -> Descriptor {
        var failure = "the name has no address"
        for candidate in try resolve(address) {
            switch try connect(to: candidate, deadline: deadline) {
            case .success(let descriptor):
                setNoDelay(descriptor.number)
                return descriptor
            case .failure(let error): failure = systemText(error.code)
            }
        }
        throw LaunchError(.address, failure)
    }

    /// Whether a connection can be made within `deadline`, or is refused by the host itself.
    static func isReachable(_ address: ControlAddress, deadline: Deadline) -> Bool {
        let candidates = (try? resolve(address)) ?? []
        return candidates.contains { [0, ECONNREFUSED].contains(answer(of: $0, deadline)) }
    }

    /// Whether all that can be reached of `address` refuses connections: the host is there, and nobody listens.
    static func isRefused(at address: ControlAddress, deadline: Deadline) -> Bool {
        let candidates = (try? resolve(address)) ?? []
        return !candidates.isEmpty
            && candidates.allSatisfy { answer(of: $0, deadline) == ECONNREFUSED }
    }

    /// Zero where a connection can be made, else why not; nil where this process has no socket for it.
    private static func answer(of candidate: Candidate, _ deadline: Deadline) -> Int32? {
        switch try? connect(to: candidate, deadline: deadline) {
        case .success: 0
        case .failure(let error): error.code
        case nil: nil
        }
    }

    private static func connect(
        to candidate: Candidate, deadline: Deadline
    ) throws(LaunchError) -> Result<Descriptor, Failure> {
        let number = socket(candidate.family, streamType, 0)
        guard number >= 0 else { throw LaunchError(.system, systemText(errno)) }
        let descriptor = Descriptor(number)
        let status = candidate.withAddress { Glibc.connect(number, $0, $1) }
        if status != 0 && errno != EINPROGRESS { return .failure(Failure(code: errno)) }
        var item = pollfd(fd: number, events: Int16(POLLOUT), revents: 0)
        wait(&item, count: 1, until: deadline)
        let code = item.revents == 0 ? ETIMEDOUT : pendingError(of: number)
        return code == 0 ? .success(descriptor) : .failure(Failure(code: code))
    }

    /// The numeric address of this machine from which `address` is reached; nothing is sent.
    ///
    /// Tries until `deadline`: the name of a machine may be known a little after it has started.
    static func localAddress(
        toward address: ControlAddress, deadline: Deadline
    ) throws(LaunchError) -> String {
        // A connected datagram socket has the address of the route; it needs some port.
        let place = ControlAddress(host: address.host, port: max(address.port, 1))
        while true {
            var failure: LaunchError
            do throws(LaunchError) {
                for candidate in try resolve(place) {
                    let number = socket(candidate.family, Int32(SOCK_DGRAM.rawValue), 0)
                    guard number >= 0 else { continue }
                    let descriptor = Descriptor(number)
                    guard candidate.withAddress({ Glibc.connect(number, $0, $1) }) == 0,
                        let host = localHost(of: descriptor)
                    else { continue }
                    return host
                }
                failure = LaunchError(
                    .address, "no interface of this machine leads to rank 0 at \(address)")
            } catch {
                failure = error
            }
            guard !deadline.hasPassed else { throw failure }
            usleep(200_000)
        }
    }

    private static func localHost(of descriptor: Descriptor) -> String? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        let status = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                getsockname(descriptor.number, name, &length) == 0
                    ? getnameinfo(
                        name, length, &host, socklen_t(host.count), nil, 0, NI_NUMERICHOST) : -1
            }
        }
        return status == 0 ? text(host) : nil
    }

    /// Takes one waiting connection; nil when there is none (any more).
    ///
    /// - Throws: when the process has no descriptor left.
    static func accept(from listener: Descriptor) throws(LaunchError) -> (Descriptor, String)? {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let number = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                Glibc.accept(listener.number, $0, &length)
            }
        }
        guard number >= 0 else {
            let code = errno
            if code == EMFILE || code == ENFILE {
                throw LaunchError(
                    .system,
                    "rank 0 needs a file descriptor for each process: \(systemText(code)); "
                        + "raise the limit with ulimit -n")
            }
            return nil
        }
        _ = fcntl(number, F_SETFD, FD_CLOEXEC)
        _ = fcntl(number, F_SETFL, O_NONBLOCK)
        setNoDelay(number)
        return (Descriptor(number), numericName(of: storage, length: length))
    }

    /// Two ends of a connection within this process.
    static func pair() throws(LaunchError) -> (Descriptor, Descriptor) {
        var ends: [Int32] = [0, 0]
        guard socketpair(AF_UNIX, streamType, 0, &ends) == 0 else {
            throw LaunchError(.system, "no socket pair for rank 0: \(systemText(errno))")
        }
        return (Descriptor(ends[0]), Descriptor(ends[1]))
    }

    /// Waits until one of `count` descriptors is ready or `deadline` passed; `revents` tell.
    static func wait(_ items: UnsafeMutablePointer<pollfd>, count: Int, until deadline: Deadline) {
        while true {
            let milliseconds = min((deadline.remainingNanoseconds + 999_999) / 1_000_000, 3_600_000)
            let status = poll(items, nfds_t(count), Int32(milliseconds))
            if status >= 0 || errno != EINTR { return }
        }
    }

    private struct Failure: Error { let code: Int32 }

    private static func bound(to candidate: Candidate) -> Result<Descriptor, Failure> {
        let number = socket(candidate.family, streamType, 0)
        guard number >= 0 else { return .failure(Failure(code: errno)) }
        let descriptor = Descriptor(number)
        var on: Int32 = 1
        setsockopt(number, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
        guard candidate.withAddress({ bind(number, $0, $1) }) == 0,
            Glibc.listen(number, SOMAXCONN) == 0
        else { return .failure(Failure(code: errno)) }
        return .success(descriptor)
    }

    private static func localPort(of descriptor: Descriptor) -> UInt16 {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let status = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getsockname(descriptor.number, $0, &length)
            }
        }
        guard status == 0 else { return 0 }
        // sockaddr_in and sockaddr_in6 both have the port in bytes 2 and 3, big endian.
        return withUnsafeBytes(of: &storage) { UInt16($0[2]) << 8 | UInt16($0[3]) }
    }

    private static func pendingError(of number: Int32) -> Int32 {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        guard getsockopt(number, SOL_SOCKET, SO_ERROR, &code, &length) == 0 else { return errno }
        return code
    }

    private static func setNoDelay(_ number: Int32) {
        var on: Int32 = 1
        setsockopt(
            number, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
    }

    private static func numericName(of storage: sockaddr_storage, length: socklen_t) -> String {
        var storage = storage
        var host = [CChar](repeating: 0, count: Int(NI_MAXHOST))
        var port = [CChar](repeating: 0, count: Int(NI_MAXSERV))
        let status = withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                getnameinfo(
                    $0, length, &host, socklen_t(host.count), &port, socklen_t(port.count),
                    NI_NUMERICHOST | NI_NUMERICSERV)
            }
        }
        guard status == 0 else { return "unknown address" }
        return "\(text(host)):\(text(port))"
    }

    private static func text(_ characters: [CChar]) -> String {
        String(
            decoding: characters.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}

/// One address that a name stands for.
private struct Candidate {
    let family: Int32
    let bytes: [UInt8]

    func withAddress<R>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> R) -> R {
        var storage = sockaddr_storage()
        withUnsafeMutableBytes(of: &storage) { $0.copyBytes(from: bytes) }
        return withUnsafePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                body($0, socklen_t(bytes.count))
            }
        }
    }
}

/// The addresses of a name.
private func resolve(_ address: ControlAddress) throws(LaunchError) -> [Candidate] {
    var hints = addrinfo()
    hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    var list: UnsafeMutablePointer<addrinfo>?
    let status = getaddrinfo(address.host, String(address.port), &hints, &list)
    guard status == 0 else {
        throw LaunchError(
            .address, "the name \(address.host): \(String(cString: gai_strerror(status)))")
    }
    defer { freeaddrinfo(list) }
    var candidates: [Candidate] = []
    var next = list
    while let entry = next {
        let length = Int(entry.pointee.ai_addrlen)
        if let pointer = entry.pointee.ai_addr, length <= MemoryLayout<sockaddr_storage>.size {
            let bytes = Array(UnsafeRawBufferPointer(start: pointer, count: length))
            candidates.append(Candidate(family: entry.pointee.ai_family, bytes: bytes))
        }
        next = entry.pointee.ai_next
    }
    return candidates
}
