import GeePSCore

/// Rank 0's side of the star: hears everybody, decides what the first failure is, answers collectives.
///
/// One thread owns the links and the rules; `stop` is its only door. A failure ends it: the news goes to
/// everybody still there, then the links are closed.
final class Coordinator: @unchecked Sendable {
    // Sendable: `links`, `rules`, `pulse`, `hasLeft` and `ending` are the thread's alone once it runs;
    // `request` is guarded by `signal`; `thread` is written before `start` returns.

    /// How the coordinator comes to its end.
    enum Ending {
        /// Tell everybody of the failure.
        case failure(FailureNews)
        /// All have said goodbye.
        case farewell
        /// Rank 0 leaves though others have not finished; what it waited is told.
        case leftEarly(waited: Duration)
        /// Close without a word: this process gives the membership up.
        case dropped
    }

    let counters = CounterBox()
    private let statusRound = StatusRound()
    private let waker: WakePipe
    private let worldSize: Int
    private let signal = Signal()
    private var request: Ending?
    private var thread: DedicatedThread?

    // By rank; nil when the rank has left and closed.
    private var links: [ControlLink?]
    private var hasLeft: [Bool]
    private var rules: CollectiveRules
    private var pulse: Pulse
    private var ending: Ending?

    /// A coordinator of the processes at the other ends of `links`, by rank; it does not run yet.
    init(links: [ControlLink], settings: ControlSettings) throws(LaunchError) {
        waker = try WakePipe()
        worldSize = links.count
        self.links = links
        hasLeft = Array(repeating: false, count: links.count)
        rules = CollectiveRules(worldSize: links.count)
        pulse = Pulse(settings, counters: counters)
    }

    /// Starts the thread; it holds the coordinator until it ends, so its owner must call `stop`.
    func start() {
        let now = monotonicNanoseconds()
        for link in links { link?.lastHeard = now }
        thread = DedicatedThread(name: "coordinator") { self.run() }
    }

    /// Asks for an end and waits for it; the first request counts, and none after the end.
    func stop(_ ending: Ending) {
        signal.withLock { if request == nil { request = ending } }
        waker.ring()
        join()
    }

    /// Waits for the end.
    func join() { thread?.join() }

    /// Asks all others where they stand; by rank, what comes until `deadline`.
    ///
    /// For one thread at a time.
    func statuses(until deadline: Deadline) -> [Int: [UInt8]] {
        statusRound.ask(until: deadline) { waker.ring() }
    }

    private var openLinks: [ControlLink] { links.compactMap { $0 } }

    private func run() {
        while ending == nil {
            // The silence of rank 0's own member, in this process, means nothing.
            let watched = links.enumerated().compactMap { rank, link in
                rank > 0 && !hasLeft[rank] ? link : nil
            }
            pulse.wait(openLinks, watched: watched, waker: waker, expiry: rules.nextExpiry)
            for rank in 0..<worldSize { listen(to: rank) }
            let now = monotonicNanoseconds()
            for rank in 1..<max(1, worldSize) { judgeSilence(of: rank, now: now) }
            deliver(rules.expire(now: now))
            if pulse.isBeatDue(now: now) { beat() }
            askForStatus()
            if !hasLeft.contains(false) { end(.farewell) }
            signal.withLock { if let request, ending == nil { ending = request } }
        }
        finish()
    }

    /// The first ending counts.
    private func end(_ how: Ending) { if ending == nil { ending = how } }

    private func fail(_ rank: Int, _ kind: PeerFailure.Kind, _ detail: String = "") {
        end(.failure(FailureNews(rank: rank, kind: kind, detail: detail)))
    }

    private func listen(to rank: Int) {
        guard let link = links[rank] else { return }
        link.flush()
        do {
            for message in try pulse.receive(link) { try take(message, from: rank) }
        } catch {
            fail(rank, .malformed, error.description)
        }
        guard link.ending != nil else { return }
        if !hasLeft[rank] { fail(rank, .closed) }
        links[rank] = nil
    }

    private func take(_ message: ControlMessage, from rank: Int) throws(ByteError) {
        switch message {
        case .heartbeat:
            if rank > 0 { counters.update { $0.heartbeatsReceived += 1 } }
        case .contribution(let part):
            deliver(try rules.offer(part, from: rank, now: monotonicNanoseconds()))
        case .goodbye:
            hasLeft[rank] = true
            deliver(rules.leave(rank: rank))
        case .failure(let news) where news.rank == rank && news.kind == .aborted:
            end(.failure(news))
        case .failure(let news) where news.rank == 0 && news.kind == .silent:
            // The others have given this process up while it was stopped.
            end(.failure(news))
        case .status(let sequence, let bytes):
            statusRound.take(bytes, sequence: sequence, from: rank)
        case .unknownOptional: break
        default: throw ByteError("a message that is not for the coordinator")
        }
    }

    private func deliver(_ answers: [CollectiveRules.Answer]) {
        for answer in answers { links[answer.rank]?.send(answer.message) }
    }

    private func judgeSilence(of rank: Int, now: UInt64) {
        guard !hasLeft[rank], let link = links[rank] else { return }
        if let time = pulse.silence(of: link, now: now) { fail(rank, .silent, time) }
    }

    private func askForStatus() {
        let others = (1..<max(1, worldSize)).filter { links[$0] != nil && !hasLeft[$0] }
        guard let sequence = statusRound.takeQuestion(for: others.count) else { return }
        for rank in others { links[rank]?.send(.statusRequest(sequence: sequence)) }
    }

    private func beat() {
        for (rank, link) in links.enumerated() {
            guard let link else { continue }
            link.send(.heartbeat)
            if rank > 0 { counters.update { $0.heartbeatsSent += 1 } }
        }
    }

    private func finish() {
        switch ending {
        case .failure(let news): tell(news)
        case .farewell: for link in openLinks { link.send(.farewell) }
        case .leftEarly(let waited):
            let ranks = rankList((0..<worldSize).filter { !hasLeft[$0] })
            let time = secondsText(nanoseconds: waited.nanoseconds)
            tell(
                FailureNews(rank: 0, kind: .leftEarly, detail: "it had waited \(time) for \(ranks)")
            )
        case .dropped, nil: links = []
        }
        ControlLink.drain(openLinks, until: .after(.seconds(1)))
        links = []
    }

    /// The process that failed hears it last: when an aborting one does, all others have been told.
    private func tell(_ news: FailureNews) {
        for (rank, link) in links.enumerated() where rank != news.rank {
            link?.send(.failure(news))
        }
        guard links.indices.contains(news.rank) else { return }
        links[news.rank]?.send(.failure(news))
    }
}
