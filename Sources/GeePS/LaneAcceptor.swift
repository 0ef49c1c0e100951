internal import GeePSCore
internal import GeePSServer
internal import GeePSTransport

/// Takes the lanes that other processes open to the keepers of this one.
///
/// Strangers are turned away.
final class LaneAcceptor: @unchecked Sendable {
    // Sendable: the variables are guarded by `signal`; the rest is constant after init.
    private let listener: Listener
    private let server: Server
    private let key: LaneKey
    private let log: @Sendable (String) -> Void
    private let signal = Signal()
    private var handshakes: [Handshake] = []
    private var greeting = 0
    private var nextHandshake = 0
    private var isClosing = false
    private var refusals = 0
    private var thread: DedicatedThread?

    private final class Handshake: @unchecked Sendable {
        // Sendable: the variables are guarded by the acceptor's `signal`.
        let index: Int
        let connection: any Connection
        /// Whether the caller has proven that it is of the job; until then it must make room for others.
        var isProven = false
        var thread: DedicatedThread?
        var isDone = false

        init(_ index: Int, _ connection: any Connection) {
            self.index = index
            self.connection = connection
        }
    }

    /// Handshakes at a time; for more callers the one who has been silent for longest is hung up on.
    private static let handshakesMaximum = 64
    /// How long a caller may take to say hello.
    private static let handshakeTimeout = Duration.seconds(5)
    /// Refusals that are logged; the rest are counted.
    private static let complaintsMaximum = 10
    /// Between attempts to accept while the system refuses.
    private static let pauseAfterFailure = Duration.milliseconds(100)

    init(
        listener: Listener, server: Server, key: LaneKey,
        log: @escaping @Sendable (String) -> Void
    ) {
        self.listener = listener
        self.server = server
        self.key = key
        self.log = log
        thread = DedicatedThread(name: "lane acceptor") { [self] in run() }
    }

    /// Takes no more lanes; callers that have not said hello by now are hung up on.
    func close() {
        listener.close()
        signal.withLock {
            isClosing = true
            signal.wakeAll()
        }
        thread?.join()
        thread = nil
        let open = signal.withLock {
            for handshake in handshakes where !handshake.isDone { handshake.connection.close() }
            return handshakes
        }
        for handshake in open { handshake.thread?.join() }
        let refusals = signal.withLock { self.refusals }
        guard refusals > Self.complaintsMaximum else { return }
        log("lanes refused: \(refusals) in all")
    }

    private func run() {
        var hasComplained = false
        while true {
            do throws(TransportError) {
                let connection = try listener.accept(deadline: nil)
                startHandshake(connection)
            } catch {
                if error.code == .closed { return }
                // Out of descriptors: the caller stays in the queue, and the next attempt fails too.
                if !hasComplained { log("accepting lanes: \(error.message); trying on") }
                hasComplained = true
                signal.withLock {
                    if !isClosing { _ = signal.wait(until: .after(Self.pauseAfterFailure)) }
                }
            }
        }
    }

    private func greet(_ handshake: Handshake) {
        let connection = handshake.connection
        do throws(TransportError) {
            let (hello, proof) = try LaneHandshake.admit(
                connection, key: key, deadline: .after(Self.handshakeTimeout))
            signal.withLock { handshake.isProven = true }
            let lane = try LaneWay.lane(over: connection, hello: hello, at: listener)
            try server.serve(
                lane, worker: Int(hello.sender),
                keeper: Int(truncatingIfNeeded: hello.third),
                lane: Int(truncatingIfNeeded: hello.tick),
                laneCount: Int(truncatingIfNeeded: hello.second), number: hello.table,
                welcome: { () throws(TransportError) in
                    try connection.send(FrameHeader(.welcome), bytes: proof)
                    try LaneWay.leave(lane, .listener, key: key, deadline: .after(LaneWay.patience))
                })
        } catch {
            if error.code == .refused {
                try? connection.send(FrameHeader(.refusal), bytes: Array(error.message.utf8))
            }
            let isWorthALine = signal.withLock {
                refusals += 1
                return !isClosing && refusals <= Self.complaintsMaximum
            }
            if isWorthALine { log("lane from \(connection.peer) refused: \(error.message)") }
            connection.close()
        }
    }

    /// Greets on a thread of its own: a caller may be silent for its whole handshake and must not hold up
    /// others.
    private func startHandshake(_ connection: any Connection) {
        signal.lock()
        if greeting >= Self.handshakesMaximum {
            handshakes.first { !$0.isDone && !$0.isProven }?.connection.close()
        }
        while greeting >= Self.handshakesMaximum && !isClosing { _ = signal.wait() }
        guard !isClosing else {
            signal.unlock()
            return connection.close()
        }
        greeting += 1
        let done = handshakes.filter(\.isDone)
        handshakes.removeAll(where: \.isDone)
        let index = nextHandshake
        nextHandshake += 1
        let handshake = Handshake(index, connection)
        handshakes.append(handshake)
        handshake.thread = DedicatedThread(name: "lane handshake") { [self] in
            greet(handshake)
            finishHandshake(index)
        }
        signal.unlock()
        for old in done { old.thread?.join() }
    }

    private func finishHandshake(_ index: Int) {
        signal.withLock {
            handshakes.first { $0.index == index }?.isDone = true
            greeting -= 1
            signal.wakeAll()
        }
    }
}
