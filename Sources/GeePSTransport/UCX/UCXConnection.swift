public import GeePSCore
import Glibc
import Synchronization

/// A lane over UCX: the handshake goes over a TCP connection, which then stays open and says only that the other side
/// is there; frames travel as UCX's messages, by RDMA where there is a device for it.
///
/// A payload of up to 8 KiB goes with its header; a larger one is announced, and fetched by the other side straight from
/// the caller's memory into a pooled buffer. Who sends waits for that, so the payload is the caller's again afterwards.
/// UCX does nothing by itself: it works while a thread is in `send` or `receive`, for both.
public final class UCXConnection: Connection, @unchecked Sendable {
    // Sendable: state is owned by the sending or the receiving thread, of which there is one each; the engine has locks.

    /// Who is at the other end.
    public let peer: String
    /// UCX, also during the handshake.
    public let carrier = Carrier.ucx

    let stream: StreamConnection
    let engine: UCXEngine
    let library: UCXLibrary
    private let checksPayload: Bool
    private let sent = Atomic<UInt64>(0)
    private let received = Atomic<UInt64>(0)
    /// Set by `finishConnecting`, before the connection has two threads.
    private var isConnected = false

    private static let flushPatience = Duration.milliseconds(500)

    // Used by the sending thread only.
    private let outgoing = UnsafeMutableRawBufferPointer.allocate(
        byteCount: Limits.frameHeaderBytes + UCXInbox.tokenBytes,
        alignment: Limits.frameHeaderBytes)
    private var smallSent: UInt64 = 0
    private var sendFailure: TransportError?
    private var unfinishedFlush: UCXWorker.Request?

    // Used by the receiving thread only.
    private var hasGoodbye = false
    private var receiveFailure: TransportError?

    // Guarded by the engine's lock.
    private let credit = UnsafeMutableRawBufferPointer.allocate(
        byteCount: UCXInbox.creditBytes, alignment: 8)
    private var creditRequest: UCXWorker.Request?
    private var creditGiven: UInt64 = 0

    /// A lane that will go over UCX once `connect` has agreed with the other side on how.
    ///
    /// - Throws: `.system` where UCX is not to be had, `.refused` for a connection that may not be left.
    public init(over connection: any Connection, options: TransportOptions) throws(TransportError) {
        guard let stream = connection as? StreamConnection, stream.carrier == .tcp else {
            throw TransportError(
                .refused,
                "transport ucx needs a TCP connection without TLS for its handshake, found \(connection.carrier.rawValue): "
                    + "UCX sends rows as they are; where they must be encrypted take transport tcp")
        }
        self.stream = stream
        checksPayload = options.checksPayload
        peer = stream.peer.replacing(", tcp", with: ", ucx")
        (library, engine) = try Self.makeEngine(options.ucxTransports, stream.socket, peer)
    }

    /// Tries again with the network devices that there are now where one that UCX knew has gone.
    private static func makeEngine(
        _ transports: String?, _ socket: SocketHandle, _ peer: String
    ) throws(TransportError) -> (UCXLibrary, UCXEngine) {
        let known = try UCXLibrary.load(transports: transports)
        do throws(TransportError) {
            return (known, try UCXEngine(known, socket: socket, peer: peer))
        } catch {
            let fresh = try UCXLibrary.reload(known, transports: transports)
            return (fresh, try UCXEngine(fresh, socket: socket, peer: peer))
        }
    }

    deinit {
        // First, since UCX may still read the header of a message that never left.
        engine.shutDown()
        for request in [creditRequest, unfinishedFlush] {
            if let request { _ = engine.worker.outcome(ofPending: request) }
        }
        outgoing.deallocate()
        credit.deallocate()
    }

    /// Bytes of headers and payloads handed to `send`, the lane's handshake included.
    public var bytesSent: UInt64 { sent.load(ordering: .relaxed) }
    /// Bytes of headers and payloads received, the lane's handshake included.
    public var bytesReceived: UInt64 { received.load(ordering: .relaxed) }

    /// Ends the connection; the TCP connection's end wakes our threads, and tells the other side.
    public func close() { stream.close() }

    /// What each side puts beside its messages, and the other expects.
    func finishConnecting(ours: [UInt8]) {
        outgoing[Limits.frameHeaderBytes...].copyBytes(from: ours)
        credit[8...].copyBytes(from: ours)
        isConnected = true
    }

    // MARK: Sending

    /// Sends one frame; returns when the payload is the caller's again.
    public func send(_ header: FrameHeader, payload: UnsafeRawBufferPointer) throws(TransportError)
    {
        guard isConnected else {
            sent.wrappingAdd(
                UInt64(Limits.frameHeaderBytes + payload.count), ordering: .relaxed)
            return try stream.send(header, payload: payload)
        }
        let header = header.sealed(over: payload, checksPayload: checksPayload)
        guard stream.socket.enter() else { throw .closedHere(peer) }
        defer { stream.socket.leave() }
        if let sendFailure { throw sendFailure }
        sent.wrappingAdd(UInt64(header.frameBytes), ordering: .relaxed)
        header.encode(into: outgoing)
        do throws(TransportError) {
            if payload.count <= UCXInbox.smallBytesMaximum {
                try sendSmall(payload)
                if header.kind == .goodbye { flush() }
            } else {
                try finish(
                    engine.withLock {
                        engine.worker.send(
                            .frame, header: UnsafeRawBufferPointer(outgoing), payload: payload,
                            waits: true)
                    })
            }
        } catch {
            if stream.socket.isClosed { throw .closedHere(peer) }
            sendFailure = error
            stream.socket.abandon()
            throw error
        }
    }

    /// Waits while the receiver is behind, then sends with the header.
    ///
    /// UCX has the payload then. What it could not give to the network at once leaves while one of our threads is here:
    /// a lane's receiver always is.
    private func sendSmall(_ payload: UnsafeRawBufferPointer) throws(TransportError) {
        try waitToSend {
            // A credit for what was never sent is good for what was.
            smallSent - min(smallSent, engine.inbox.creditOfPeer ?? 0) < UCXInbox.smallFramesMaximum
        }
        smallSent += 1
        try finish(
            engine.withLock {
                engine.worker.send(
                    .frame, header: UnsafeRawBufferPointer(outgoing), payload: payload,
                    waits: false)
            })
    }

    /// Has the last frame leave before the connection is closed; not for long, since the other side may be in no call
    /// that takes it.
    private func flush() {
        var begun = engine.withLock { engine.worker.flush() }
        let isInTime = try? engine.wait(.sender, until: .after(Self.flushPatience)) {
            () throws(TransportError) in engine.worker.isOver(&begun)
        }
        guard isInTime != true, case .pending(let request) = begun else { return }
        unfinishedFlush = request
    }

    /// Waits until what was begun is done; when the lane ends before, until UCX has let go of the payload.
    private func finish(_ begun: UCXWorker.Outcome) throws(TransportError) {
        var now = begun
        if case .pending(let request) = begun {
            do throws(TransportError) {
                try waitToSend { engine.worker.isOver(&now) }
            } catch {
                engine.shutDown()
                engine.withLock { _ = engine.worker.outcome(ofPending: request) }
                throw error
            }
        }
        guard case .failed(let status) = now else { return }
        throw TransportError(
            .lost, "send to \(peer): \(engine.withLock { engine.worker.describe(status) })")
    }

    private func waitToSend(_ isDone: () -> Bool) throws(TransportError) {
        let isInTime = try engine.wait(.sender, until: nil) { () throws(TransportError) in isDone()
        }
        precondition(isInTime, "a wait without deadline ended at one")
    }

    // MARK: Receiving

    /// From now on a frame of more than `bytes` of payload is malformed.
    public func limitPayload(to bytes: Int) {
        stream.limitPayload(to: bytes)
        engine.withLock { engine.inbox.payloadLimit = bytes }
    }

    /// Waits for the next frame.
    public func receive(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        guard isConnected else {
            let frame = try stream.receive(deadline: deadline)
            received.wrappingAdd(UInt64(frame.header.frameBytes), ordering: .relaxed)
            return frame
        }
        guard stream.socket.enter() else { throw .closedHere(peer) }
        defer { stream.socket.leave() }
        if let receiveFailure { throw receiveFailure }
        if hasGoodbye { throw .closedThere(peer) }
        do {
            return try receiveFrame(deadline: deadline)
        } catch {
            if stream.socket.isClosed { throw .closedHere(peer) }
            if error.code == .deadline { throw error }
            receiveFailure = error
            stream.socket.abandon()
            throw error
        }
    }

    private func receiveFrame(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        var arrival: UCXInbox.Arrival?
        _ = try engine.wait(.receiver, until: deadline) { () throws(TransportError) in
            try giveCredit()
            guard engine.inbox.hasFrame else { return false }
            arrival = engine.inbox.take()
            engine.inbox.advance(engine.worker)
            return true
        }
        guard let arrival else {
            let header = engine.withLock { engine.inbox.unfinished }
            throw .receiveDeadline(peer, after: header == nil ? 0 : Limits.frameHeaderBytes)
        }
        let header = arrival.header
        received.wrappingAdd(UInt64(header.frameBytes), ordering: .relaxed)
        hasGoodbye = header.kind == .goodbye
        let payload = arrival.loan.map { UnsafeRawBufferPointer($0.bytes) }
        let frame = ReceivedFrame(
            header: header, payload: payload ?? UnsafeRawBufferPointer(start: nil, count: 0),
            owner: arrival.loan == nil ? nil : engine.inbox.pool, token: arrival.loan?.token ?? 0)
        try header.verify(frame.payload, from: peer)
        return frame
    }

    /// Tells the other side how many of its small frames were taken, before it must wait for that; with the lock held.
    ///
    /// One such message is on its way at a time.
    private func giveCredit() throws(TransportError) {
        if let request = creditRequest {
            guard !engine.worker.isPending(request) else { return }
            creditRequest = nil
            try check(engine.worker.outcome(ofPending: request))
        }
        guard engine.inbox.smallTaken - creditGiven >= UCXInbox.smallFramesMaximum / 2 else {
            return
        }
        try sendCredit()
    }

    /// With the lock held.
    func sendCredit() throws(TransportError) {
        creditGiven = engine.inbox.smallTaken
        credit.storeBytes(of: creditGiven.littleEndian, as: UInt64.self)
        let begun = engine.worker.send(
            .credit, header: UnsafeRawBufferPointer(credit),
            payload: UnsafeRawBufferPointer(start: nil, count: 0), waits: false)
        if case .pending(let request) = begun { creditRequest = request }
        try check(begun)
    }

    private func check(_ outcome: UCXWorker.Outcome) throws(TransportError) {
        guard case .failed(let status) = outcome else { return }
        throw TransportError(.lost, "send to \(peer): \(engine.worker.describe(status))")
    }
}
