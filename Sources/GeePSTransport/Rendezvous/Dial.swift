import CGeePSShims
public import GeePSCore
import Glibc

/// By which way to reach an endpoint.
public enum CarrierChoice: Hashable, Sendable {
    /// The best there is: on the same host shared memory, else a Unix-domain socket; between hosts UCX where both have an
    /// RDMA device and nothing is encrypted; else TCP, with TLS where the options have it.
    case auto
    /// This one or none.
    case fixed(Carrier)
}

/// Connects to a listener; keeps trying until `deadline`, since processes start in any order.
///
/// The local carriers need the listener to be in `accept`; a TCP connection is made as soon as it listens.
///
/// - Throws: `.unreachable` when nobody answered in time, naming address, last answer and time taken;
///   `.refused` when the fixed carrier is refused for good.
public func dial(
    _ endpoint: Endpoint, carrier: CarrierChoice = .auto, options: TransportOptions = .init(),
    deadline: Deadline
) throws(TransportError) -> any Connection {
    let started = monotonicNanoseconds()
    var ways = carriers(of: carrier, to: endpoint, hasTLS: options.tls != nil)
    guard !ways.contains(.tls) || options.tls != nil else {
        throw TransportError(
            .certificate, "a connection to \(endpoint) by tls needs a certificate, found none")
    }
    if ways == [.ucx] { try checkUCX(options) }
    guard !ways.isEmpty else {
        throw TransportError(
            .unreachable,
            "in-process connections are made as a pair, \(endpoint) cannot be dialled by one")
    }
    var attempts = 0
    var pause: UInt64 = 2_000_000
    while true {
        attempts += 1
        let failure = attempt(endpoint, ways[0], options, deadline)
        switch failure {
        case .connected(let connection): return connection
        case .never(let reason):
            // This way is barred for good; the next one may be open.
            if ways.count > 1 {
                ways.removeFirst()
                continue
            }
            throw TransportError(
                .refused,
                "\(describePeer(options.peerName, "\(endpoint)")) refused "
                    + "\(ways[0].rawValue): \(reason)")
        case .notYet(let reason):
            guard deadline.remainingNanoseconds > pause else {
                let seconds = Double(monotonicNanoseconds() - started) / 1e9
                throw TransportError(
                    .unreachable,
                    "cannot connect to \(describePeer(options.peerName, "\(endpoint)")) by "
                        + "\(ways[0].rawValue): \(reason); tried \(attempts) times over "
                        + "\(tenths(seconds)) s; is that process running and its port open?")
            }
            usleep(UInt32(pause / 1000))
            pause = min(pause * 2, 200_000_000)
        }
    }
}

private func tenths(_ seconds: Double) -> String { "\((seconds * 10).rounded() / 10)" }

/// Refuses before anybody is called what cannot work.
private func checkUCX(_ options: TransportOptions) throws(TransportError) {
    guard options.tls == nil else {
        throw TransportError(
            .certificate,
            "transport ucx sends rows as they are, found a certificate that says to encrypt them: take transport tcp, or "
                + "leave TLS out")
    }
    _ = try UCXLibrary.load(transports: options.ucxTransports)
}

/// The ways to try, best first.
///
/// With a certificate there is no TCP without TLS, and no UCX.
func carriers(
    of choice: CarrierChoice, to endpoint: Endpoint, hasTLS: Bool,
    hasRDMA: @autoclosure () -> Bool = UCXDevices.isOfUse
) -> [Carrier] {
    let network = hasTLS ? Carrier.tls : .tcp
    let fabric: [Carrier] = !hasTLS && endpoint.hasRDMA && hasRDMA() ? [.ucx] : []
    switch choice {
    case .fixed(.inProcess): return []
    case .fixed(.tcp): return [network]
    case .fixed(let carrier): return [carrier]
    case .auto:
        return endpoint.isOnThisHost ? [.sharedMemory, .unixSocket, network] : fabric + [network]
    }
}

private enum Attempt {
    case connected(any Connection)
    /// Worth trying again.
    case notYet(String)
    /// Not by this way.
    case never(String)
}

private func attempt(
    _ endpoint: Endpoint, _ carrier: Carrier, _ options: TransportOptions, _ deadline: Deadline
) -> Attempt {
    switch carrier {
    case .inProcess: .never("it is not dialled")
    case .tcp, .tls: attemptTCP(endpoint, options, deadline)
    case .ucx: attemptUCX(endpoint, options, deadline)
    case .unixSocket: attemptLocal(endpoint, .stream, options, deadline)
    case .sharedMemory:
        attemptLocal(endpoint, .sharedMemory(ringBytes: options.ringBytes), options, deadline)
    }
}

// MARK: TCP

private func attemptTCP(
    _ endpoint: Endpoint, _ options: TransportOptions, _ deadline: Deadline
) -> Attempt {
    let addresses: [SocketAddress]
    do throws(TransportError) {
        addresses = try SocketAddress.resolve(endpoint.host, port: endpoint.port)
    } catch {
        return .notYet(error.message)
    }
    var reason = "no address"
    for address in addresses {
        switch connectSocket(to: address, deadline: deadline) {
        case .success(let descriptor):
            if isConnectedToItself(descriptor) {
                close(descriptor)
                reason = systemMessage(ECONNREFUSED)
                continue
            }
            return .connected(
                makeTCPConnection(
                    descriptor, name: options.peerName, side: .caller, options: options))
        case .failure(let number): reason = systemMessage(number.value)
        }
    }
    return .notYet(reason)
}

private func attemptUCX(
    _ endpoint: Endpoint, _ options: TransportOptions, _ deadline: Deadline
) -> Attempt {
    let attempt = attemptTCP(endpoint, options, deadline)
    guard case .connected(let connection) = attempt else { return attempt }
    do throws(TransportError) {
        return .connected(try UCXConnection(over: connection, options: options))
    } catch {
        connection.close()
        return .never(error.message)
    }
}

/// While nobody listens on a port of the ephemeral range, loopback may connect a caller to itself.
private func isConnectedToItself(_ descriptor: Int32) -> Bool {
    guard let local = SocketAddress.local(of: descriptor)?.numeric,
        let remote = SocketAddress.remote(of: descriptor)?.numeric
    else { return false }
    return local == remote
}

private struct Errno: Error { var value: Int32 }

/// A connected, blocking socket.
private func connectSocket(
    to address: SocketAddress, deadline: Deadline
) -> Result<Int32, Errno> {
    let descriptor = socket(
        address.family, streamSocketType | Int32(SOCK_NONBLOCK.rawValue), 0)
    guard descriptor >= 0 else { return .failure(Errno(value: errno)) }
    var number: Int32 = 0
    if address.withAddress({ connect(descriptor, $0, $1) }) != 0 {
        number = errno
        if number == EINPROGRESS || number == EINTR {
            number = outcome(of: descriptor, deadline: deadline)
        }
    }
    guard number == 0 else {
        close(descriptor)
        return .failure(Errno(value: number))
    }
    let flags = geeps_socket_set_blocking(descriptor)
    precondition(flags == 0, "cannot make a socket blocking: \(systemMessage(-flags))")
    return .success(descriptor)
}

/// Waits for a connect in progress.
private func outcome(of descriptor: Int32, deadline: Deadline) -> Int32 {
    var entry = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
    while poll(&entry, 1, pollMilliseconds(until: deadline)) <= 0 {
        if deadline.hasPassed { return ETIMEDOUT }
    }
    var number: Int32 = 0
    var length = socklen_t(MemoryLayout<Int32>.size)
    guard getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &number, &length) == 0 else { return errno }
    return number
}

// MARK: The same host

private func attemptLocal(
    _ endpoint: Endpoint, _ request: LocalSocket.Request, _ options: TransportOptions,
    _ deadline: Deadline
) -> Attempt {
    guard !endpoint.localName.isEmpty else { return .never("it has no local socket") }
    let descriptor: Int32
    switch connectSocket(to: SocketAddress(abstract: endpoint.localName), deadline: deadline) {
    case .success(let connected): descriptor = connected
    case .failure(let number):
        let reason = systemMessage(number.value)
        let mayPass = [ECONNREFUSED, EAGAIN, ETIMEDOUT, EINTR].contains(number.value)
        return mayPass ? .notYet(reason) : .never(reason)
    }
    let result = negotiate(descriptor, endpoint, request, options, deadline)
    if case .connected = result { return result }
    close(descriptor)
    return result
}

/// On success the connection owns `descriptor`, otherwise the caller.
private func negotiate(
    _ descriptor: Int32, _ endpoint: Endpoint, _ request: LocalSocket.Request,
    _ options: TransportOptions, _ deadline: Deadline
) -> Attempt {
    switch request {
    case .stream:
        if let failure = ask(descriptor, request, memory: -1, deadline) { return failure }
        let peer = describePeer(options.peerName, "\(endpoint), unix-socket")
        return .connected(makeUnixConnection(descriptor, peer: peer, options: options))
    case .sharedMemory(let ringBytes):
        guard let layout = RingLayout(capacity: ringBytes) else {
            return .never("a ring cannot have \(ringBytes) bytes")
        }
        let memory = RingMapping.makeFile(bytes: layout.fileBytes)
        guard memory >= 0 else { return .never(systemMessage(-memory)) }
        defer { close(memory) }
        let mapping: RingMapping
        do throws(TransportError) {
            mapping = try RingMapping(descriptor: memory, layout: layout)
        } catch {
            return .never(error.message)
        }
        if let failure = ask(descriptor, request, memory: memory, deadline) { return failure }
        return .connected(
            SharedMemoryConnection(
                mapping: mapping, descriptor: descriptor, isDialler: true,
                peer: describePeer(options.peerName, "\(endpoint), shared-memory"),
                checksPayload: options.checksPayload))
    }
}

/// Sends the request and waits for the answer; nil when it is yes.
private func ask(
    _ descriptor: Int32, _ request: LocalSocket.Request, memory: Int32, _ deadline: Deadline
) -> Attempt? {
    guard LocalSocket.peerIsTrusted(descriptor) else {
        return .never("the process that listens there runs as another user")
    }
    guard sendMessage(LocalSocket.encode(request), on: descriptor, passing: memory) else {
        return .notYet(systemMessage(errno))
    }
    var answer: [UInt8] = []
    while answer.count < LocalSocket.messageBytes {
        guard waitForEvents(Int16(POLLIN), on: descriptor, until: deadline) else {
            return .notYet("it listens but does not accept")
        }
        var buffer = [UInt8](repeating: 0, count: LocalSocket.messageBytes - answer.count)
        let count = recv(descriptor, &buffer, buffer.count, Int32(MSG_DONTWAIT))
        if count < 0 && (errno == EINTR || errno == EAGAIN) { continue }
        guard count > 0 else { return .notYet("it hung up before it answered") }
        answer += buffer[..<count]
    }
    switch LocalSocket.decodeAnswer(answer) {
    case (.accepted, _)?: return nil
    case (.memoryRefused, let number)?:
        return .never("the other side cannot use the memory: \(systemMessage(number))")
    case (.notPermitted, _)?: return .never("the other side runs as another user")
    case (.malformed, _)?, nil: return .never("the other side runs another version")
    }
}
