internal import GeePSCore

/// The rows of one shard and the threads that own them, block by block in turn.
///
/// Blocks know nothing of each other, so threads need no lock between them and any number gives the same bits.
final class Keeper: @unchecked Sendable {
    // Sendable: `capture` is touched by the one who asks for cuts; the rest is constant after init.
    let blocks: [Block]
    let publications: Publications
    let store: RowStore
    private let board: KeeperBoard
    private let ledger: WaitLedger
    private var capture: ShardCapture?
    let threads: [KeeperThread]
    /// In place: who helps with steps.
    let crew: Crew
    private let posting = Signal()

    init(
        index: Int, configuration: ServerConfiguration, lanesMaximum: Int,
        onFailure: @escaping @Sendable (TransportError, Session) -> Void
    ) throws(RowStoreError) {
        let policy = ApplyPolicy(configuration.staleness)
        let map = configuration.map
        let blocks = map.blocksOfKeeper[index].map { map.blocks[$0] }
        let publications = Publications(
            blockCount: blocks.count, workerCount: configuration.workerCount,
            copies: policy != .aggregated(staleness: 0))
        let store = try RowStore(
            shardMap: map, keeper: index, optimizer: Optimizer(configuration.optimizer),
            tableOptimizers: configuration.tableOptimizers.map { Optimizer($0) })
        if let restored = configuration.restored { try restored.fill(store) }
        self.store = store
        self.blocks = blocks
        self.publications = publications
        let board = KeeperBoard(
            keeper: index, blocks: blocks, workerCount: configuration.workerCount,
            firstTick: configuration.restored?.tick ?? 0)
        let ledger = WaitLedger(workerCount: configuration.workerCount)
        self.board = board
        self.ledger = ledger
        let isInPlace = configuration.isInPlace
        let threadCount = isInPlace ? 1 : configuration.keeperThreads
        crew = Crew(
            helperCount: isInPlace ? configuration.keeperThreads - 1 : 0, name: "keeper \(index)")
        threads = (0..<threadCount).map { part in
            KeeperThread(
                part: part, of: threadCount, store: store,
                publications: publications, board: board, ledger: ledger,
                workerCount: configuration.workerCount,
                policy: policy, lanesMaximum: lanesMaximum,
                restoredTick: configuration.restored?.tick, isInPlace: isInPlace,
                onFailure: onFailure)
        }
    }

    /// Where it stands; makes no thread of it wait.
    func standing(now: UInt64) -> KeeperStanding { board.standing(now: now) }

    /// What it has found out about waits for its rows.
    var waitShares: WaitShares { ledger.value }

    /// Starts the threads.
    func start() { for thread in threads { thread.start() } }

    /// Hands a frame to the thread of its block; waits while that is behind.
    ///
    /// False when the keeper has stopped. A block that does not exist has a thread too, which refuses it.
    func post(_ frame: consuming ReceivedFrame, from session: Session) -> Bool {
        let part = Int(frame.header.blockInKeeper % UInt64(threads.count))
        return threads[part].post(frame, from: session)
    }

    /// A worker's lane is open.
    func post(joined session: Session) {
        for thread in threads { thread.post(joined: session) }
    }

    /// Copies every block when its `tick` is applied, while all goes on; `onFull` gets the whole.
    ///
    /// The copy of the last cut is used again: nobody may read it any more.
    func cut(
        at tick: UInt64, onFull: @escaping @Sendable (ShardCapture) -> Void
    ) throws(RowStoreError) {
        if capture == nil { capture = try ShardCapture(store) }
        guard let capture else { return }
        capture.begin(tick: tick, onFull: onFull)
        for thread in threads { thread.post(capture) }
    }

    /// Has `body` run over the rows while all threads stand still; false when the keeper has stopped.
    func post(_ body: @escaping @Sendable (RowStore) -> Void) -> Bool {
        let halt = Halt(threadCount: threads.count, body)
        // Behind each other in every mailbox: two of them at once would wait for each other.
        return posting.withLock { threads.allSatisfy { $0.post(halt) } }
    }

    /// Lets every block wait before its next step until `release`, and tells `onHeld` the sum of squares of all
    /// gradients as soon as all do; false when the keeper has stopped.
    func hold(_ onHeld: @escaping @Sendable (Double) -> Void) -> Bool {
        let norms = BlockNorms(
            blockCount: blocks.count, threadCount: threads.count, onComplete: onHeld)
        return threads.allSatisfy { $0.hold(norms) }
    }

    /// Lets the blocks go on, with gradients multiplied by `scale`, or dropped when it is nil.
    func release(scale: Float?) { for thread in threads { thread.release(scale: scale) } }

    /// Finishes what is in the mailboxes and ends the threads.
    func stop() {
        // All or none has a halt in its mailbox: a thread that waits for one that has ended would never end.
        posting.withLock { for thread in threads { thread.close() } }
        for thread in threads { thread.join() }
        crew.close()
    }
}

/// A moment at which all threads of a keeper stand still and one of them runs a closure over the rows.
///
/// A thread waits for the others to reach it, and then for the closure: neither waits for a worker.
final class Halt: @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`.
    private let body: @Sendable (RowStore) -> Void
    private let signal = Signal()
    private var missing: Int
    private var isOver = false

    init(threadCount: Int, _ body: @escaping @Sendable (RowStore) -> Void) {
        missing = threadCount
        self.body = body
    }

    /// A thread is here.
    func arrive(_ store: RowStore) {
        let isLast = signal.withLock {
            missing -= 1
            return missing == 0
        }
        if isLast {
            body(store)
            signal.withLock {
                isOver = true
                signal.wakeAll()
            }
        } else {
            signal.withLock { while !isOver { _ = signal.wait() } }
        }
    }
}

/// Sums of squares by block, which a keeper's threads find together.
final class BlockNorms: @unchecked Sendable {
    // Sendable: a block's norm is written by its thread, before that counts down under `signal`.
    private let norms: UnsafeMutablePointer<Double>
    private let blockCount: Int
    private let onComplete: @Sendable (Double) -> Void
    private let signal = Signal()
    private var missing: Int

    init(blockCount: Int, threadCount: Int, onComplete: @escaping @Sendable (Double) -> Void) {
        norms = .allocate(capacity: blockCount)
        norms.initialize(repeating: 0, count: blockCount)
        self.blockCount = blockCount
        self.onComplete = onComplete
        missing = threadCount
    }

    deinit { norms.deallocate() }

    /// Sets the norm of a block; its thread does.
    func set(_ norm: Double, of block: Int) { norms[block] = norm }

    /// A thread has set all of its blocks; the last one tells the sum.
    func threadIsDone() {
        let isLast = signal.withLock {
            missing -= 1
            return missing == 0
        }
        guard isLast else { return }
        // In the order of blocks, whoever came first and however many threads there are.
        onComplete((0..<blockCount).reduce(0) { $0 + norms[$1] })
    }
}
