public import GeePSCore

/// What the keepers of a process must know; equal on all processes of a job.
public struct ServerConfiguration: Sendable {
    /// Which keeper owns which rows.
    public var map: ShardMap
    /// Workers in the job.
    public var workerCount: Int
    /// Decides when updates are applied.
    public var staleness: Staleness
    /// What is done with them.
    public var optimizer: OptimizerConfiguration
    /// Threads that share the blocks of each keeper; each process may have its own number.
    ///
    /// A thread sums and steps at the speed of one core's memory accesses, some 10 GB/s: beside a GPU several
    /// are needed.
    public var keeperThreads: Int
    /// What the keepers start from; nil for the initial values that rank 0 sends.
    public var restored: RestoredRows?

    /// The only worker is in this process and uses the rows of the only keeper where they are, instead of by lanes.
    ///
    /// Then the worker's thread is one of `keeperThreads`, and the keeper starts from the worker's initial values.
    public var isInPlace = false

    /// By table, where they differ from `optimizer`, which has all the state they need; else empty.
    public var tableOptimizers: [OptimizerConfiguration] = []

    /// A configuration.
    public init(
        map: ShardMap, workerCount: Int, staleness: Staleness, optimizer: OptimizerConfiguration,
        keeperThreads: Int = 1
    ) {
        precondition(keeperThreads > 0, "a keeper needs a thread, got \(keeperThreads)")
        self.map = map
        self.workerCount = workerCount
        self.staleness = staleness
        self.optimizer = optimizer
        self.keeperThreads = keeperThreads
    }
}

/// The keepers of one process and the lanes that lead to them.
public final class Server: @unchecked Sendable {
    // Sendable: `sessions` and `isClosing` are guarded by `signal`; the rest is constant after init.
    private let configuration: ServerConfiguration
    private let keepers: [Int: Keeper]
    private let onFailure: @Sendable (_ worker: Int, TransportError) -> Void
    private let signal = Signal()
    private var sessions: [Session] = []
    private var isClosing = false

    /// Starts the keepers of `indexes`.
    ///
    /// - Parameter onFailure: called, from a thread of the server, when a worker's lane breaks or a worker
    ///   sends what the protocol forbids. That lane is closed.
    /// - Throws: when there is no memory for the rows and the optimiser's state.
    public init(
        configuration: ServerConfiguration, keepers indexes: [Int],
        onFailure: @escaping @Sendable (_ worker: Int, TransportError) -> Void
    ) throws(RowStoreError) {
        if configuration.isInPlace {
            precondition(
                configuration.workerCount == 1 && configuration.map.keeperCount == 1
                    && configuration.restored == nil
                    && ApplyPolicy(configuration.staleness) == .aggregated(staleness: 0),
                "rows are used in place by the only worker of the only keeper, in lock step")
        }
        self.configuration = configuration
        self.onFailure = onFailure
        var keepers: [Int: Keeper] = [:]
        for index in indexes {
            keepers[index] = try Keeper(
                index: index, configuration: configuration, lanesMaximum: 4,
                onFailure: { error, session in onFailure(session.worker, error) })
        }
        self.keepers = keepers
        for index in indexes { keepers[index]?.start() }
    }

    /// The keeper that its worker runs; nil where lanes lead to keepers.
    public var keeperInPlace: (any KeeperInPlace)? {
        guard configuration.isInPlace, let keeper = keepers[0] else { return nil }
        return OwnKeeper(keeper, map: configuration.map)
    }

    /// Threads of each keeper, and so the lanes that a worker of this process does well to open to it.
    public var keeperThreads: Int { configuration.keeperThreads }

    /// Where the keepers of this process stand, in their order; from any thread, none of theirs waits for it.
    public func standings() -> [KeeperStanding] {
        let now = monotonicNanoseconds()
        return keepers.keys.sorted().compactMap { keepers[$0]?.standing(now: now) }
    }

    /// What the keepers of this process have found out about waits for their rows.
    public var waitShares: WaitShares {
        keepers.values.reduce(into: WaitShares(workerCount: configuration.workerCount)) {
            $0.add($1.waitShares)
        }
    }

    /// Serves one connection of a lane of `worker`.
    ///
    /// A later connection of a lane takes the place of an earlier one, which is closed: the worker has lost it,
    /// whether or not that has been noticed here. Returns when what the earlier one brought is with the keeper.
    ///
    /// - Parameters:
    ///   - number: higher than those of the lane's earlier connections.
    ///   - welcome: called when nothing stands in the way, before anything is sent on the lane.
    /// - Throws: `.refused` when no such keeper, worker or lane is here or the lane has a connection that is not
    ///   an earlier one; what `welcome` throws.
    public func serve(
        _ connection: any Connection, worker: Int, keeper index: Int, lane: Int, laneCount: Int,
        number: UInt32 = 0, welcome: () throws(TransportError) -> Void = {}
    ) throws(TransportError) {
        guard let keeper = keepers[index] else {
            throw TransportError(
                .refused, "keeper \(index) is not in this process; it has \(keepers.keys.sorted())")
        }
        guard (0..<configuration.workerCount).contains(worker) else {
            throw TransportError(
                .refused, "worker \(worker) is not in 0..<\(configuration.workerCount)")
        }
        guard laneCount > 0, laneCount <= 64, (0..<laneCount).contains(lane) else {
            throw TransportError(.refused, "lane \(lane) of \(laneCount) is not a lane")
        }
        let session = Session(
            worker: worker, lane: lane, laneCount: laneCount, keeper: index, number: number,
            connection: connection, blocks: keeper.blocks, publications: keeper.publications)
        try admit(session)
        session.endPredecessor()
        do throws(TransportError) {
            try welcome()
        } catch {
            session.close()
            throw error
        }
        session.start(
            onResume: { session in keeper.post(joined: session) },
            onFrame: { frame, session in keeper.post(frame, from: session) },
            onFailure: { [onFailure] error, session in onFailure(session.worker, error) })
    }

    /// Takes `session` in, unless its lane has a connection that is not an earlier one or it counts the lanes
    /// otherwise.
    private func admit(_ session: Session) throws(TransportError) {
        let name = "worker \(session.worker)"
        try signal.withLock { () throws(TransportError) in
            guard !isClosing else { throw TransportError(.closed, "the server is closing") }
            var earlier: Int?
            for (index, other) in sessions.enumerated()
            where other.worker == session.worker && other.keeper == session.keeper {
                guard other.laneCount == session.laneCount else {
                    throw TransportError(
                        .refused,
                        "\(name) has said that it opens \(other.laneCount) lanes to keeper "
                            + "\(session.keeper), and now \(session.laneCount) lanes")
                }
                guard other.lane == session.lane else { continue }
                guard other.number < session.number else {
                    throw TransportError(
                        .refused,
                        "lane \(session.lane) of \(name) to keeper \(session.keeper) is open already"
                    )
                }
                earlier = index
            }
            // From here on whoever ends this session waits for the earlier one too.
            if let earlier { session.follow(sessions.remove(at: earlier)) }
            sessions.append(session)
        }
    }

    /// Copies rows and optimiser state of a keeper of this process as they are after `tick`, block by block, while
    /// all goes on.
    ///
    /// Call it before this process's worker sends its updates of `tick`, and when the copy of the cut before is
    /// not read any more. Where updates are applied on arrival, workers that are ahead must wait for `onFull`, or
    /// the copy has some of their later updates.
    ///
    /// - Parameter onFull: gets the copy, on a keeper's thread.
    /// - Throws: when there is no memory for the copy.
    public func cut(
        keeper index: Int, at tick: UInt64, onFull: @escaping @Sendable (ShardCapture) -> Void
    ) throws(RowStoreError) {
        guard let keeper = keepers[index] else {
            preconditionFailure("keeper \(index) is not in this process")
        }
        try keeper.cut(at: tick, onFull: onFull)
    }

    /// Runs `body` over the rows of a keeper of this process, while its threads stand still, after what has reached
    /// them before.
    ///
    /// Returns when that is done, at once where the keeper has ended.
    public func withRows(
        ofKeeper index: Int, _ body: @escaping @Sendable (RowStore) -> Void
    ) {
        guard let keeper = keepers[index] else {
            preconditionFailure("keeper \(index) is not in this process")
        }
        let done = Signal()
        let result = Outcome()
        let isAccepted = keeper.post {
            body($0)
            done.withLock {
                result.isDone = true
                done.wakeAll()
            }
        }
        guard isAccepted else { return }
        done.withLock { while !result.isDone { _ = done.wait() } }
    }

    /// Whether a keeper has run what it was given.
    private final class Outcome: @unchecked Sendable {
        // Sendable: guarded by the signal beside it.
        var isDone = false
    }

    /// The first phase of a two-phase clock: updates are added up at a keeper of this process, and its optimiser
    /// waits for `releaseSteps`.
    ///
    /// Call it before the own updates of that clock are sent, when all earlier ones are applied.
    ///
    /// - Parameter onHeld: called on one of the keeper's threads, with the sum of squares of the summed gradients, when
    ///   every worker's updates of all blocks are in.
    public func holdSteps(
        ofKeeper index: Int, onHeld: @escaping @Sendable (Double) -> Void
    ) {
        _ = keepers[index]?.hold(onHeld)
    }

    /// The second phase: the optimiser runs on gradients times `gradientScale`, or not at all when that is nil.
    public func releaseSteps(ofKeeper index: Int, gradientScale: Float?) {
        keepers[index]?.release(scale: gradientScale)
    }

    /// Closes all lanes and ends all threads.
    public func close() {
        let sessions = signal.withLock {
            isClosing = true
            return self.sessions
        }
        for session in sessions { session.close() }
        for index in keepers.keys.sorted() { keepers[index]?.stop() }
        for session in sessions { session.join() }
    }
}
