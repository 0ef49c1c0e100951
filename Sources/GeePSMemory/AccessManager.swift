public import GeePSCore
public import GeePSDevice

/// Lends memory to the application: rows to read, room for updates, local data.
///
/// One application thread calls it. Reads of consecutive rows under BSP are lent in place, from the
/// parameter cache, because no fresh rows can arrive before this worker's own next update of the table
/// leaves (the pushers hold it back while such a buffer is out). All other reads are copies, gathered
/// ahead by the allocator. An update that is its table's only one and covers it is written straight into
/// the update log; all others are added to it by the reclaimer.
public final class AccessManager: @unchecked Sendable {
    // Sendable: buffers are dropped wherever the application drops them, so `state` is guarded by `signal`;
    // the tracker and the tick are touched by the application's thread only.
    let store: any ParameterStore
    let device: any Device
    private let tables: [TableLayout]
    private let pool: AccessBufferPool
    private let signal = Signal()
    private var state: State
    private var tracker = AccessTracker()
    private var batches: [RowBatch] = []
    private var locals: [LocalStorage] = []
    private var allocator: Allocator?
    private var allocatorSequence = 0
    private var readOrdinals: [Int?] = []
    private var lastUpdates: [Int?]
    private var updateCounts: [Int]
    private var reclaimer: Reclaimer?
    private var defaultStaleness: Staleness
    /// No rows arrive before this worker's next update leaves, whatever single reads ask for.
    private let isBulkSynchronousJob: Bool

    private struct State {
        var tick = Tick.zero
        // By table: reads lent in place; a clock that waits for them; the clock was raised this iteration.
        var inPlaceReads: [Int]
        var clockWaits: [Bool]
        var clockRaised: [Bool]
        var counters = AccessCounters()
    }

    private final class LocalStorage {
        let buffer: DeviceBuffer
        init(_ buffer: consuming DeviceBuffer) { self.buffer = buffer }
    }

    /// A manager for `tables` over the client's `store`.
    public init(
        tables: [TableLayout], store: any ParameterStore, device: any Device, staleness: Staleness
    ) {
        self.tables = tables
        self.store = store
        self.device = device
        pool = AccessBufferPool(device: device)
        defaultStaleness = staleness
        isBulkSynchronousJob = staleness == .bulkSynchronous
        lastUpdates = Array(repeating: nil, count: tables.count)
        updateCounts = Array(repeating: 0, count: tables.count)
        state = State(
            inPlaceReads: Array(repeating: 0, count: tables.count),
            clockWaits: Array(repeating: false, count: tables.count),
            clockRaised: Array(repeating: false, count: tables.count))
        reclaimer = Reclaimer { [unowned self] work throws(AccessError) in try perform(work) }
    }

    // MARK: Setting up

    /// Prepares a batch of consecutive rows.
    public func batch(of table: TableIndex, rows: Range<Int>) -> RowBatch {
        let layout = tables[table]
        precondition(
            rows.lowerBound >= 0 && rows.upperBound <= layout.rowCount && !rows.isEmpty,
            "table \(layout.name) has rows 0..<\(layout.rowCount), asked for \(rows)")
        return register(table: table, rowCount: rows.count, selection: .run(rows))
    }

    /// Prepares the whole of a table as a batch.
    public func batch(of table: TableIndex) -> RowBatch {
        batch(of: table, rows: 0..<tables[table].rowCount)
    }

    /// Prepares a batch of any rows, in any order, repeated or not.
    public func batch(of table: TableIndex, rows: some Collection<Int>) throws(AccessError)
        -> RowBatch
    {
        let layout = tables[table]
        precondition(!rows.isEmpty, "a batch of table \(layout.name) needs at least one row")
        for row in rows {
            precondition(
                (0..<layout.rowCount).contains(row),
                "table \(layout.name) has rows 0..<\(layout.rowCount), asked for row \(row)")
        }
        do {
            let index = try RowIndex(rows: rows, on: device)
            return register(table: table, rowCount: rows.count, selection: .list(index))
        } catch {
            throw AccessError(.outOfMemory, "index of \(rows.count) rows: \(error.message)")
        }
    }

    /// Makes room for data of this worker only.
    public func localBatch(name: String, byteCount: Int, for purpose: MemoryPurpose = .localData)
        throws(AccessError) -> LocalBatch
    {
        do {
            locals.append(LocalStorage(try device.allocate(byteCount: byteCount, for: purpose)))
        } catch {
            throw AccessError(.outOfMemory, "local data \(name): \(error.message)")
        }
        return LocalBatch(id: locals.count - 1, name: name, byteCount: byteCount)
    }

    /// Follows `plan` from the next access on: the allocator runs ahead of it, and a table's clock is
    /// raised at its last update instead of at `clock()`.
    public func follow(_ plan: AccessPlan) {
        tracker.follow(plan)
        adopt(plan)
    }

    // MARK: An iteration

    /// Completed clocks.
    public var tick: Tick { signal.withLock { state.tick } }

    /// How far reads may lag from now on.
    public var staleness: Staleness {
        get { defaultStaleness }
        set {
            guard newValue != defaultStaleness else { return }
            defaultStaleness = newValue
            if let plan = tracker.plan { adopt(plan) }
        }
    }

    /// Lends the rows of `batch`; waits until they are fresh enough.
    ///
    /// - Parameters:
    ///   - staleness: nil for the manager's.
    ///   - isPlanned: false for reads outside the repeated iteration, such as an evaluation: they are not
    ///     traced.
    public func read(
        _ batch: RowBatch, staleness: Staleness? = nil, isPlanned: Bool = true
    ) throws(AccessError) -> ReadBuffer {
        try rethrowFailure()
        let position = isPlanned ? tracker.note(Access(.read, batch: batch.id)) : nil
        let staleness = staleness ?? defaultStaleness
        let least = staleness.leastAge(at: tick)
        if isBulkSynchronousJob, staleness == .bulkSynchronous,
            case .run(let rows) = batch.selection
        {
            return try readInPlace(batch, rows: rows, least: least, isTraced: isPlanned)
        }
        guard let position, let allocator, let ordinal = readOrdinals[position] else {
            return try readOnDemand(batch, least: least, isTraced: isPlanned)
        }
        let sequence = allocatorSequence + ordinal
        let prepared = try allocator.take(sequence: sequence)
        var freshness = prepared.freshness
        if freshness.age < least || isOutdated(freshness, batch: batch, staleness: staleness) {
            // Refreshed just before lending: the newest admissible rows, not the oldest (j-21).
            try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
            freshness = gather(batch, into: prepared.memory)
            signal.withLock { state.counters.refreshes += 1 }
        }
        return lend(batch, prepared.memory, age: freshness.age, isTraced: true)
    }

    /// Lends room for an update of `batch`.
    ///
    /// - Parameter isOverwritten: the caller writes every value; otherwise the room starts as zeros.
    public func update(_ batch: RowBatch, isOverwritten: Bool = true) throws(AccessError)
        -> UpdateBuffer
    {
        try rethrowFailure()
        _ = tracker.note(Access(.update, batch: batch.id))
        // After the clock was raised an update can only belong to the next tick.
        let isLate = hasRaised(batch.table)
        let target = isLate ? tick.next.next : tick.next
        let isAlone = batch.isWholeTable && updateCounts[batch.table] == 1 && !isLate
        // Taken here and not by the reclaimer: logs are handed out in the order of ticks, or a late absorb
        // could wait for a log that is only acknowledged after a clock that waits behind it.
        let log = try store.log(
            of: batch.table, tick: target, isOverwritten: isAlone && isOverwritten)
        if isAlone {
            let lease = Lease(batch: batch.id, memory: nil, isTraced: true, tick: target)
            return UpdateBuffer(
                values: log, count: batch.valueCount, lease: lease, manager: self)
        }
        let memory = try pool.take(valueCount: batch.valueCount)
        if !isOverwritten { device.zero(memory.address, count: batch.valueCount) }
        let lease = Lease(batch: batch.id, memory: memory, isTraced: true, tick: target)
        return UpdateBuffer(
            values: memory.address, count: batch.valueCount, lease: lease, manager: self)
    }

    /// Lends local data: with `fetch` what was kept last, without it anything.
    public func local(_ batch: LocalBatch, fetch: Bool) -> LocalBuffer {
        _ = tracker.note(Access(.local, batch: batch.id, matters: fetch))
        return LocalBuffer(
            address: locals[batch.id].buffer.address, byteCount: batch.byteCount,
            lease: Lease(batch: batch.id, memory: nil, isTraced: true), manager: self)
    }

    /// Ends the iteration; never waits.
    ///
    /// Tables not yet committed are committed.
    @discardableResult
    public func clock() -> Tick {
        let replanned = tracker.clock()
        for table in tables.indices where !hasRaised(table) { requestClock(of: table) }
        let tick = signal.withLock { () -> Tick in
            state.tick = state.tick.next
            for table in tables.indices { state.clockRaised[table] = false }
            return state.tick
        }
        allocatorSequence += allocator?.readsPerIteration ?? 0
        if let replanned { adopt(replanned) }
        return tick
    }

    /// Waits until every finished update is in the log and every raised clock is handed to the pushers.
    public func drain() { reclaimer?.drain() }

    /// Ends the threads.
    ///
    /// Buffers still lent stay valid until dropped.
    public func close() {
        allocator?.stop()
        allocator = nil
        reclaimer?.stop()
        reclaimer = nil
    }

    /// What has been counted since the start.
    public var counters: AccessCounters {
        signal.withLock {
            var counters = state.counters
            counters.planDeviations = tracker.deviations
            counters.replans = tracker.replans
            return counters
        }
    }

    // MARK: Buffers come back

    func endRead(_ lease: Lease) {
        if lease.isTraced { _ = tracker.note(Access(.endRead, batch: lease.batch)) }
        if let memory = lease.memory {
            pool.giveBack(memory)
            return
        }
        let table = batches[lease.batch].table
        let mustRaise = signal.withLock {
            state.inPlaceReads[table] -= 1
            guard state.inPlaceReads[table] == 0, state.clockWaits[table] else { return false }
            state.clockWaits[table] = false
            return true
        }
        if mustRaise { reclaimer?.send(.raiseClock(table)) }
    }

    func endUpdate(_ lease: Lease, isComplete: Bool) {
        let batch = batches[lease.batch]
        let position = tracker.note(Access(.endUpdate, batch: batch.id))
        if isComplete {
            signal.withLock { state.counters.updates += 1 }
            if let memory = lease.memory {
                // The clock may have been raised while the buffer was out.
                let tick = hasRaised(batch.table) ? self.tick.next.next : lease.tick
                reclaimer?.send(.absorb(batch, memory, tick: tick))
            }
        } else {
            discardUpdate(lease, of: batch)
        }
        if position != nil, position == lastUpdates[batch.table], !hasRaised(batch.table) {
            requestClock(of: batch.table)
        }
    }

    func endLocal(_ lease: Lease, keep: Bool) {
        _ = tracker.note(Access(.endLocal, batch: lease.batch, matters: keep))
    }

    // MARK: Inside

    private func register(table: TableIndex, rowCount: Int, selection: RowSelection) -> RowBatch {
        let layout = tables[table]
        var isWhole = false
        if case .run(let rows) = selection { isWhole = rows.count == layout.rowCount }
        let batch = RowBatch(
            id: batches.count, table: table, rowCount: rowCount, rowWidth: layout.rowWidth,
            selection: selection, isWholeTable: isWhole)
        batches.append(batch)
        return batch
    }

    private func readInPlace(
        _ batch: RowBatch, rows: Range<Int>, least: Tick, isTraced: Bool
    ) throws(AccessError) -> ReadBuffer {
        // Counted before the wait, so that a clock raised meanwhile already waits for this buffer.
        signal.withLock {
            state.inPlaceReads[batch.table] += 1
            state.counters.readsInPlace += 1
        }
        do {
            try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
        } catch {
            signal.withLock { state.inPlaceReads[batch.table] -= 1 }
            throw error
        }
        let first = store.cachedRows(of: batch.table) + rows.lowerBound * batch.rowWidth
        let age = store.freshness(of: batch.table)?.age ?? least
        return ReadBuffer(
            values: first, count: batch.valueCount, age: age,
            lease: Lease(batch: batch.id, memory: nil, isTraced: isTraced), manager: self)
    }

    private func readOnDemand(
        _ batch: RowBatch, least: Tick, isTraced: Bool
    ) throws(AccessError) -> ReadBuffer {
        try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
        let memory = try pool.take(valueCount: batch.valueCount)
        let freshness = gather(batch, into: memory)
        signal.withLock { state.counters.readsOnDemand += 1 }
        return lend(batch, memory, age: freshness.age, isTraced: isTraced)
    }

    private func lend(
        _ batch: RowBatch, _ memory: PooledMemory, age: Tick, isTraced: Bool
    ) -> ReadBuffer {
        signal.withLock { state.counters.readsCopied += 1 }
        return ReadBuffer(
            values: UnsafePointer(memory.address), count: batch.valueCount, age: age,
            lease: Lease(batch: batch.id, memory: memory, isTraced: isTraced), manager: self)
    }

    /// Under BSP rows cannot change before this worker's next update, so a prepared copy is the newest.
    private func isOutdated(
        _ freshness: Freshness, batch: RowBatch, staleness: Staleness
    ) -> Bool {
        staleness != .bulkSynchronous && store.freshness(of: batch.table) != freshness
    }

    private func gather(_ batch: RowBatch, into memory: PooledMemory) -> Freshness {
        store.withStableRows(of: batch.table) { rows in
            switch batch.selection {
            case .run(let range):
                device.copy(
                    rows + range.lowerBound * batch.rowWidth, count: batch.valueCount,
                    into: memory.address)
            case .list(let index):
                device.gatherRows(
                    rows, indexes: index.entries, count: batch.rowCount, rowWidth: batch.rowWidth,
                    into: memory.address)
            }
            return store.freshness(of: batch.table) ?? Freshness(age: .zero, version: 0)
        }
    }

    private func perform(_ work: Reclaimer.Work) throws(AccessError) {
        switch work {
        case .raiseClock(let table):
            store.raiseClock(of: table)
        case .absorb(let batch, let memory, let tick):
            defer { pool.giveBack(memory) }
            let log = try store.log(of: batch.table, tick: tick, isOverwritten: false)
            switch batch.selection {
            case .run(let rows):
                device.add(
                    UnsafePointer(memory.address), count: batch.valueCount,
                    into: log + rows.lowerBound * batch.rowWidth)
            case .list(let index):
                device.scatterAddRows(
                    UnsafePointer(memory.address), indexes: index.entries, count: batch.rowCount,
                    rowWidth: batch.rowWidth, into: log)
            }
        }
    }

    /// An update that was not finished counts as none.
    private func discardUpdate(_ lease: Lease, of batch: RowBatch) {
        signal.withLock { state.counters.updatesDiscarded += 1 }
        if let memory = lease.memory {
            pool.giveBack(memory)
        } else if let log = try? store.log(of: batch.table, tick: lease.tick, isOverwritten: true) {
            device.zero(log, count: batch.valueCount)
        }
    }

    /// Raises the clock of `table`, after what the reclaimer still has to add and after the last buffer
    /// lent in place has come back.
    private func requestClock(of table: TableIndex) {
        let mustRaise = signal.withLock {
            state.clockRaised[table] = true
            state.clockWaits[table] = state.inPlaceReads[table] > 0
            return !state.clockWaits[table]
        }
        if mustRaise { reclaimer?.send(.raiseClock(table)) }
    }

    private func hasRaised(_ table: TableIndex) -> Bool {
        signal.withLock { state.clockRaised[table] }
    }

    private func rethrowFailure() throws(AccessError) {
        if let failure = reclaimer?.failure { throw failure }
    }

    /// Derives from `plan` where clocks are raised, which updates go straight to the log, and what the
    /// allocator prepares.
    private func adopt(_ plan: AccessPlan) {
        let tableOfBatch = batches.map(\.table)
        lastUpdates = plan.lastUpdates(tableOfBatch: tableOfBatch, tableCount: tables.count)
        updateCounts = plan.updateCounts(tableOfBatch: tableOfBatch, tableCount: tables.count)
        allocator?.stop()
        allocator = nil
        allocatorSequence = 0
        var reads: [PlannedRead] = []
        readOrdinals = plan.accesses.map { access in
            guard access.kind == .read, needsCopy(batches[access.batch]) else { return nil }
            reads.append(PlannedRead(batch: batches[access.batch]))
            return reads.count - 1
        }
        guard !reads.isEmpty else { return }
        allocator = Allocator(
            store: store, reads: reads, firstTick: tick, staleness: defaultStaleness,
            take: { [pool] batch throws(AccessError) in try pool.take(valueCount: batch.valueCount)
            },
            giveBack: { [pool] memory in pool.giveBack(memory) },
            gather: { [unowned self] batch, memory in gather(batch, into: memory) })
    }

    private func needsCopy(_ batch: RowBatch) -> Bool {
        guard case .run = batch.selection, isBulkSynchronousJob else { return true }
        return defaultStaleness != .bulkSynchronous
    }
}

/// What an access manager counts.
public struct AccessCounters: Sendable, Hashable {
    /// Reads lent from the parameter cache without a copy.
    public var readsInPlace: UInt64 = 0
    /// Reads lent as copies.
    public var readsCopied: UInt64 = 0
    /// Copies made while the application waited, because no plan foresaw them.
    public var readsOnDemand: UInt64 = 0
    /// Prepared copies that were gathered again because fresher rows had come.
    public var refreshes: UInt64 = 0
    /// Updates handed over.
    public var updates: UInt64 = 0
    /// Update buffers dropped without `finish()`.
    public var updatesDiscarded: UInt64 = 0
    /// Accesses that were not where the plan has them.
    public var planDeviations: UInt64 = 0
    /// Plans replaced by what an iteration did.
    public var replans: UInt64 = 0

    /// Nothing counted.
    public init() {}
}
