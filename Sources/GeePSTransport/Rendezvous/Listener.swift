import CGeePSShims
public import GeePSCore
import Glibc
import Synchronization

/// Where a process is reached: a TCP port, and beside it a Unix-domain socket for peers of the same host,
/// who get shared memory or a Unix-domain stream through it.
///
/// One thread accepts; `close` may come from any thread. Local callers that say nothing or nonsense do
/// not hold up others; TCP callers are checked by the first `receive` on their connection.
public final class Listener: @unchecked Sendable {
    // Sendable: `pending` is the accepting thread's; the rest is constant or safe by itself.

    /// What others need to dial this listener.
    public let endpoint: Endpoint

    private static let backlog: Int32 = 512
    private static let callerPatience = Duration.seconds(5)
    private static let pendingMaximum = 64

    private let tcp: SocketHandle
    private let local: SocketHandle?
    private let wakeUp: Int32
    let options: TransportOptions
    // Used by the accepting thread only.
    private var pending: [PendingCaller] = []

    /// Listens.
    ///
    /// - Parameters:
    ///   - address: the interface: IPv4, IPv6 or a name; "0.0.0.0" and "::" mean all.
    ///   - port: 0 lets the kernel choose.
    ///   - advertisedHost: what others dial; by default the numeric address, or this machine's host name
    ///     when listening on all interfaces.
    /// - Throws: `.unreachable` when the address cannot be had.
    public init(
        address: String = "127.0.0.1", port: UInt16 = 0, advertisedHost: String? = nil,
        options: TransportOptions = .init()
    ) throws(TransportError) {
        let tcpDescriptor = try bindTCP(address: address, port: port)
        let bound = SocketAddress.local(of: tcpDescriptor)?.numeric ?? (address, port)
        tcp = SocketHandle(tcpDescriptor)
        // The local socket listens before the TCP port does, so that whoever reaches the port finds it.
        let localSocket = listenLocally(port: bound.port)
        local = localSocket.map { SocketHandle($0.descriptor) }
        self.options = options
        endpoint = Endpoint(
            host: advertisedHost ?? defaultHost(boundTo: bound.host), port: bound.port,
            hostIdentity: HostIdentity.current, localName: localSocket?.name ?? "",
            hasRDMA: options.tls == nil && UCXDevices.isOfUse)
        wakeUp = geeps_event_create()
        guard wakeUp >= 0 else { throw .system("make an event descriptor", errno: -wakeUp) }
        guard listen(tcpDescriptor, Self.backlog) == 0 else {
            let number = errno
            Glibc.close(wakeUp)
            throw TransportError(
                .unreachable, "cannot listen on \(endpoint): \(systemMessage(number))")
        }
    }

    deinit {
        for caller in pending { caller.drop() }
        Glibc.close(wakeUp)
    }

    /// Ends listening; an `accept` in progress throws `.closed`.
    ///
    /// Idempotent.
    public func close() {
        tcp.close()
        local?.close()
        var one: UInt64 = 1
        _ = write(wakeUp, &one, 8)
    }

    /// Waits for the next connection.
    ///
    /// - Throws: `.deadline`, `.closed` after `close`, or `.system` when descriptors have run out.
    public func accept(deadline: Deadline?) throws(TransportError) -> any Connection {
        guard tcp.enter() else { throw closedError }
        defer { tcp.leave() }
        let hasLocal = local?.enter() ?? false
        defer { if hasLocal { local?.leave() } }
        while true {
            if tcp.isClosed { throw closedError }
            dropSilentCallers()
            if let ready = try takeReady(hasLocal: hasLocal) { return ready }
            if let deadline, deadline.hasPassed {
                throw TransportError(
                    .deadline, "accept on \(endpoint): nobody called before the deadline")
            }
            waitForNews(deadline: deadline, hasLocal: hasLocal)
        }
    }

    private var closedError: TransportError {
        TransportError(.closed, "accept on \(endpoint): the listener is closed")
    }

    // MARK: Callers

    private func waitForNews(deadline: Deadline?, hasLocal: Bool) {
        var entries = [
            pollfd(fd: wakeUp, events: Int16(POLLIN), revents: 0),
            pollfd(fd: tcp.descriptor, events: Int16(POLLIN), revents: 0),
        ]
        if hasLocal, let local {
            entries.append(pollfd(fd: local.descriptor, events: Int16(POLLIN), revents: 0))
        }
        var until = deadline
        for caller in pending {
            entries.append(pollfd(fd: caller.descriptor, events: Int16(POLLIN), revents: 0))
            until = min(until ?? caller.givenUpAt, caller.givenUpAt)
        }
        _ = poll(&entries, nfds_t(entries.count), pollMilliseconds(until: until))
    }

    /// A connection that is there already, without waiting; local callers first.
    private func takeReady(hasLocal: Bool) throws(TransportError) -> (any Connection)? {
        if hasLocal, let local {
            while let descriptor = try acceptDescriptor(local) {
                if pending.count == Self.pendingMaximum { pending.removeFirst().drop() }
                pending.append(PendingCaller(descriptor: descriptor, patience: Self.callerPatience))
            }
        }
        for index in pending.indices {
            switch pending[index].read() {
            case .incomplete: continue
            case .gone:
                pending.remove(at: index).drop()
                return try takeReady(hasLocal: hasLocal)
            case .complete(let request, let memory):
                let caller = pending.remove(at: index)
                defer { if memory >= 0 { Glibc.close(memory) } }
                if let connection = admit(caller, request, memory: memory) { return connection }
                return try takeReady(hasLocal: hasLocal)
            }
        }
        guard let descriptor = try acceptDescriptor(tcp) else { return nil }
        return makeTCPConnection(descriptor, name: "", side: .listener, options: options)
    }

    /// Accepts without waiting; nil when nobody is there.
    private func acceptDescriptor(_ listening: SocketHandle) throws(TransportError) -> Int32? {
        while true {
            let descriptor = geeps_socket_accept(listening.descriptor)
            if descriptor >= 0 { return descriptor }
            switch -descriptor {
            case EINTR, ECONNABORTED, EPROTO: continue
            case EAGAIN: return nil
            default:
                if tcp.isClosed { throw closedError }
                throw .system("accept on \(endpoint)", errno: -descriptor)
            }
        }
    }

    private func dropSilentCallers() {
        pending.removeAll { caller in
            guard caller.givenUpAt.hasPassed else { return false }
            caller.drop()
            return true
        }
    }

    /// Answers a local caller; nil when it is turned away.
    private func admit(
        _ caller: PendingCaller, _ request: LocalSocket.Request?, memory: Int32
    ) -> (any Connection)? {
        let descriptor = caller.descriptor
        func refuse(_ answer: LocalSocket.Answer, errno number: Int32 = 0) -> (any Connection)? {
            sendMessage(LocalSocket.encode(answer, errno: number), on: descriptor)
            caller.drop()
            return nil
        }
        guard LocalSocket.peerIsTrusted(descriptor) else { return refuse(.notPermitted) }
        switch request {
        case nil: return refuse(.malformed)
        case .stream:
            guard sendMessage(LocalSocket.encode(.accepted), on: descriptor) else {
                caller.drop()
                return nil
            }
            return makeUnixConnection(descriptor, peer: localPeer("unix-socket"), options: options)
        case .sharedMemory(let ringBytes):
            guard memory >= 0, let layout = RingLayout(capacity: ringBytes) else {
                return refuse(.memoryRefused, errno: EINVAL)
            }
            let mapping: RingMapping
            do throws(TransportError) {
                mapping = try RingMapping(descriptor: memory, layout: layout)
            } catch {
                return refuse(.memoryRefused, errno: ENOMEM)
            }
            guard sendMessage(LocalSocket.encode(.accepted), on: descriptor) else {
                caller.drop()
                return nil
            }
            return SharedMemoryConnection(
                mapping: mapping, descriptor: descriptor, isDialler: false,
                peer: localPeer("shared-memory"), checksPayload: options.checksPayload)
        }
    }

    private func localPeer(_ carrier: String) -> String {
        "a process of this host that called \(endpoint.localName) (\(carrier))"
    }
}

// MARK: Sockets

/// Sends a short message whole; a new stream socket always has room for it.
@discardableResult
func sendMessage(_ message: [UInt8], on descriptor: Int32, passing passed: Int32 = -1) -> Bool {
    geeps_socket_send(
        descriptor, message, message.count, nil, 0, Int32(MSG_DONTWAIT), passed)
        == Int64(message.count)
}

func makeTCPConnection(
    _ descriptor: Int32, name: String, side: TLSSession.Side, options: TransportOptions
) -> StreamConnection {
    let congestionControl = tuneTCP(
        descriptor, isLoopback: isLoopback(descriptor), options: options)
    let address = SocketAddress.remote(of: descriptor)?.text ?? "an address unknown"
    let carrier = options.tls == nil ? Carrier.tcp : .tls
    let peer = describePeer(name, "\(address), \(carrier.rawValue)")
    let tls = options.tls.map {
        TLSStream($0, side: side, descriptor: descriptor, peer: peer)
    }
    return StreamConnection(
        descriptor: descriptor, carrier: carrier, peer: peer,
        checksPayload: options.checksPayload, congestionControl: congestionControl, tls: tls)
}

func makeUnixConnection(
    _ descriptor: Int32, peer: String, options: TransportOptions
) -> StreamConnection {
    setSocketBuffers(descriptor, bytes: options.localSocketBufferBytes)
    return StreamConnection(
        descriptor: descriptor, carrier: .unixSocket, peer: peer,
        checksPayload: options.checksPayload)
}

/// "keeper 2 (10.0.0.7:9090, tcp)", or without a name what is in the brackets.
func describePeer(_ name: String, _ way: String) -> String {
    name.isEmpty ? way : "\(name) (\(way))"
}

/// A bound TCP socket that does not listen yet.
private func bindTCP(address: String, port: UInt16) throws(TransportError) -> Int32 {
    var reason = "no address"
    for candidate in try SocketAddress.resolve(address, port: port, toListen: true) {
        let descriptor = socket(
            candidate.family, streamSocketType | Int32(SOCK_NONBLOCK.rawValue), 0)
        guard descriptor >= 0 else {
            reason = systemMessage(errno)
            continue
        }
        setSocketOption(descriptor, SOL_SOCKET, SO_REUSEADDR, 1)
        if candidate.withAddress({ bind(descriptor, $0, $1) }) == 0 { return descriptor }
        reason = systemMessage(errno)
        close(descriptor)
    }
    throw TransportError(
        .unreachable, "cannot listen on \(formatAddress(host: address, port: port)): \(reason)")
}

/// Listens on the abstract socket of `port`; nil where that is not to be had, then TCP has to do.
private func listenLocally(port: UInt16) -> (descriptor: Int32, name: String)? {
    let descriptor = socket(AF_UNIX, streamSocketType | Int32(SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    // Another interface of this host may have a listener on the same port.
    for name in ["geeps-tcp-\(port)", "geeps-tcp-\(port)-process-\(getpid())"] {
        let address = SocketAddress(abstract: name)
        guard address.withAddress({ bind(descriptor, $0, $1) }) == 0 else { continue }
        guard listen(descriptor, 512) == 0 else { break }
        return (descriptor, name)
    }
    close(descriptor)
    return nil
}

private func defaultHost(boundTo address: String) -> String {
    guard address == "0.0.0.0" || address == "::" else { return address }
    var name = [UInt8](repeating: 0, count: 256)
    let status = name.withUnsafeMutableBytes { bytes in
        bytes.withMemoryRebound(to: CChar.self) { text in
            text.baseAddress.map { gethostname($0, text.count - 1) } ?? -1
        }
    }
    return status == 0 ? String(decoding: name.prefix { $0 != 0 }, as: UTF8.self) : address
}
