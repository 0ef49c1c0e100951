internal import GeePSCore
internal import GeePSMemory
import Synchronization

/// One of several parallel ways to a keeper, with its pusher and its puller.
///
/// The pusher sends this lane's blocks in the order their tables were committed; the puller writes fresh
/// rows into the cache. A lane outlives its connection: the puller makes another when one is lost. The protocol's
/// state is the lane's own; `signal` is held to decide, never to send.
final class Lane: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`; the rest is constant after `start`.
    let keeper: Int
    let laneIndex: Int
    let laneCount: Int
    let rank: Int
    let blocks: [Block]
    let positionInTable: [Int]
    let tables: [TableCopy]
    /// The connection that the lane was made with.
    let first: any Connection
    let repair: LaneRepair?
    private let blocksOfTable: [[Int]]
    private let learningRate: @Sendable (TableIndex, UInt64) -> Double
    private var onFailure: (@Sendable (TransportError, Lane) -> Void)?
    let signal = Signal()
    var state: State
    private var pusher: DedicatedThread?
    private var puller: DedicatedThread?
    // For who asks what this lane is at: the block that is being sent and since when; zero while none is.
    let sendingBlock = Atomic<Int>(0)
    let sendingTick = Atomic<UInt64>(0)
    let sendingSince = Atomic<UInt64>(0)

    struct State {
        var rules: WorkerProtocol
        // Blocks that may have something to send, oldest first; each at most once.
        var queue: [Int] = []
        var queueHead = 0
        var isQueued: [Bool]
        // Blocks whose initial values this worker gives, and those that the keeper does not have yet.
        var hasInitial: [Bool]
        var needsInitial: [Bool]
        var isStopping = false
        var pushes: PushTimes
        // Waits that keepers have not been told of.
        var notices: [Notice] = []
        // Nothing more is sent or received.
        var isOver = false
        // The newest connection; what the ones before have carried.
        var connection: any Connection
        var bytesSentBefore: UInt64 = 0
        var bytesReceivedBefore: UInt64 = 0
        // `connection` while the pusher may use it: both sides have said what they have, and nobody has found it
        // broken.
        var link: (any Connection)?
        // The pusher is inside a send.
        var isSending = false
        // Why it could not.
        var loss: TransportError?
        // The goodbye has gone out on `link`.
        var hasSaidGoodbye = false
        var repairs = RepairCounters()
    }

    private enum Job {
        case initialise(block: Int)
        case push(block: Int, tick: UInt64, busyNanoseconds: UInt64, since: UInt64)
        case waited(Notice)
        case goodbye
    }

    /// A wait for the rows of a block.
    struct Notice {
        var block: Int
        var tick: UInt64
        var times: WaitNotice
    }

    /// The lane's blocks are those of `keeper` whose index leaves `laneIndex` when divided by `laneCount`.
    init(
        keeper: Int, laneIndex: Int, laneCount: Int, rank: Int, connection: any Connection,
        repair: LaneRepair?, map: ShardMap, tables: [TableCopy], staleness: Staleness,
        learningRate: @escaping @Sendable (TableIndex, UInt64) -> Double, firstTick: Tick
    ) {
        self.keeper = keeper
        self.laneIndex = laneIndex
        self.laneCount = laneCount
        self.rank = rank
        first = connection
        self.repair = repair
        self.tables = tables
        self.learningRate = learningRate
        let blocks = map.blocksOfKeeper[keeper].map { map.blocks[$0] }
            .filter { $0.indexInKeeper % laneCount == laneIndex }
        self.blocks = blocks
        positionInTable = blocks.map { $0.index - map.blocksOfTable[$0.table].lowerBound }
        var blocksOfTable = [[Int]](repeating: [], count: tables.count)
        for (local, block) in blocks.enumerated() { blocksOfTable[block.table].append(local) }
        self.blocksOfTable = blocksOfTable
        state = State(
            rules: WorkerProtocol(
                tableOfBlock: blocks.map(\.table), tableCount: tables.count, staleness: staleness,
                restoredAt: firstTick.count),
            isQueued: Array(repeating: false, count: blocks.count),
            hasInitial: Array(repeating: false, count: blocks.count),
            needsInitial: Array(repeating: false, count: blocks.count),
            pushes: PushTimes(
                blockCount: blocks.count, tableCount: tables.count, staleness: staleness),
            connection: connection)
    }

    /// Starts both threads; `onFailure` is called by the puller when a connection is lost and not to be replaced.
    func start(onFailure: @escaping @Sendable (TransportError, Lane) -> Void) {
        self.onFailure = onFailure
        pusher = DedicatedThread(name: "push \(keeper).\(laneIndex)") { [self] in runPusher() }
        puller = DedicatedThread(name: "pull \(keeper).\(laneIndex)") { [self] in runPuller() }
    }

    /// The initial values of `table` are in its log of tick 0.
    func initialise(table: TableIndex) {
        signal.withLock {
            for block in blocksOfTable[table] {
                state.hasInitial[block] = true
                state.needsInitial[block] = true
                enqueue(block)
            }
        }
    }

    /// Raises the clock of `table`, for which the worker was busy for so long.
    func commit(table: TableIndex, busyNanoseconds: UInt64) {
        signal.withLock {
            let tick = state.rules.commit(table: table)
            state.pushes.noteBusy(busyNanoseconds, table: table, tick: tick)
            for block in blocksOfTable[table] { enqueue(block) }
        }
    }

    /// Sends what is queued, says goodbye, waits for the keeper's and ends both threads.
    ///
    /// Only the keeper's goodbye says that all has arrived: a connection lost before it is made anew, and what was
    /// lost sent again. Closing before it could reset the connection and destroy ours.
    func close() {
        signal.withLock {
            state.isStopping = true
            signal.wakeAll()
        }
        pusher?.join()
        puller?.join()
        signal.withLock { state.connection }.close()
    }

    /// Ends both threads without sending anything more.
    func abort() {
        let connection = signal.withLock {
            state.isOver = true
            signal.wakeAll()
            return state.connection
        }
        connection.close()
    }

    // MARK: The pusher

    private func runPusher() {
        while let (job, connection) = nextJob() {
            do throws(TransportError) {
                try perform(job, on: connection)
            } catch {
                lose(connection, error)
            }
        }
    }

    /// What to send next and by which connection; nil when the lane is over.
    private func nextJob() -> (Job, any Connection)? {
        signal.lock()
        defer { signal.unlock() }
        if state.isSending {
            state.isSending = false
            // The puller waits for this when the connection is lost.
            if state.link == nil { signal.wakeAll() }
        }
        while !state.isOver {
            if let link = state.link, let job = dequeueJob() {
                state.isSending = true
                return (job, link)
            }
            _ = signal.wait()
        }
        return nil
    }

    // With the signal held.
    private func dequeueJob() -> Job? {
        if !state.notices.isEmpty { return .waited(state.notices.removeFirst()) }
        while let block = dequeue() {
            if state.needsInitial[block] {
                state.needsInitial[block] = false
                enqueue(block)
                return .initialise(block: block)
            }
            if let tick = state.rules.nextPush(block: block) {
                if state.rules.hasUnsent(block: block) { enqueue(block) }
                let now = monotonicNanoseconds()
                state.pushes.noteSent(block: block, tick: tick, at: now)
                return .push(
                    block: block, tick: tick,
                    busyNanoseconds: state.pushes.busy(table: blocks[block].table, tick: tick),
                    since: now)
            }
        }
        guard state.isStopping, !state.hasSaidGoodbye else { return nil }
        state.hasSaidGoodbye = true
        return .goodbye
    }

    private func perform(_ job: Job, on connection: any Connection) throws(TransportError) {
        switch job {
        case .initialise(let local):
            try connection.send(
                header(.initialise, block: local, tick: 0), payload: payload(local, tick: 0))
        case .push(let local, let tick, let busy, let since):
            sendingBlock.store(local, ordering: .relaxed)
            sendingTick.store(tick, ordering: .relaxed)
            sendingSince.store(since, ordering: .relaxed)
            defer { sendingSince.store(0, ordering: .relaxed) }
            var header = header(.push, block: local, tick: tick)
            header.second = learningRate(blocks[local].table, tick).bitPattern
            header.setPush(
                block: blocks[local].indexInKeeper,
                busyMicroseconds: WaitNotice.microseconds(busy))
            try connection.send(header, payload: payload(local, tick: tick))
        case .waited(let notice):
            var header = header(.waited, block: notice.block, tick: notice.tick)
            header.notice = notice.times
            try connection.send(header, bytes: [])
        case .goodbye: try connection.send(FrameHeader(.goodbye), bytes: [])
        }
    }

    private func payload(_ local: Int, tick: UInt64) -> UnsafeRawBufferPointer {
        tables[blocks[local].table].payload(block: positionInTable[local], tick: tick)
            ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    private func header(_ kind: FrameKind, block local: Int, tick: UInt64) -> FrameHeader {
        let block = blocks[local]
        var header = FrameHeader(kind)
        header.table = UInt32(block.table)
        header.sender = UInt32(rank)
        header.firstRow = UInt64(block.rows.lowerBound)
        header.rowCount = UInt32(block.rows.count)
        header.tick = tick
        header.third = UInt64(block.indexInKeeper)
        return header
    }

    // MARK: Ends

    /// The keeper has said goodbye.
    func finish() {
        signal.withLock {
            state.isOver = true
            signal.wakeAll()
        }
    }

    /// The lane has failed, unless it was over before.
    func report(_ error: TransportError) {
        let isExpected = signal.withLock {
            defer {
                state.isOver = true
                signal.wakeAll()
            }
            return state.isOver
        }
        if !isExpected { onFailure?(error, self) }
    }

    // MARK: The queue, under `signal`

    func enqueue(_ block: Int) {
        guard !state.isQueued[block] else { return }
        state.isQueued[block] = true
        state.queue.append(block)
        signal.wakeAll()
    }

    private func dequeue() -> Int? {
        guard state.queueHead < state.queue.count else {
            state.queue.removeAll(keepingCapacity: true)
            state.queueHead = 0
            return nil
        }
        let block = state.queue[state.queueHead]
        state.queueHead += 1
        state.isQueued[block] = false
        return block
    }
}
