import GeePSCore

/// One process's side of the star: a thread that keeps the session with rank 0's coordinator, and the
/// calls that wait for it.
///
/// A lost connection is made anew, until rank 0 has been silent for too long or nobody listens there any more. A failure, the farewell or `stop` ends the thread. Every wait of a caller ends by an answer, a failure
/// or a deadline.
final class Member: @unchecked Sendable {
    // Sendable: `session`, `pulse` and `redials` are the thread's alone once it runs; everything under "Shared" is
    // guarded by `signal`; `thread` is written before `start` returns.

    /// What came of an attempt to go on after a connection was lost.
    enum Redial {
        /// A connection on which rank 0 has said that it goes on, and what it said after that.
        case back(ControlLink, heardByPeer: UInt64, early: [ControlMessage])
        /// Nothing yet.
        case notYet
        /// Rank 0 is gone, or does not know this process.
        case gone
    }

    /// How the thread is asked to end.
    private enum Stop {
        /// Send what is queued, then close.
        case orderly
        /// Close without a goodbye.
        case dropped
    }

    let counters = CounterBox()
    private let rank: Int
    private let processes: [ProcessDescription]
    private let waker: WakePipe
    private var thread: DedicatedThread?

    private let session: ControlSession
    private let redial: (@Sendable (_ heard: UInt64) -> Redial)?
    private var redials = 0
    private var early: [ControlMessage]
    private var pulse: Pulse

    // Shared.
    private let signal = Signal()
    private var outbox: [ControlMessage] = []
    private var handlers: [@Sendable (PeerFailure) -> Void] = []
    private var statusSource: (@Sendable () -> [UInt8])?
    private var knownFailure: PeerFailure?
    private var hasFarewell = false
    private var hasLeft = false
    private var isOver = false
    private var stop: Stop?
    private var isCalling = false
    private var sequence: UInt64 = 0
    private var answer: Result<[UInt8], LaunchError>?

    /// A member that says and hears everything by `session`; it does not run yet.
    ///
    /// - Parameters:
    ///   - early: what the coordinator has said already.
    ///   - redial: makes the next connection to a coordinator of which so many messages were received; waits a second or
    ///     so at most. Nil: a lost connection is a lost rank 0.
    init(
        rank: Int, processes: [ProcessDescription], session: ControlSession,
        early: [ControlMessage] = [], settings: ControlSettings,
        redial: (@Sendable (_ heard: UInt64) -> Redial)? = nil
    ) throws(LaunchError) {
        self.rank = rank
        self.processes = processes
        self.session = session
        self.redial = redial
        self.early = early
        waker = try WakePipe()
        pulse = Pulse(settings, counters: counters)
    }

    /// Starts the thread; it holds the member until it ends, so its owner must call `drop` or `leave`.
    func start() {
        session.lastHeard = monotonicNanoseconds()
        thread = DedicatedThread(name: "member") { self.run() }
    }

    /// The first failure of the job, once it is known here.
    var failure: PeerFailure? { signal.withLock { knownFailure } }

    /// Calls `handler` once when a failure is known: later on the control thread, or now if it is already.
    func onFailure(_ handler: @escaping @Sendable (PeerFailure) -> Void) {
        let known = signal.withLock {
            if knownFailure == nil && !isOver { handlers.append(handler) }
            return knownFailure
        }
        if let known { handler(known) }
    }

    /// Has questions of where this process stands answered by `source`, on the control thread: it must not wait.
    func setStatusSource(_ source: (@Sendable () -> [UInt8])?) {
        signal.withLock { statusSource = source }
    }

    /// Takes part in the next collective and waits for its result.
    func call(
        _ operation: Contribution.Operation, _ label: String, _ payload: [UInt8],
        deadline: Deadline
    ) throws(LaunchError) -> [UInt8] {
        signal.lock()
        defer { signal.unlock() }
        let name = "\(operation) \"\(label)\""
        while isCalling {
            try checkOpen(name)
            guard signal.wait(until: deadline) || !isCalling else {
                throw LaunchError(
                    .timeout, "\(name): an earlier collective of rank \(rank) is still waiting")
            }
        }
        try checkOpen(name)
        isCalling = true
        defer {
            isCalling = false
            signal.wakeAll()
        }
        sequence += 1
        answer = nil
        post(
            .contribution(
                Contribution(
                    sequence: sequence, operation: operation, label: label,
                    patienceNanoseconds: deadline.remainingNanoseconds, payload: payload)))
        // The coordinator keeps the deadline, so that a round ends alike for all. This one is for a
        // coordinator that beats but does not answer.
        let last = Deadline(nanoseconds: deadline.nanoseconds.saturatingAdd(5_000_000_000))
        while true {
            if let answer { return try answer.get() }
            try checkOpen(name)
            guard signal.wait(until: last) || answer != nil else {
                throw LaunchError(.timeout, "\(name): rank 0 did not answer")
            }
        }
    }

    /// Says goodbye and waits until all have, a failure is known or `deadline` passed.
    ///
    /// - Returns: whether all said goodbye.
    func leave(deadline: Deadline) -> Bool {
        signal.lock()
        defer { signal.unlock() }
        if !hasLeft && !isOver {
            hasLeft = true
            post(.goodbye)
            signal.wakeAll()
        }
        while !isOver && !hasFarewell {
            if !signal.wait(until: deadline) { break }
        }
        return hasFarewell
    }

    /// Tells all why this rank gives up; returns when the coordinator has passed it on, or after
    /// two seconds.
    ///
    /// When something else failed first, that stays the failure.
    func abort(reason: String) {
        let deadline = Deadline.after(.seconds(2))
        let news = FailureNews(rank: rank, kind: .aborted, detail: reason)
        signal.withLock {
            guard !isOver else { return }
            post(.failure(news))
            while !isOver {
                if !signal.wait(until: deadline) { break }
            }
        }
        fail(news)
    }

    /// Ends the thread and waits for it: after `leave` with what is queued still sent, otherwise at once.
    func end() {
        signal.withLock {
            stop = hasLeft ? .orderly : .dropped
            waker.ring()
        }
        thread?.join()
    }

    // With the signal held.
    private func post(_ message: ControlMessage) {
        outbox.append(message)
        waker.ring()
    }

    // With the signal held.
    private func checkOpen(_ name: String) throws(LaunchError) {
        if let knownFailure { throw LaunchError(.peerLost, "\(name): \(knownFailure)") }
        if isOver || hasLeft || stop != nil {
            throw LaunchError(.left, "\(name): rank \(rank) has left the job")
        }
    }

    private func run() {
        var news: FailureNews?
        do {
            try session.count(early)
            for message in early { try take(message, &news) }
            early = []
            while news == nil, !mustEnd {
                pulse.wait(
                    [session], watched: rank > 0 ? [session] : [], waker: waker,
                    expiry: pauseEnd)
                try turn(&news)
            }
        } catch {
            news = news ?? FailureNews(rank: 0, kind: .malformed, detail: error.description)
        }
        close(after: news)
        if let news { fail(news) }
        signal.withLock {
            isOver = true
            handlers = []
            signal.wakeAll()
        }
    }

    private var mustEnd: Bool { signal.withLock { stop != nil || hasFarewell } }

    private func turn(_ news: inout FailureNews?) throws(ByteError) {
        let messages = signal.withLock {
            defer { outbox = [] }
            return outbox
        }
        for message in messages { session.send(message) }
        for message in try pulse.receive(session) { try take(message, &news) }
        guard news == nil, !mustEnd else { return }
        if session.hasLostLink { try comeBack(&news) }
        guard news == nil, !mustEnd else { return }
        let now = monotonicNanoseconds()
        if rank > 0, let time = pulse.silence(of: session, now: now) {
            let verdict = FailureNews(rank: 0, kind: .silent, detail: time)
            session.send(.failure(verdict))
            news = verdict
        } else if pulse.isBeatDue(now: now) {
            session.beat()
            counters.update { $0.heartbeatsSent += 1 }
        }
    }

    /// When the next attempt to come back is due; nil while there is a connection.
    private var pauseEnd: UInt64? {
        guard session.link == nil else { return nil }
        let pause = min(Self.pauseFirst << UInt64(min(redials, 16)), Self.pauseLast)
        return monotonicNanoseconds() + pause
    }

    /// Between attempts to come back: doubled from the first to the last.
    private static let pauseFirst: UInt64 = 1_000_000
    private static let pauseLast: UInt64 = 100_000_000

    private func comeBack(_ news: inout FailureNews?) throws(ByteError) {
        session.lose()
        guard let redial else {
            news = FailureNews(rank: 0, kind: .closed)
            return
        }
        redials += 1
        switch redial(session.heard) {
        case .notYet: break
        case .gone: news = FailureNews(rank: 0, kind: .closed)
        case .back(let link, let heardByPeer, let early):
            redials = 0
            counters.update { $0.returns += 1 }
            try session.resume(over: link, heardByPeer: heardByPeer)
            try session.count(early)
            for message in early { try take(message, &news) }
        }
    }

    private func take(_ message: ControlMessage, _ news: inout FailureNews?) throws(ByteError) {
        switch message {
        case .heartbeat(_): counters.update { $0.heartbeatsReceived += 1 }
        case .result(let sequence, let bytes): settle(sequence, .success(bytes))
        case .collectiveRefusal(let sequence, let error): settle(sequence, .failure(error))
        case .failure(let found):
            guard processes.indices.contains(found.rank) else {
                throw ByteError("failure of rank \(found.rank), which is not in the job")
            }
            news = news ?? found
        case .farewell:
            signal.withLock {
                hasFarewell = true
                signal.wakeAll()
            }
        case .statusRequest(let sequence):
            let source = signal.withLock { statusSource }
            let bytes = source?() ?? []
            session.send(
                .status(
                    sequence: sequence,
                    bytes: bytes.count <= ControlLimits.statusBytes ? bytes : []))
        case .unknownOptional: break
        default: throw ByteError("a message that is not for a member")
        }
    }

    private func settle(_ sequence: UInt64, _ result: Result<[UInt8], LaunchError>) {
        signal.withLock {
            guard isCalling, sequence == self.sequence else { return }
            answer = result
            signal.wakeAll()
        }
    }

    private func close(after news: FailureNews?) {
        defer { session.lose() }
        let (rest, isOrderly) = signal.withLock {
            defer { outbox = [] }
            return (outbox, stop == .orderly || hasFarewell)
        }
        guard isOrderly, news == nil, let link = session.link else { return }
        for message in rest { session.send(message) }
        // The receipt of the farewell, for which rank 0 waits.
        session.beat()
        ControlLink.drain([link], until: .after(.seconds(1)))
    }

    /// Makes `news` the failure if it is the first, and tells the handlers.
    private func fail(_ news: FailureNews) {
        let failure = PeerFailure(news, of: processes[news.rank])
        let waiting = signal.withLock {
            guard knownFailure == nil, !isOver else {
                return [] as [@Sendable (PeerFailure) -> Void]
            }
            knownFailure = failure
            isOver = true
            defer { handlers = [] }
            signal.wakeAll()
            return handlers
        }
        for handler in waiting { handler(failure) }
    }
}
