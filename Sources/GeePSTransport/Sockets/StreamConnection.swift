import CGeePSShims
import GeePSCore
import Glibc
import Synchronization

/// A connection over a blocking stream socket: TCP, with or without TLS, or Unix-domain.
///
/// A frame leaves by one `sendmsg` of header and payload; under TLS in records of 16 KiB, several to a send. It is received header first; the payload then
/// goes straight into a pooled buffer. A receive that reaches its deadline inside a frame can be repeated
/// and goes on where it stopped. After a failure every receive throws that failure again.
final class StreamConnection: Connection, @unchecked Sendable {
    // Sendable: state is owned by the sending or the receiving thread, of which there is one each.
    let peer: String
    let carrier: Carrier
    /// The congestion control the kernel runs for this socket; empty for a Unix-domain socket.
    let congestionControl: String

    let socket: SocketHandle
    /// Nil where bytes travel as they are.
    private let tls: TLSStream?
    private let checksPayload: Bool
    private let pool = BufferPool()
    private let sent = Atomic<UInt64>(0)
    private let received = Atomic<UInt64>(0)

    // Used by the sending thread only.
    private let outgoingHeader = makeHeaderBuffer()

    // Used by the receiving thread only.
    private let incomingHeader = makeHeaderBuffer()
    private var headerFilled = 0
    private var payloadLimit = Limits.framePayloadBytesMaximum
    private var arriving: (header: FrameHeader, loan: BufferPool.Loan, filled: Int)?
    private var hasGoodbye = false
    private var failure: TransportError?

    /// Takes ownership of the connected socket `descriptor`.
    init(
        descriptor: Int32, carrier: Carrier, peer: String, checksPayload: Bool,
        congestionControl: String = "", tls: TLSStream? = nil
    ) {
        socket = SocketHandle(descriptor)
        self.tls = tls
        self.carrier = carrier
        self.peer = peer
        self.checksPayload = checksPayload
        self.congestionControl = congestionControl
    }

    deinit {
        if let arriving { pool.release(token: arriving.loan.token) }
        outgoingHeader.deallocate()
        incomingHeader.deallocate()
    }

    var bytesSent: UInt64 { sent.load(ordering: .relaxed) }
    var bytesReceived: UInt64 { received.load(ordering: .relaxed) }

    func close() { socket.close() }

    func establish(deadline: Deadline) throws(TransportError) {
        guard let tls else { return }
        guard socket.enter() else { throw .closedHere(peer) }
        defer { socket.leave() }
        do throws(TransportError) {
            try tls.establish(deadline: deadline)
        } catch {
            throw ended(by: error)
        }
    }

    var channelBinding: [UInt8] { tls?.channelBinding ?? [] }

    /// What to throw for `error`: our own close looks like a failure to whoever was in the socket.
    ///
    /// The peer learns of all but a deadline.
    private func ended(by error: TransportError) -> TransportError {
        if socket.isClosed { return .closedHere(peer) }
        if error.code != .deadline { socket.abandon() }
        return error
    }

    // MARK: Sending

    func send(_ header: FrameHeader, payload: UnsafeRawBufferPointer) throws(TransportError) {
        let header = header.sealed(over: payload, checksPayload: checksPayload)
        guard socket.enter() else { throw .closedHere(peer) }
        defer { socket.leave() }
        header.encode(into: outgoingHeader)
        sent.wrappingAdd(UInt64(header.frameBytes), ordering: .relaxed)
        if let tls {
            do throws(TransportError) {
                return try tls.send(UnsafeRawBufferPointer(outgoingHeader), payload)
            } catch {
                throw ended(by: error)
            }
        }
        var done = 0
        while done < header.frameBytes {
            let headerDone = min(done, outgoingHeader.count)
            let payloadDone = done - headerDone
            let count = geeps_socket_send(
                socket.descriptor, outgoingHeader.baseAddress.map { $0 + headerDone },
                outgoingHeader.count - headerDone, payload.baseAddress.map { $0 + payloadDone },
                payload.count - payloadDone, 0, -1)
            if count == -Int64(EINTR) { continue }
            guard count >= 0 else {
                if socket.isClosed { throw .closedHere(peer) }
                socket.abandon()
                throw TransportError(
                    .lost,
                    "send \(header.kind) frame to \(peer): \(systemMessage(Int32(-count))) "
                        + "after \(done) of \(header.frameBytes) bytes")
            }
            done += Int(count)
        }
    }

    // MARK: Receiving

    func limitPayload(to bytes: Int) { payloadLimit = bytes }

    func receive(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        guard socket.enter() else { throw .closedHere(peer) }
        defer { socket.leave() }
        if let failure { throw failure }
        if hasGoodbye { throw .closedThere(peer) }
        do {
            try tls?.establish(deadline: deadline)
            return try receiveFrame(deadline: deadline)
        } catch {
            if socket.isClosed { throw .closedHere(peer) }
            if error.code != .deadline {
                failure = error
                socket.abandon()
            }
            throw error
        }
    }

    private func receiveFrame(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        let header = try receiveHeader(deadline: deadline)
        guard header.payloadBytes > 0 else {
            finish(header)
            let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
            try header.verify(nothing, from: peer)
            return ReceivedFrame(header: header, payload: nothing, owner: nil)
        }
        let loan = arriving?.loan ?? pool.take(Int(header.payloadBytes))
        var filled = arriving?.filled ?? 0
        arriving = (header, loan, filled)
        defer { if arriving != nil { arriving?.filled = filled } }
        try fill(loan.bytes, filled: &filled, before: Limits.frameHeaderBytes, header, deadline)
        arriving = nil
        finish(header)
        let frame = ReceivedFrame(
            header: header, payload: UnsafeRawBufferPointer(loan.bytes), owner: pool,
            token: loan.token)
        try header.verify(frame.payload, from: peer)
        return frame
    }

    /// The header of the frame whose payload is next: just received, or by an earlier call.
    private func receiveHeader(deadline: Deadline?) throws(TransportError) -> FrameHeader {
        if let arriving { return arriving.header }
        try fill(incomingHeader, filled: &headerFilled, before: 0, nil, deadline)
        let header = try FrameHeader.decode(UnsafeRawBufferPointer(incomingHeader), from: peer)
        try header.check(limit: payloadLimit, from: peer)
        headerFilled = 0
        return header
    }

    private func finish(_ header: FrameHeader) {
        received.wrappingAdd(UInt64(header.frameBytes), ordering: .relaxed)
        hasGoodbye = header.kind == .goodbye
    }

    /// Receives until `target` is full; `before` bytes of the frame came earlier.
    private func fill(
        _ target: UnsafeMutableRawBufferPointer, filled: inout Int, before: Int,
        _ header: FrameHeader?, _ deadline: Deadline?
    ) throws(TransportError) {
        while filled < target.count {
            let count = try receiveSome(
                UnsafeMutableRawBufferPointer(rebasing: target[filled...]), waits: deadline == nil)
            if count > 0 {
                filled += count
                continue
            }
            if count == 0 { throw ended(after: before + filled, header) }
            let number = Int32(-count)
            if number == EINTR { continue }
            guard number == EAGAIN, let deadline else {
                throw TransportError(.lost, "receive from \(peer): \(systemMessage(number))")
            }
            guard waitReadable(until: deadline) else {
                throw .receiveDeadline(peer, after: before + filled)
            }
        }
    }

    /// - Returns: bytes, 0 at the end of the stream, or -errno.
    private func receiveSome(
        _ target: UnsafeMutableRawBufferPointer, waits: Bool
    ) throws(TransportError) -> Int {
        if let tls { return try tls.receive(target, waits: waits) }
        let count = recv(
            socket.descriptor, target.baseAddress, target.count,
            waits ? Int32(MSG_WAITALL) : Int32(MSG_DONTWAIT))
        return count >= 0 ? count : -Int(errno)
    }

    private func ended(after bytes: Int, _ header: FrameHeader?) -> TransportError {
        bytes == 0
            ? .endedWithoutGoodbye(peer)
            : .endedInsideFrame(
                peer, after: bytes, of: header?.frameBytes ?? Limits.frameHeaderBytes)
    }

    /// - Returns: false when the deadline passed.
    private func waitReadable(until deadline: Deadline) -> Bool {
        waitForEvents(Int16(POLLIN), on: socket.descriptor, until: deadline)
    }
}

/// Waits until `descriptor` reports one of `events`, an error or a hang-up.
///
/// - Returns: false when the deadline passed; true may be wrong after a signal.
func waitForEvents(_ events: Int16, on descriptor: Int32, until deadline: Deadline) -> Bool {
    guard !deadline.hasPassed else { return false }
    var entry = pollfd(fd: descriptor, events: events, revents: 0)
    return poll(&entry, 1, pollMilliseconds(until: deadline)) != 0 || !deadline.hasPassed
}

/// The timeout of `poll` for a deadline, rounded up so that it does not end just before.
func pollMilliseconds(until deadline: Deadline?) -> Int32 {
    guard let deadline else { return -1 }
    return Int32(clamping: (deadline.remainingNanoseconds + 999_999) / 1_000_000)
}

/// Room for one header, aligned.
func makeHeaderBuffer() -> UnsafeMutableRawBufferPointer {
    .allocate(byteCount: Limits.frameHeaderBytes, alignment: Limits.frameHeaderBytes)
}
