import CGeePSShims
import GeePSCore
import Glibc
import Synchronization

/// A connection between two processes of one host: a ring of shared memory for each direction.
///
/// The sender copies its payload into the ring, the receiver reads it there. Whoever has to wait spins
/// for some microseconds and then sleeps on a futex in the shared page. The Unix-domain socket that
/// carried the memory file stays open and carries nothing more: its end of stream is how a side learns
/// that the other is gone, at the latest `aliveCheckNanoseconds` after it happened.
///
/// A payload of half the ring or more streams through it and is put together in a pooled buffer.
/// Frames lent to the receiver occupy the ring: a receiver that keeps frames while it waits for further
/// ones must keep less than half of it.
final class SharedMemoryConnection: Connection, @unchecked Sendable {
    // Sendable: state is owned by the sending or the receiving thread, of which there is one each.
    let peer: String
    let carrier = Carrier.sharedMemory

    private static let spins = 400
    private static let aliveCheckNanoseconds: UInt64 = 100_000_000
    private static let aliveCheckIntervalSending: UInt64 = 10_000_000

    private let socket: SocketHandle
    private let outgoing: RingSide
    private let incoming: RingSide
    private let releases: RingReleases
    private let checksPayload: Bool
    private let pool = BufferPool()
    private let sent = Atomic<UInt64>(0)
    private let received = Atomic<UInt64>(0)

    // Used by the sending thread only.
    private var head: UInt64 = 0
    private var knownTail: UInt64 = 0
    private var aliveAt: UInt64 = 0
    private var sendFailure: TransportError?

    // Used by the receiving thread only.
    private let incomingHeader = makeHeaderBuffer()
    private var position: UInt64 = 0
    private var payloadLimit = Limits.framePayloadBytesMaximum
    private var knownHead: UInt64 = 0
    private var arriving: (header: FrameHeader, loan: BufferPool.Loan, filled: Int)?
    private var hasGoodbye = false
    private var receiveFailure: TransportError?

    /// Takes ownership of the connected socket `descriptor`.
    ///
    /// - Parameter isDialler: which of the two rings is ours to write.
    init(
        mapping: RingMapping, descriptor: Int32, isDialler: Bool, peer: String, checksPayload: Bool
    ) {
        socket = SocketHandle(descriptor)
        outgoing = mapping.side(direction: isDialler ? 0 : 1)
        incoming = mapping.side(direction: isDialler ? 1 : 0)
        releases = RingReleases(side: incoming)
        self.peer = peer
        self.checksPayload = checksPayload
    }

    deinit {
        if let arriving { pool.release(token: arriving.loan.token) }
        incomingHeader.deallocate()
    }

    var bytesSent: UInt64 { sent.load(ordering: .relaxed) }
    var bytesReceived: UInt64 { received.load(ordering: .relaxed) }

    func close() {
        socket.close()
        wakeEverybody()
    }

    /// After the socket was shut down: our own threads and the peer's look at it when they wake.
    private func wakeEverybody() {
        for side in [outgoing, incoming] {
            RingSide.forceWake(side.receiverParked)
            RingSide.forceWake(side.senderParked)
        }
    }

    // MARK: Sending

    func send(_ header: FrameHeader, payload: UnsafeRawBufferPointer) throws(TransportError) {
        let header = header.sealed(over: payload, checksPayload: checksPayload)
        guard socket.enter() else { throw .closedHere(peer) }
        defer { socket.leave() }
        if let sendFailure { throw sendFailure }
        sent.wrappingAdd(UInt64(header.frameBytes), ordering: .relaxed)
        do {
            try checkAliveNowAndThen()
            if outgoing.layout.fitsInPlace(payloadBytes: payload.count) {
                try sendInPlace(header, payload)
            } else {
                try sendStreaming(header, payload)
            }
        } catch {
            if socket.isClosed { throw .closedHere(peer) }
            sendFailure = error
            socket.abandon()
            wakeEverybody()
            throw error
        }
    }

    private func sendInPlace(
        _ header: FrameHeader, _ payload: UnsafeRawBufferPointer
    ) throws(TransportError) {
        let place = outgoing.layout.place(payloadBytes: payload.count, headerAt: head)
        try waitForSpace(upTo: place.end)
        header.encode(into: headerTarget(head))
        if let source = payload.baseAddress {
            memcpy(outgoing.address(place.payload), source, payload.count)
        }
        head = place.end
        outgoing.publish(head: head)
    }

    private func sendStreaming(
        _ header: FrameHeader, _ payload: UnsafeRawBufferPointer
    ) throws(TransportError) {
        try waitForSpace(upTo: head + UInt64(Limits.frameHeaderBytes))
        header.encode(into: headerTarget(head))
        head += UInt64(Limits.frameHeaderBytes)
        outgoing.publish(head: head)
        // Pieces of an eighth of the ring let the receiver copy one while the next is written.
        let pieceMaximum = roundedUp(outgoing.layout.capacity / 8)
        var done = 0
        while done < payload.count, let source = payload.baseAddress {
            let count = min(payload.count - done, outgoing.bytesToEnd(head), pieceMaximum)
            let end = head + UInt64(roundedUp(count))
            try waitForSpace(upTo: end)
            memcpy(outgoing.address(head), source + done, count)
            done += count
            head = end
            outgoing.publish(head: head)
        }
    }

    private func headerTarget(_ position: UInt64) -> UnsafeMutableRawBufferPointer {
        UnsafeMutableRawBufferPointer(
            start: outgoing.address(position), count: Limits.frameHeaderBytes)
    }

    private func waitForSpace(upTo end: UInt64) throws(TransportError) {
        let capacity = UInt64(outgoing.layout.capacity)
        if end - knownTail <= capacity { return }
        let isInTime = try wait(on: outgoing.senderParked, deadline: nil) {
            () throws(TransportError) in
            knownTail = try outgoing.releasedTail(after: knownTail, head: head, peer: peer)
            return end - knownTail <= capacity
        }
        precondition(isInTime, "a wait without deadline ended at one")
    }

    /// A ring with room says nothing about the peer, so look at the socket, but not for every frame.
    private func checkAliveNowAndThen() throws(TransportError) {
        let now = monotonicNanoseconds()
        guard now - aliveAt > Self.aliveCheckIntervalSending else { return }
        aliveAt = now
        if let end = peerEnd() { throw end }
    }

    // MARK: Receiving

    func limitPayload(to bytes: Int) { payloadLimit = bytes }

    func receive(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        guard socket.enter() else { throw .closedHere(peer) }
        defer { socket.leave() }
        if let receiveFailure { throw receiveFailure }
        if hasGoodbye { throw .closedThere(peer) }
        do {
            return try receiveFrame(deadline: deadline)
        } catch {
            if socket.isClosed { throw .closedHere(peer) }
            if error.code == .deadline { throw error }
            let failure = error.code == .lost ? endInsideFrame() ?? error : error
            receiveFailure = failure
            socket.abandon()
            wakeEverybody()
            throw failure
        }
    }

    private func endInsideFrame() -> TransportError? {
        arriving.map {
            .endedInsideFrame(
                peer, after: Limits.frameHeaderBytes + $0.filled, of: $0.header.frameBytes)
        }
    }

    private func receiveFrame(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        if arriving != nil { return try receiveRest(deadline: deadline) }
        try waitForBytes(deadline: deadline)
        // A private copy first: the peer could change the header between its check and its use.
        incomingHeader.copyMemory(
            from: UnsafeRawBufferPointer(
                start: incoming.address(position), count: incomingHeader.count))
        let header = try FrameHeader.decode(UnsafeRawBufferPointer(incomingHeader), from: peer)
        try header.check(limit: payloadLimit, from: peer)
        guard incoming.layout.fitsInPlace(payloadBytes: Int(header.payloadBytes)) else {
            position += UInt64(Limits.frameHeaderBytes)
            releases.skip(upTo: position)
            arriving = (header, pool.take(Int(header.payloadBytes)), 0)
            return try receiveRest(deadline: deadline)
        }
        return try lend(header)
    }

    private func lend(_ header: FrameHeader) throws(TransportError) -> ReceivedFrame {
        let place = incoming.layout.place(
            payloadBytes: Int(header.payloadBytes), headerAt: position)
        guard place.end <= knownHead else {
            throw TransportError(
                .malformed,
                "shared memory of \(peer): a frame up to \(place.end) was published only up to "
                    + "\(knownHead)")
        }
        position = place.end
        finish(header)
        guard header.payloadBytes > 0 else {
            releases.skip(upTo: place.end)
            let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
            try header.verify(nothing, from: peer)
            return ReceivedFrame(header: header, payload: nothing, owner: nil)
        }
        let payload = UnsafeRawBufferPointer(
            start: incoming.address(place.payload), count: Int(header.payloadBytes))
        let frame = ReceivedFrame(
            header: header, payload: payload, owner: releases,
            token: releases.lend(upTo: place.end))
        try header.verify(payload, from: peer)
        return frame
    }

    /// Puts a payload together that streams through the ring.
    private func receiveRest(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        while let (header, loan, filled) = arriving, filled < loan.bytes.count {
            try waitForBytes(deadline: deadline)
            let count = min(
                loan.bytes.count - filled, incoming.bytesToEnd(position), Int(knownHead - position))
            _ = loan.bytes.baseAddress.map {
                memcpy($0 + filled, incoming.address(position), count)
            }
            position += UInt64(roundedUp(count))
            releases.skip(upTo: position)
            arriving = (header, loan, filled + count)
        }
        guard let (header, loan, _) = arriving else {
            preconditionFailure("a streamed frame of \(peer) vanished")
        }
        arriving = nil
        finish(header)
        let frame = ReceivedFrame(
            header: header, payload: UnsafeRawBufferPointer(loan.bytes), owner: pool,
            token: loan.token)
        try header.verify(frame.payload, from: peer)
        return frame
    }

    private func finish(_ header: FrameHeader) {
        received.wrappingAdd(UInt64(header.frameBytes), ordering: .relaxed)
        hasGoodbye = header.kind == .goodbye
    }

    /// Waits until at least 64 bytes lie at `position`.
    private func waitForBytes(deadline: Deadline?) throws(TransportError) {
        if knownHead > position { return }
        let isInTime = try wait(on: incoming.receiverParked, deadline: deadline) {
            () throws(TransportError) in
            knownHead = try incoming.publishedHead(after: position, peer: peer)
            return knownHead > position
        }
        guard isInTime else {
            let came = arriving.map { Limits.frameHeaderBytes + $0.filled } ?? 0
            throw .receiveDeadline(peer, after: came)
        }
    }

    // MARK: Waiting

    /// Spins, then sleeps on `word` until `isReady`.
    ///
    /// - Returns: false when the deadline passed.
    /// - Throws: what `isReady` throws, or that the connection has ended.
    private func wait(
        on word: UnsafeMutableRawPointer, deadline: Deadline?,
        until isReady: () throws(TransportError) -> Bool
    ) throws(TransportError) -> Bool {
        for _ in 0..<Self.spins {
            if try isReady() { return true }
            geeps_spin_pause()
        }
        defer { geeps_store_relaxed_32(word, 0) }
        while true {
            geeps_store_relaxed_32(word, 1)
            geeps_fence()
            if try isReady() { return true }
            if let end = peerEnd() {
                // What it published before it went still counts.
                if try isReady() { return true }
                throw end
            }
            let left = deadline?.remainingNanoseconds ?? .max
            guard left > 0 else { return false }
            _ = geeps_futex_wait(
                word.assumingMemoryBound(to: UInt32.self), 1, min(left, Self.aliveCheckNanoseconds))
        }
    }

    /// Why the connection has ended, or nil while the peer is there.
    private func peerEnd() -> TransportError? {
        if socket.isClosed { return .closedHere(peer) }
        var byte: UInt8 = 0
        let count = recv(socket.descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
        if count > 0 {
            return TransportError(
                .malformed, "\(peer) wrote to the socket beside the shared memory")
        }
        if count < 0 {
            let number = errno
            if number == EAGAIN || number == EINTR { return nil }
            return TransportError(.lost, "connection to \(peer): \(systemMessage(number))")
        }
        return .endedWithoutGoodbye(peer)
    }
}
