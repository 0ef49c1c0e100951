internal import GeePSCore
internal import GeePSMemory
import Synchronization

/// One of several parallel connections to a keeper, with its pusher and its puller.
///
/// The pusher sends this lane's blocks in the order their tables were committed; the puller writes fresh
/// rows into the cache. The protocol's state is the lane's own; `signal` is held to decide, never to send.
final class Lane: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`; the rest is constant after `start`.
    let keeper: Int
    private let laneIndex: Int
    private let laneCount: Int
    private let rank: Int
    private let connection: any Connection
    private let blocks: [Block]
    private let positionInTable: [Int]
    private let blocksOfTable: [[Int]]
    private let tables: [TableCopy]
    private let learningRate: @Sendable (TableIndex, UInt64) -> Double
    private var onFailure: (@Sendable (TransportError, Lane) -> Void)?
    private let signal = Signal()
    private var state: State
    private var pusher: DedicatedThread?
    private var puller: DedicatedThread?
    // For who asks what this lane is at: the block that is being sent and since when; zero while none is.
    private let sendingBlock = Atomic<Int>(0)
    private let sendingTick = Atomic<UInt64>(0)
    private let sendingSince = Atomic<UInt64>(0)

    private struct State {
        var rules: WorkerProtocol
        // Blocks that may have something to send, oldest first; each at most once.
        var queue: [Int] = []
        var queueHead = 0
        var isQueued: [Bool]
        var needsInitial: [Bool]
        var isStopping = false
        var pushes: PushTimes
        // Waits that keepers have not been told of.
        var notices: [Notice] = []
    }

    private enum Job {
        case initialise(block: Int)
        case push(block: Int, tick: UInt64, busyNanoseconds: UInt64, since: UInt64)
        case waited(Notice)
    }

    /// A wait for the rows of a block.
    private struct Notice {
        var block: Int
        var tick: UInt64
        var times: WaitNotice
    }

    /// The lane's blocks are those of `keeper` whose index leaves `laneIndex` when divided by `laneCount`.
    init(
        keeper: Int, laneIndex: Int, laneCount: Int, rank: Int, connection: any Connection,
        map: ShardMap, tables: [TableCopy], staleness: Staleness,
        learningRate: @escaping @Sendable (TableIndex, UInt64) -> Double, firstTick: Tick
    ) {
        self.keeper = keeper
        self.laneIndex = laneIndex
        self.laneCount = laneCount
        self.rank = rank
        self.connection = connection
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
            needsInitial: Array(repeating: false, count: blocks.count),
            pushes: PushTimes(
                blockCount: blocks.count, tableCount: tables.count, staleness: staleness))
    }

    /// Starts both threads; `onFailure` is called by the one that finds the connection broken.
    func start(onFailure: @escaping @Sendable (TransportError, Lane) -> Void) {
        self.onFailure = onFailure
        pusher = DedicatedThread(name: "push \(keeper).\(laneIndex)") { [self] in runPusher() }
        puller = DedicatedThread(name: "pull \(keeper).\(laneIndex)") { [self] in runPuller() }
    }

    /// The initial values of `table` are in its log of tick 0.
    func initialise(table: TableIndex) {
        signal.withLock {
            for block in blocksOfTable[table] {
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

    /// Tells the keeper of a wait for rows of this lane.
    ///
    /// Behind nothing but the frame that is being sent; before the block's next push, so that the keeper still knows
    /// when the pushes of `tick` came.
    func tell(ofWaitFor block: Block, tick: UInt64, _ times: WaitNotice) {
        let local = (block.indexInKeeper - laneIndex) / laneCount
        signal.withLock {
            state.notices.append(Notice(block: local, tick: tick, times: times))
            signal.wakeAll()
        }
    }

    /// The push that is being sent, if one is; no lock is taken.
    func sending(now: UInt64) -> WorkerStanding.Sending? {
        let since = sendingSince.load(ordering: .relaxed)
        let local = sendingBlock.load(ordering: .relaxed)
        guard since > 0, blocks.indices.contains(local) else { return nil }
        return WorkerStanding.Sending(
            keeper: keeper, table: blocks[local].table, rows: blocks[local].rows,
            tick: sendingTick.load(ordering: .relaxed), nanoseconds: now - min(now, since))
    }

    /// Whether a block of the keeper is this lane's.
    func carries(_ block: Block) -> Bool {
        block.keeper == keeper && block.indexInKeeper % laneCount == laneIndex
    }

    /// Whether frames leave the process.
    var isOutside: Bool { connection.carrier != .inProcess }
    var bytesSent: UInt64 { connection.bytesSent }
    var bytesReceived: UInt64 { connection.bytesReceived }
    var peer: String { connection.peer }

    /// Sends what is queued, says goodbye, waits for the keeper's and ends both threads.
    ///
    /// Closing before the keeper's goodbye could reset the connection and destroy ours.
    func close() {
        signal.withLock {
            state.isStopping = true
            signal.wakeAll()
        }
        pusher?.join()
        puller?.join()
        connection.close()
    }

    /// Ends both threads without sending anything more.
    func abort() {
        connection.close()
        signal.withLock {
            state.isStopping = true
            state.queue = []
            state.queueHead = 0
            signal.wakeAll()
        }
    }

    // MARK: The pusher

    private func runPusher() {
        do throws(TransportError) {
            while let job = nextJob() { try perform(job) }
            try connection.send(
                FrameHeader(.goodbye), payload: UnsafeRawBufferPointer(start: nil, count: 0))
        } catch {
            report(error)
        }
    }

    private func nextJob() -> Job? {
        signal.lock()
        defer { signal.unlock() }
        while true {
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
                        busyNanoseconds: state.pushes.busy(
                            table: blocks[block].table, tick: tick), since: now)
                }
            }
            guard !state.isStopping else { return nil }
            _ = signal.wait()
        }
    }

    private func perform(_ job: Job) throws(TransportError) {
        switch job {
        case .initialise(let local):
            let block = blocks[local]
            try send(
                .initialise, block: local, tick: 0, payload: payload(of: block, local, tick: 0))
        case .push(let local, let tick, let busy, let since):
            let block = blocks[local]
            sendingBlock.store(local, ordering: .relaxed)
            sendingTick.store(tick, ordering: .relaxed)
            sendingSince.store(since, ordering: .relaxed)
            defer { sendingSince.store(0, ordering: .relaxed) }
            try send(
                .push, block: local, tick: tick, busyNanoseconds: busy,
                payload: payload(of: block, local, tick: tick))
        case .waited(let notice):
            var header = header(.waited, block: notice.block, tick: notice.tick)
            header.notice = notice.times
            try connection.send(header, payload: UnsafeRawBufferPointer(start: nil, count: 0))
        }
    }

    private func payload(of block: Block, _ local: Int, tick: UInt64) -> UnsafeRawBufferPointer {
        tables[block.table].payload(block: positionInTable[local], tick: tick)
            ?? UnsafeRawBufferPointer(start: nil, count: 0)
    }

    private func send(
        _ kind: FrameKind, block local: Int, tick: UInt64, busyNanoseconds: UInt64 = 0,
        payload: UnsafeRawBufferPointer
    ) throws(TransportError) {
        var header = header(kind, block: local, tick: tick)
        if kind == .push {
            header.second = learningRate(blocks[local].table, tick).bitPattern
            header.setPush(
                block: blocks[local].indexInKeeper,
                busyMicroseconds: WaitNotice.microseconds(busyNanoseconds))
        }
        try connection.send(header, payload: payload)
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

    // MARK: The puller

    private func runPuller() {
        do throws(TransportError) {
            while true {
                let frame = try connection.receive(deadline: nil)
                if frame.header.kind == .goodbye { return }
                try take(frame, at: monotonicNanoseconds())
            }
        } catch {
            report(error)
        }
    }

    private func take(
        _ frame: borrowing ReceivedFrame, at nanoseconds: UInt64
    ) throws(TransportError) {
        let header = frame.header
        let local = try locate(header, payloadBytes: frame.payload.count)
        let block = blocks[local]
        let (verdict, sent) = signal.withLock {
            (
                state.rules.offer(block: local, age: header.tick, acknowledging: header.second),
                state.pushes.sent(block: local, tick: header.tick)
            )
        }
        let table = tables[block.table]
        switch verdict {
        case .store:
            table.store(frame.payload, block: positionInTable[local])
            signal.withLock {
                state.rules.stored(block: local, age: header.tick)
                if state.rules.hasUnsent(block: local) { enqueue(local) }
            }
            table.note(
                block: positionInTable[local], age: header.tick, acknowledged: header.second,
                roundTripNanoseconds: sent.map { nanoseconds - $0 } ?? 0)
        case .stale:
            table.note(block: positionInTable[local], age: nil, acknowledged: header.second)
        case .refused(let refusal):
            throw TransportError(
                .malformed,
                "\(connection.peer) sent rows of table \(table.layout.name), rows \(block.rows), age "
                    + "\(header.tick), acknowledging tick \(header.second): \(refusal)")
        }
    }

    /// The block a rows frame speaks of; every field is checked against the shard map.
    private func locate(_ header: FrameHeader, payloadBytes: Int) throws(TransportError) -> Int {
        guard header.kind == .rows else {
            throw TransportError(
                .malformed, "\(connection.peer) sent a \(header.kind) frame where rows are expected"
            )
        }
        let local = Int(truncatingIfNeeded: header.third) / laneCount
        guard header.third < UInt64(Int32.max), blocks.indices.contains(local),
            blocks[local].indexInKeeper == Int(header.third)
        else {
            throw TransportError(
                .malformed,
                "\(connection.peer) sent rows of block \(header.third), which is not of this lane")
        }
        let block = blocks[local]
        let layout = tables[block.table].layout
        guard header.table == UInt32(block.table), header.firstRow == UInt64(block.rows.lowerBound),
            Int(header.rowCount) == block.rows.count,
            payloadBytes == block.rows.count * layout.rowBytes
        else {
            throw TransportError(
                .malformed,
                "\(connection.peer) sent table \(header.table) rows \(header.firstRow)+\(header.rowCount) "
                    + "in \(payloadBytes) bytes for block \(header.third), expected table \(block.table) "
                    + "rows \(block.rows) in \(block.rows.count * layout.rowBytes)")
        }
        return local
    }

    private func report(_ error: TransportError) {
        let isExpected = signal.withLock { state.isStopping }
        if !isExpected { onFailure?(error, self) }
    }

    // MARK: The queue, under `signal`

    private func enqueue(_ block: Int) {
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
