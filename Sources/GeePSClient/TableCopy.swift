internal import GeePSCore
internal import GeePSDevice
internal import GeePSMemory
import Synchronization

/// A worker's copy of one table: the cached rows, their age, and the log of updates on their way out.
final class TableCopy: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`, cached rows and where they are mirrored by `rowsLock`: a block's
    // puller shares it, and whoever needs all rows to stand still has it alone.
    let index: TableIndex
    let layout: TableLayout
    private let blocks: [Block]
    // The rows, and what they are in, unless that is the keeper's own memory.
    private let floats: UnsafeMutablePointer<Float>
    private let cache: SharedBuffer?
    private let device: any Device
    private let placement: TablePlacement
    // Managed memory: device work that reads the cached rows; where they are mirrored. Guarded by `rowsLock`.
    private let rowsAreRead: (any DeviceEvent)?
    private var mirror: RowMirror?
    // By block: its last copy into the mirror.
    private let mirrorCopies: UnsafeMutablePointer<UInt64>
    private let logsMaximum: Int
    private let waitTimeout: Duration
    private let waitNanoseconds: UInt64
    private let keeperName: @Sendable (Int) -> String
    private let rowsLock = SharedLock()
    private let signal = Signal()
    private var state: State
    // The same as `state.holdsRows`, to look at without the lock.
    private let holdsRows = Atomic(false)
    // When the age rose last: looked at without the lock, to see that nobody has waited.
    private let raisedAt = Atomic<UInt64>(0)

    private struct State {
        // By block of the table: age of the cached rows (nil: none yet), last own tick the keeper has.
        var ages: [UInt64?]
        var acknowledged: [UInt64]
        // The least of `ages`, and how many blocks are not beyond it.
        var age: UInt64?
        var laggards: Int
        var raises = Raises()
        var version: UInt64 = 0
        var logs: [Log] = []
        var failure: AccessError?
        var holdsRows = false
        var waiters = 0
        var waits = WaitCounters()
    }

    /// The update of one tick.
    private final class Log {
        let memory: SharedBuffer
        var tick: UInt64?
        init(_ memory: SharedBuffer) { self.memory = memory }
    }

    /// - Parameter rowsInPlace: the keeper's own; nil for a copy of them.
    init(
        index: TableIndex, map: ShardMap, device: any Device, placement: TablePlacement,
        rowsInPlace: UnsafeMutablePointer<Float>?, staleness: Staleness, waitTimeout: Duration,
        keeperName: @escaping @Sendable (Int) -> String
    ) throws(DeviceError) {
        self.index = index
        layout = map.tables[index]
        blocks = Array(map.blocks[map.blocksOfTable[index]])
        self.device = device
        self.waitTimeout = waitTimeout
        waitNanoseconds = Deadline.after(waitTimeout).remainingNanoseconds
        self.keeperName = keeperName
        // One being filled, one on its way, one for each clock this worker may be ahead.
        switch staleness {
        case .clocks(let lag): logsMaximum = 2 + Int(lag)
        case .unbounded: logsMaximum = 4
        }
        self.placement = placement
        mirrorCopies = .allocate(capacity: blocks.count)
        mirrorCopies.initialize(repeating: 0, count: blocks.count)
        let cache =
            rowsInPlace == nil
            ? try placement.allocate(
                byteCount: layout.byteCount, for: .parameterCache, on: device) : nil
        self.cache = cache
        guard let floats = rowsInPlace ?? cache?.floats else {
            preconditionFailure("a table has rows somewhere")
        }
        self.floats = floats
        rowsAreRead = placement.isHost ? try device.makeEvent() : nil
        state = State(
            ages: Array(repeating: nil, count: blocks.count),
            acknowledged: Array(repeating: 0, count: blocks.count), laggards: blocks.count)
        guard placement.isHost, rowsInPlace == nil else { return }
        // Managed memory allocates nothing once a plan is followed; in place a log is what does without one.
        for _ in 0..<logsMaximum {
            state.logs.append(
                Log(
                    try placement.allocate(
                        byteCount: layout.byteCount, for: .updateLog, on: device)))
        }
    }

    deinit { mirrorCopies.deallocate() }

    // MARK: Rows

    var rows: UnsafePointer<Float> { UnsafePointer(floats) }

    var freshness: Freshness? {
        signal.withLock {
            state.age.map { Freshness(age: Tick($0), version: state.version) }
        }
    }

    func withStableRows<R>(_ body: (UnsafePointer<Float>) -> R) -> R {
        rowsLock.withLock { body(rows) }
    }

    /// Runs `body`, which changes `changed` where they are, while nobody reads them.
    func change(_ changed: Range<Int>, _ body: () -> Void) {
        rowsLock.withLock {
            let own = blocks.indices.lazy.filter { [blocks] in blocks[$0].rows.overlaps(changed) }
            waitForCopies(of: own)
            body()
            let first = changed.lowerBound * layout.rowWidth
            let copy = mirror?.update(
                from: floats + first, byteOffset: first * MemoryLayout<Float>.stride,
                byteCount: changed.count * layout.rowBytes)
            guard let copy else { return }
            for block in own { mirrorCopies[block] = copy }
        }
    }

    /// Waits, under `rowsLock`, until copies from these blocks are done; bounded by copies under way.
    private func waitForCopies(of blocks: some Sequence<Int>) {
        // A failed one shows where the rows are used.
        try? rowsAreRead?.wait()
        guard let mirror else { return }
        for block in blocks { mirror.wait(forCopy: mirrorCopies[block]) }
    }

    /// Managed memory: `body` puts work on `stream` that reads the rows; `store` waits until it is done.
    func lendRows<R>(to stream: any DeviceStream, _ body: (UnsafePointer<Float>) -> R) -> R {
        rowsLock.withLock {
            defer { if let rowsAreRead { stream.record(rowsAreRead) } }
            return body(rows)
        }
    }

    /// Managed memory: keeps `mirror` the same as the rows.
    func setMirror(_ mirror: RowMirror?) {
        rowsLock.withLock {
            self.mirror = mirror
            let copy = mirror?.update(from: rows, byteOffset: 0, byteCount: layout.byteCount)
            mirrorCopies.update(repeating: copy ?? 0, count: blocks.count)
        }
    }

    /// Writes fresh rows of block number `block` of this table to the cache; `note` makes them visible.
    ///
    /// A block has one puller; those of different blocks write at once. Waits while rows are held.
    func store(_ payload: UnsafeRawBufferPointer, block: Int) {
        guard let source = payload.baseAddress else { return }
        let first = blocks[block].rows.lowerBound * layout.rowWidth
        let values = source.assumingMemoryBound(to: Float.self)
        let count = payload.count / MemoryLayout<Float>.stride
        waitWhileHeld()
        rowsLock.withSharedLock {
            waitForCopies(of: CollectionOfOne(block))
            copy(values, count: count, into: floats + first)
            guard let mirror else { return }
            mirrorCopies[block] = mirror.update(
                from: floats + first, byteOffset: first * MemoryLayout<Float>.stride,
                byteCount: payload.count)
        }
    }

    /// Rows that arrive wait from now on.
    func holdRows() { setHeld(true) }

    /// They wait no more.
    func takeRows() { setHeld(false) }

    private func setHeld(_ isHeld: Bool) {
        signal.withLock {
            state.holdsRows = isHeld
            holdsRows.store(isHeld, ordering: .releasing)
            if !isHeld { signal.wakeAll() }
        }
    }

    /// Ends with the application's step; `fail` and the store's `close` end it too.
    private func waitWhileHeld() {
        guard holdsRows.load(ordering: .acquiring) else { return }
        signal.withLock {
            while state.holdsRows, state.failure == nil { _ = signal.wait() }
        }
    }

    /// Copies into the cache or into a log.
    private func copy(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        if placement.isHost {
            Kernels.copy(source, to: target, count: count)
        } else {
            device.copy(source, count: count, into: target)
        }
    }

    /// Notes the news about a block; `age` is nil when no rows were stored.
    ///
    /// - Parameter roundTripNanoseconds: since the push of that tick; zero where that is not known.
    func note(
        block: Int, age: UInt64?, acknowledged: UInt64, roundTripNanoseconds: UInt64 = 0
    ) {
        signal.withLock {
            state.acknowledged[block] = max(state.acknowledged[block], acknowledged)
            if let age {
                state.version += 1
                raise(block: block, to: age, roundTripNanoseconds)
            }
            if state.waiters > 0 { signal.wakeAll() }
        }
    }

    func waitForAge(atLeast least: Tick, unless stop: StopFlag?) throws(AccessError) {
        signal.lock()
        defer { signal.unlock() }
        guard try waitForAge(least, for: waitNanoseconds, unless: stop) else {
            throw ageTimedOut(least)
        }
    }

    /// Waits at most `bound`; whether rows of that age are there.
    func waitForAge(atLeast least: Tick, within bound: Duration) throws(AccessError) -> Bool {
        signal.lock()
        defer { signal.unlock() }
        return try waitForAge(
            least, for: Deadline.after(bound).remainingNanoseconds, unless: nil)
    }

    private func waitForAge(
        _ least: Tick, for bound: UInt64, unless stop: StopFlag?
    ) throws(AccessError) -> Bool {
        var begun: UInt64?
        defer { if let begun { state.waits.addRead(monotonicNanoseconds() - begun) } }
        while state.age ?? 0 < least.count || state.age == nil {
            try checkUsable(stop)
            let start = begun ?? monotonicNanoseconds()
            begun = start
            guard wait(since: start, for: bound) else { return false }
        }
        return true
    }

    // MARK: Who waited for what

    /// The rise of the age to `least`, or the last one where that is nil, if it came after `start`: nobody has waited
    /// otherwise.
    ///
    /// - Complexity: one load where the age has not risen since; else the lock for a moment.
    func raise(to least: UInt64?, after start: UInt64) -> Raises.Raise? {
        guard raisedAt.load(ordering: .relaxed) > start else { return nil }
        let raise = signal.withLock {
            if let least { state.raises.first(to: least) } else { state.raises.newest }
        }
        guard let raise, raise.nanoseconds > start else { return nil }
        return raise
    }

    /// The block at a position in the table.
    func block(at position: Int) -> Block { blocks[position] }

    /// By keeper: the first block whose rows are not of age `least`.
    ///
    /// The lock is held for as long as it takes to retain an array: who asks costs no copy of rows a moment.
    func lacking(_ least: UInt64) -> [WorkerStanding.Lack] {
        let ages = signal.withLock { state.ages }
        var found: [Int: WorkerStanding.Lack] = [:]
        for (block, age) in zip(blocks, ages)
        where (age ?? 0 < least || age == nil) && found[block.keeper] == nil {
            found[block.keeper] = WorkerStanding.Lack(
                keeper: block.keeper, rows: block.rows, age: age)
        }
        return found.keys.sorted().compactMap { found[$0] }
    }

    // MARK: Updates

    /// The log of `tick`; waits for the acknowledgement of an old one when all are in use.
    func log(tick: UInt64, isOverwritten: Bool) throws(AccessError) -> UnsafeMutablePointer<Float> {
        signal.lock()
        defer { signal.unlock() }
        if let log = state.logs.first(where: { $0.tick == tick }) { return log.memory.floats }
        let log = try freeLog()
        log.tick = tick
        if !isOverwritten {
            if placement.isHost {
                Kernels.fill(log.memory.floats, with: 0, count: layout.valueCount)
            } else {
                device.zero(log.memory.floats, count: layout.valueCount)
            }
        }
        return log.memory.floats
    }

    /// Puts initial values into the log of tick 0; values beyond them are zero.
    func initialise(_ values: UnsafeBufferPointer<Float>) throws(AccessError) {
        let log = try log(tick: 0, isOverwritten: false)
        if let source = values.baseAddress { copy(source, count: values.count, into: log) }
    }

    /// Values to push for block number `block` and `tick`; nil when there was no update in that tick.
    func payload(block: Int, tick: UInt64) -> UnsafeRawBufferPointer? {
        guard let first = update(ofTick: tick) else { return nil }
        let rows = blocks[block].rows
        return UnsafeRawBufferPointer(
            start: first + rows.lowerBound * layout.rowWidth, count: rows.count * layout.rowBytes)
    }

    /// The whole update of `tick`; nil when there was none.
    func update(ofTick tick: UInt64) -> UnsafePointer<Float>? {
        signal.withLock {
            state.logs.first { $0.tick == tick }.map { UnsafePointer($0.memory.floats) }
        }
    }

    var waits: WaitCounters { signal.withLock { state.waits } }

    // MARK: Ends

    /// Lets every present and future wait fail.
    func fail(_ error: AccessError) {
        signal.withLock {
            if state.failure == nil { state.failure = error }
            signal.wakeAll()
        }
    }

    func wakeWaiters() { signal.withLock { signal.wakeAll() } }

    // MARK: Inside, under `signal`

    private func raise(block: Int, to age: UInt64, _ roundTripNanoseconds: UInt64) {
        let wasLaggard = state.ages[block] == nil || state.ages[block] == state.age
        state.ages[block] = max(state.ages[block] ?? 0, age)
        if wasLaggard, state.ages[block] != state.age { state.laggards -= 1 }
        guard state.laggards == 0 else { return }
        let least = state.ages.reduce(UInt64.max) { min($0, $1 ?? 0) }
        let now = monotonicNanoseconds()
        state.raises.add(
            Raises.Raise(
                age: least, block: block, roundTripNanoseconds: roundTripNanoseconds,
                nanoseconds: now))
        raisedAt.store(now, ordering: .relaxed)
        state.age = least
        state.laggards = state.ages.count { $0 == least }
    }

    private func wait(since start: UInt64, for bound: UInt64) -> Bool {
        state.waiters += 1
        defer { state.waiters -= 1 }
        return signal.wait(until: Deadline(nanoseconds: start + bound))
    }

    private func checkUsable(_ stop: StopFlag?) throws(AccessError) {
        if let failure = state.failure { throw failure }
        if let stop, stop.isRaised { throw AccessError(.closed, "the wait was called off") }
    }

    private func freeLog() throws(AccessError) -> Log {
        var begun: UInt64?
        defer { if let begun { state.waits.addUpdate(monotonicNanoseconds() - begun) } }
        while true {
            try checkUsable(nil)
            if let log = state.logs.first(where: isFree) { return log }
            if state.logs.count < logsMaximum { return try newLog() }
            let start = begun ?? monotonicNanoseconds()
            begun = start
            guard wait(since: start, for: waitNanoseconds) else { throw logTimedOut() }
        }
    }

    /// A log is free when every keeper has what is in it.
    ///
    /// The log of tick 0 holds initial values; they are there once rows have come back.
    private func isFree(_ log: Log) -> Bool {
        guard let tick = log.tick else { return true }
        if tick == 0 { return state.age != nil }
        return state.acknowledged.allSatisfy { $0 >= tick }
    }

    private func newLog() throws(AccessError) -> Log {
        do {
            let log = Log(
                try placement.allocate(
                    byteCount: layout.byteCount, for: .updateLog, on: device))
            state.logs.append(log)
            return log
        } catch {
            throw AccessError(.outOfMemory, "update log of table \(layout.name): \(error.message)")
        }
    }

    private func ageTimedOut(_ least: Tick) -> AccessError {
        let block = state.ages.firstIndex { $0 ?? 0 < least.count || $0 == nil } ?? 0
        let have = state.ages[block].map { "have age \($0)" } ?? "no initial values came"
        return AccessError(
            .deadline,
            "read of table \(layout.name) waited \(waitTimeout) for rows \(blocks[block].rows) of age "
                + "\(least) from \(keeperName(blocks[block].keeper)): \(have)")
    }

    private func logTimedOut() -> AccessError {
        let oldest = state.logs.compactMap(\.tick).min() ?? 0
        let block = state.acknowledged.firstIndex { $0 < oldest } ?? 0
        return AccessError(
            .deadline,
            "update of table \(layout.name) waited \(waitTimeout) for \(keeperName(blocks[block].keeper)) "
                + "to acknowledge rows \(blocks[block].rows) of tick \(oldest)")
    }
}

/// How often and how long threads waited for a table.
public struct WaitCounters: Hashable, Sendable {
    /// Waits for rows that are fresh enough.
    public var reads: UInt64 = 0
    /// Nanoseconds of these.
    public var readNanoseconds: UInt64 = 0
    /// Waits for an update log that the keepers have acknowledged.
    public var updates: UInt64 = 0
    /// Nanoseconds of these.
    public var updateNanoseconds: UInt64 = 0

    /// No wait.
    public init() {}

    mutating func addRead(_ nanoseconds: UInt64) {
        reads += 1
        readNanoseconds += nanoseconds
    }

    mutating func addUpdate(_ nanoseconds: UInt64) {
        updates += 1
        updateNanoseconds += nanoseconds
    }
}
