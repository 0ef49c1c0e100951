import CGeePSShims
import GeePSCore

/// What has come for one lane over UCX and was not taken yet, in order; and what the other side has taken of ours.
///
/// Small payloads are copied as they come. Large ones are announced, and fetched straight into a pooled buffer: ahead of
/// whoever takes them up to `fetchedBytesMaximum`, so that the next is on its way while one is summed, and no further,
/// which is what makes the sender wait. Its owner's lock is held in every call.
final class UCXInbox {
    /// A frame whose payload is there, or will be.
    struct Arrival {
        let header: FrameHeader
        let isSmall: Bool
        var loan: BufferPool.Loan?
        /// UCX's announcement, until the payload is asked for.
        var announcement: UnsafeMutableRawPointer?
        /// Until the payload is complete.
        var request: UCXWorker.Request?
        /// Whether the payload will never be complete.
        var isBroken = false
    }

    /// A payload of up to this many bytes is sent without being asked for.
    static let smallBytesMaximum = 8 << 10
    /// So many small frames may be on their way or waiting to be taken.
    static let smallFramesMaximum: UInt64 = 64
    /// Announced payloads that are fetched before anybody takes them.
    static let fetchedBytesMaximum = 4 << 20
    /// And so many of them.
    static let fetchedFramesMaximum: UInt64 = 64
    static let tokenBytes = 16
    static let creditBytes = 8 + tokenBytes

    let pool = BufferPool()
    /// What the other side puts beside every message; empty: nothing is taken yet.
    var token: [UInt8] = []
    /// Bytes that a payload may have; more is malformed, before anything is allocated for it.
    var payloadLimit = Limits.framePayloadBytesMaximum
    /// Small frames of ours that the other side has taken, as it says; nil before its first message.
    private(set) var creditOfPeer: UInt64?
    /// Small frames that were taken here.
    private(set) var smallTaken: UInt64 = 0
    /// What the other side has done against the format, or what broke.
    private(set) var failure: TransportError?
    /// Messages of somebody else.
    private(set) var strangeMessages: UInt64 = 0

    private let peer: String
    private var arrivals: [Arrival] = []
    private var smallWaiting: UInt64 = 0
    private var largeWaiting: UInt64 = 0
    private var framesFetched: UInt64 = 0
    private var bytesFetched = 0

    init(peer: String) {
        self.peer = peer
        arrivals.reserveCapacity(Int(Self.smallFramesMaximum + Self.fetchedFramesMaximum) + 1)
    }

    deinit {
        // UCX is done with their memory: the worker has ended.
        for arrival in arrivals { if let loan = arrival.loan { pool.release(token: loan.token) } }
    }

    /// Has `worker` give what comes to this inbox.
    func attach(to worker: UCXWorker) throws(TransportError) {
        try worker.handle(.frame, by: self) { user, header, headerBytes, data, length, params in
            guard let user, let params else { return geeps_ucx_status(GEEPS_UCX_OK) }
            let inbox = Unmanaged<UCXInbox>.fromOpaque(user).takeUnretainedValue()
            return inbox.frameCame(
                UnsafeRawBufferPointer(start: header, count: headerBytes),
                UnsafeMutableRawBufferPointer(start: data, count: length),
                isAnnounced: params.pointee.recv_attr
                    & mask(GEEPS_UCX_RECEIVED_RENDEZVOUS) != 0)
        }
        try worker.handle(.credit, by: self) { user, header, headerBytes, _, _, _ in
            guard let user else { return geeps_ucx_status(GEEPS_UCX_OK) }
            let inbox = Unmanaged<UCXInbox>.fromOpaque(user).takeUnretainedValue()
            inbox.creditCame(UnsafeRawBufferPointer(start: header, count: headerBytes))
            return geeps_ucx_status(GEEPS_UCX_OK)
        }
    }

    // MARK: What comes

    /// - Parameters:
    ///   - data: the payload, or when announced the announcement, with the payload's length.
    /// - Returns: what UCX is to do with `data`.
    private func frameCame(
        _ header: UnsafeRawBufferPointer, _ data: UnsafeMutableRawBufferPointer, isAnnounced: Bool
    ) -> geeps_ucx_status {
        let dropped = geeps_ucx_status(GEEPS_UCX_OK)
        guard failure == nil, isOfPeer(header, bytes: Limits.frameHeaderBytes + Self.tokenBytes)
        else { return dropped }
        do throws(TransportError) {
            let head = try FrameHeader.decode(
                UnsafeRawBufferPointer(rebasing: header[..<Limits.frameHeaderBytes]), from: peer)
            try head.check(limit: payloadLimit, from: peer)
            try check(head, length: data.count, isAnnounced: isAnnounced)
            var arrival = Arrival(header: head, isSmall: !isAnnounced)
            if isAnnounced {
                arrival.announcement = data.baseAddress
                largeWaiting += 1
            } else {
                arrival.loan = data.isEmpty ? nil : pool.take(data.count)
                arrival.loan?.bytes.copyMemory(from: UnsafeRawBufferPointer(data))
                smallWaiting += 1
            }
            arrivals.append(arrival)
            return geeps_ucx_status(isAnnounced ? GEEPS_UCX_IN_PROGRESS : GEEPS_UCX_OK)
        } catch {
            failure = error
            return dropped
        }
    }

    /// The sender keeps to how much may wait here; somebody else's bytes are no message at all.
    private func check(
        _ header: FrameHeader, length: Int, isAnnounced: Bool
    ) throws(TransportError) {
        guard length == Int(header.payloadBytes) else {
            throw TransportError(
                .malformed,
                "\(header.kind) frame from \(peer): UCX brought \(length) bytes of payload, its header says "
                    + "\(header.payloadBytes)")
        }
        guard isAnnounced == (length > Self.smallBytesMaximum) else {
            throw TransportError(
                .malformed,
                "\(header.kind) frame from \(peer): \(length) bytes came \(isAnnounced ? "announced" : "unasked"), "
                    + "expected so of \(isAnnounced ? "more than" : "at most") \(Self.smallBytesMaximum)"
            )
        }
        let mayWait =
            isAnnounced
            ? largeWaiting <= Self.fetchedFramesMaximum : smallWaiting < Self.smallFramesMaximum
        guard mayWait else {
            throw TransportError(
                .malformed,
                "\(header.kind) frame from \(peer): \(isAnnounced ? largeWaiting : smallWaiting) frames wait already"
            )
        }
    }

    private func creditCame(_ header: UnsafeRawBufferPointer) {
        guard isOfPeer(header, bytes: Self.creditBytes) else { return }
        creditOfPeer = UInt64(
            littleEndian: header.loadUnaligned(as: UInt64.self))
    }

    /// Whether what goes before a payload is `bytes` long and ends in the token.
    private func isOfPeer(_ header: UnsafeRawBufferPointer, bytes: Int) -> Bool {
        let start = bytes - Self.tokenBytes
        guard !token.isEmpty, header.count == bytes else {
            strangeMessages += 1
            return false
        }
        var difference: UInt8 = 0
        for index in 0..<Self.tokenBytes { difference |= header[start + index] ^ token[index] }
        if difference != 0 { strangeMessages += 1 }
        return difference == 0
    }

    // MARK: Fetching and taking

    /// Asks for announced payloads while there is room, and looks at those that were asked for.
    func advance(_ worker: UCXWorker) {
        guard worker.isOpen else { return }
        for index in arrivals.indices {
            if let request = arrivals[index].request {
                note(worker.outcome(ofPending: request), at: index, worker)
            } else if let announcement = arrivals[index].announcement {
                let bytes = Int(arrivals[index].header.payloadBytes)
                let fits =
                    bytesFetched + bytes <= Self.fetchedBytesMaximum
                    && framesFetched < Self.fetchedFramesMaximum
                guard fits || framesFetched == 0 else { return }
                let loan = pool.take(bytes)
                arrivals[index].loan = loan
                arrivals[index].announcement = nil
                bytesFetched += bytes
                framesFetched += 1
                note(worker.receive(announcement, into: loan.bytes), at: index, worker)
            }
        }
    }

    private func note(_ outcome: UCXWorker.Outcome, at index: Int, _ worker: UCXWorker) {
        switch outcome {
        case .done: arrivals[index].request = nil
        case .pending(let request): arrivals[index].request = request
        case .failed(let status):
            arrivals[index].request = nil
            arrivals[index].isBroken = true
            let header = arrivals[index].header
            failure =
                failure
                ?? TransportError(
                    .lost,
                    "connection to \(peer) ended inside a frame of \(header.frameBytes) bytes: "
                        + worker.describe(status))
        }
    }

    /// Whether a frame is complete, so that `take` has one.
    var hasFrame: Bool {
        guard let first = arrivals.first else { return false }
        return first.request == nil && first.announcement == nil && !first.isBroken
    }

    /// Bytes of the frame that is on its way, when one is.
    var unfinished: FrameHeader? { hasFrame ? nil : arrivals.first?.header }

    /// The first frame; its buffer is the caller's to give back to `pool`.
    ///
    /// - Precondition: `hasFrame`.
    func take() -> Arrival {
        let arrival = arrivals.removeFirst()
        if arrival.isSmall {
            smallWaiting -= 1
            smallTaken += 1
        } else {
            largeWaiting -= 1
            framesFetched -= 1
            bytesFetched -= arrival.loan?.bytes.count ?? 0
        }
        return arrival
    }

    /// Before the endpoint is closed: nobody will ask for what is announced, and nothing more is taken.
    func refuseAnnounced(_ worker: UCXWorker) {
        token = []
        for index in arrivals.indices {
            guard let announcement = arrivals[index].announcement else { continue }
            arrivals[index].announcement = nil
            arrivals[index].isBroken = true
            worker.release(announcement)
        }
    }

    /// After the endpoint is closed: gives the requests back that ended with it.
    func settle(_ worker: UCXWorker) {
        for index in arrivals.indices {
            guard let request = arrivals[index].request else { continue }
            note(worker.outcome(ofPending: request), at: index, worker)
        }
    }
}
