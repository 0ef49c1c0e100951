import GeePSCore

/// Rank 0's side of the star: hears everybody, decides what the first failure is, answers collectives.
///
/// One thread owns the sessions and the rules; `stop` asks it for an end. A failure ends it: the news goes to
/// everybody still there, then the connections are closed. A rank whose connection is lost may come back by the door,
/// until it has been silent for too long or a witness finds that it has died.
final class Coordinator: @unchecked Sendable {
    // Sendable: `sessions`, `witnesses`, `rules`, `pulse`, `hasLeft` and `ending` are the thread's alone once it
    // runs; `request` is guarded by `signal`; `door` and `thread` are written before `start` returns.

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
    private let processes: [ProcessDescription]
    private let settings: ControlSettings
    private let signal = Signal()
    private var request: Ending?
    private var door: ControlDoor?
    private var thread: DedicatedThread?

    // By rank; nil when the rank has left and closed.
    private var sessions: [ControlSession?]
    private var hasLeft: [Bool]
    // Of ranks whose connection is lost.
    private var witnesses: [Witness?]
    private var rules: CollectiveRules
    private var pulse: Pulse
    private var ending: Ending?

    /// A coordinator of `processes`, with each of which there is a session, by rank; it does not run yet.
    ///
    /// - Parameter listener: where ranks come back; nil: a lost connection is a lost rank.
    init(
        _ processes: [ProcessDescription], sessions: [ControlSession], listener: Descriptor?,
        settings: ControlSettings
    ) throws(LaunchError) {
        waker = try WakePipe()
        self.processes = processes
        self.settings = settings
        self.sessions = sessions
        hasLeft = Array(repeating: false, count: sessions.count)
        witnesses = Array(repeating: nil, count: sessions.count)
        rules = CollectiveRules(worldSize: sessions.count)
        pulse = Pulse(settings, counters: counters)
        guard let listener, settings.isGone != nil else { return }
        let strangers = Strangers(
            secret: settings.secret ?? JobSecret(), worldSize: sessions.count, settings: settings,
            consolation: "the job goes on")
        door = try ControlDoor(listener, strangers: strangers) { [waker] in waker.ring() }
    }

    private var worldSize: Int { sessions.count }

    /// Starts the thread; it holds the coordinator until it ends, so its owner must call `stop`.
    func start() {
        let now = monotonicNanoseconds()
        for session in sessions { session?.lastHeard = now }
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

    private var present: [ControlSession] { sessions.compactMap { $0 } }

    private func run() {
        while ending == nil {
            // The silence of rank 0's own member, in this process, means nothing.
            let watched = sessions.enumerated().compactMap { rank, session in
                rank > 0 && !hasLeft[rank] ? session : nil
            }
            pulse.wait(present, watched: watched, waker: waker, expiry: rules.nextExpiry)
            takeReturns()
            for rank in 0..<worldSize { listen(to: rank) }
            let now = monotonicNanoseconds()
            for rank in 1..<max(1, worldSize) { judge(rank, now: now) }
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
        guard let session = sessions[rank] else { return }
        do {
            for message in try pulse.receive(session) { try take(message, from: rank) }
        } catch {
            fail(rank, .malformed, error.description)
        }
        if session.link != nil, session.hasLostLink { lose(rank, session) }
    }

    /// A connection has ended: the process has died, or it comes back.
    private func lose(_ rank: Int, _ session: ControlSession) {
        session.lose()
        guard rank > 0, door != nil, let isGone = settings.isGone else {
            sessions[rank] = nil
            if !hasLeft[rank] { fail(rank, .closed) }
            return
        }
        // One that has said goodbye comes back for the farewell, or not.
        guard !hasLeft[rank] else { return }
        let process = processes[rank]
        witnesses[rank] = Witness({ isGone(process) }, onDeath: { [waker] in waker.ring() })
    }

    private func takeReturns() {
        for back in door?.takeReturns() ?? [] { welcome(back) }
    }

    /// Goes on with a rank over its next connection, in place of the last one even where that seems to be open.
    private func welcome(_ back: ControlDoor.Return) {
        let rejoin = back.rejoin
        guard rejoin.rank > 0, rejoin.rank < worldSize, let session = sessions[rejoin.rank],
            session.identity == rejoin.identity
        else {
            back.link.send(
                .refusal(LaunchError(.rank, "rank \(rejoin.rank) of this job is another process")))
            return
        }
        witnesses[rejoin.rank]?.dismiss()
        witnesses[rejoin.rank] = nil
        back.link.peer = processes[rejoin.rank].name
        do throws(ByteError) {
            // What the last one brought counts.
            for message in try pulse.receive(session) { try take(message, from: rejoin.rank) }
            try session.resume(
                over: back.link, heardByPeer: rejoin.heard,
                answer: .rejoined(heard: session.heard))
        } catch {
            return fail(rejoin.rank, .malformed, error.description)
        }
        counters.update { $0.returns += 1 }
        settings.log(
            "the control connection to \(processes[rejoin.rank].name) was lost and is there again")
    }

    private func take(_ message: ControlMessage, from rank: Int) throws(ByteError) {
        switch message {
        case .heartbeat(_):
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
        for answer in answers { sessions[answer.rank]?.send(answer.message) }
    }

    private func judge(_ rank: Int, now: UInt64) {
        guard !hasLeft[rank], let session = sessions[rank] else { return }
        if witnesses[rank]?.isDeath == true { return fail(rank, .closed) }
        if let time = pulse.silence(of: session, now: now) { fail(rank, .silent, time) }
    }

    private func askForStatus() {
        let others = (1..<max(1, worldSize)).filter { sessions[$0]?.link != nil && !hasLeft[$0] }
        guard let sequence = statusRound.takeQuestion(for: others.count) else { return }
        for rank in others { sessions[rank]?.send(.statusRequest(sequence: sequence)) }
    }

    private func beat() {
        for (rank, session) in sessions.enumerated() {
            guard let session, session.link != nil else { continue }
            session.beat()
            if rank > 0 { counters.update { $0.heartbeatsSent += 1 } }
        }
    }

    private func finish() {
        for witness in witnesses { witness?.dismiss() }
        switch ending {
        case .failure(let news): tell(news)
        case .farewell:
            for session in present { session.send(.farewell) }
            awaitReceipts(until: .after(.seconds(1)))
        case .leftEarly(let waited):
            let ranks = rankList((0..<worldSize).filter { !hasLeft[$0] })
            let time = secondsText(nanoseconds: waited.nanoseconds)
            tell(
                FailureNews(rank: 0, kind: .leftEarly, detail: "it had waited \(time) for \(ranks)")
            )
        case .dropped, nil: sessions = []
        }
        door?.close()
        ControlLink.drain(present.compactMap(\.link), until: .after(.seconds(1)))
        sessions = []
    }

    /// Has everybody hear the farewell, also who comes back for it.
    private func awaitReceipts(until deadline: Deadline) {
        while !deadline.hasPassed, present.contains(where: { !$0.isAllHeard }) {
            pulse.wait(present, watched: [], waker: waker, expiry: deadline.nanoseconds)
            takeReturns()
            // Nobody can fail any more: what cannot be understood is no receipt.
            for session in present {
                _ = try? session.receive()
                if session.hasLostLink { session.lose() }
            }
            if pulse.isBeatDue(now: monotonicNanoseconds()) { beat() }
        }
    }

    /// The process that failed hears it last: when an aborting one does, all others have been told.
    private func tell(_ news: FailureNews) {
        for (rank, session) in sessions.enumerated() where rank != news.rank {
            session?.send(.failure(news))
        }
        guard sessions.indices.contains(news.rank) else { return }
        sessions[news.rank]?.send(.failure(news))
    }
}
