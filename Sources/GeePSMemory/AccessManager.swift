public import GeePSCore
public import GeePSDevice

/// Lends memory to the application: rows to read, room for updates, local data.
///
/// One application thread calls it. Reads of consecutive rows under BSP are lent in place, from the
/// parameter cache, because no fresh rows can arrive before this worker's own next update of the table
/// leaves (the pushers hold it back while such a buffer is out). All other reads are copies, gathered
/// ahead by the allocator. An update that is its table's only one and covers it is written straight into
/// the update log; all others are added to it by the reclaimer.
///
/// With managed memory a planned iteration lives where its placement says, and everything else is served by
/// itself (`ManagedMemory`).
public final class AccessManager: @unchecked Sendable {
    // Sendable: buffers are dropped wherever the application drops them, so `state` is guarded by `signal`;
    // the tracker, the tick and managed memory are touched by the application's thread only.
    let store: any ParameterStore
    let device: any Device
    let tables: [TableLayout]
    let managed: ManagedMemory?
    let pool: AccessBufferPool
    let signal = Signal()
    var state: State
    var tracker = AccessTracker()
    var batches: [RowBatch] = []
    var locals: [SharedBuffer] = []
    var allocator: Allocator?
    var allocatorSequence = 0
    var readOrdinals: [Int?] = []
    var lastUpdates: [Int?]
    var updateCounts: [Int]
    var reclaimer: Reclaimer?
    var defaultStaleness: Staleness
    /// No rows arrive before this worker's next update leaves, whatever single reads ask for.
    let isBulkSynchronousJob: Bool
    /// Prepared rows are gathered again before they are lent where newer ones have come.
    let refreshesReads: Bool
    /// By table: sums of the iteration that are on the device and will be copied over a log as it is.
    var openSums: [TableIndex: OpenSum] = [:]
    /// Buffers that come back from now on have nowhere to go.
    private(set) var isClosed = false
    /// By table: the tick that an update of the iteration before it is in already.
    var lateTicks: [TableIndex: Tick] = [:]
    /// The staleness was changed: the next clock plans anew.
    var mustReplan = false

    struct State {
        var tick: Tick
        // By table: reads lent in place; a clock that waits for them; the clock was raised this iteration.
        var inPlaceReads: [Int]
        var clockWaits: [Bool]
        var clockRaised: [Bool]
        // By table: its updates have left though its rows are lent, which therefore do not change yet.
        var isSentAhead: [Bool]
        var counters = AccessCounters()
        // What a buffer that came back could not say itself.
        var failure: AccessError?
        // What the threads of a placement go by.
        var staleness: Staleness
    }

    /// A manager for `tables` over the client's `store`.
    ///
    /// - Parameters:
    ///   - memory: nil where everything stays on the device, at one address.
    ///   - refreshesReads: false lends what was prepared, old as it may be: for comparison.
    ///   - firstTick: clocks completed before.
    /// - Throws: `.outOfMemory` when managed memory cannot be set up.
    public init(
        tables: [TableLayout], store: any ParameterStore, device: any Device, staleness: Staleness,
        memory: MemoryConfiguration? = nil, refreshesReads: Bool = true, firstTick: Tick = .zero
    ) throws(AccessError) {
        self.tables = tables
        self.store = store
        self.device = device
        var managed: ManagedMemory?
        if let memory {
            managed = try ManagedMemory(
                memory, device: device, store: store, tableCount: tables.count)
        }
        self.managed = managed
        pool = AccessBufferPool(device: device, isOnHost: managed != nil)
        defaultStaleness = staleness
        isBulkSynchronousJob = staleness == .bulkSynchronous
        self.refreshesReads = refreshesReads
        lastUpdates = Array(repeating: nil, count: tables.count)
        updateCounts = Array(repeating: 0, count: tables.count)
        state = State(
            tick: firstTick, inPlaceReads: Array(repeating: 0, count: tables.count),
            clockWaits: Array(repeating: false, count: tables.count),
            clockRaised: Array(repeating: false, count: tables.count),
            isSentAhead: Array(repeating: false, count: tables.count), staleness: staleness)
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

    /// Makes room for data of this worker only; in managed memory when it is used.
    public func localBatch(name: String, byteCount: Int, for purpose: MemoryPurpose = .localData)
        throws(AccessError) -> LocalBatch
    {
        if let managed {
            managed.locals.append(
                ManagedMemory.LocalState(name: name, byteCount: byteCount, purpose: purpose))
            return LocalBatch(
                id: managed.locals.count - 1, name: name, byteCount: byteCount)
        }
        do {
            locals.append(SharedBuffer(try device.allocate(byteCount: byteCount, for: purpose)))
        } catch {
            throw AccessError(.outOfMemory, "local data \(name): \(error.message)")
        }
        return LocalBatch(id: locals.count - 1, name: name, byteCount: byteCount)
    }

    /// Follows `plan` from the next access on: the allocator runs ahead of it, and a table's clock is
    /// raised at its last update instead of at `clock()`.
    ///
    /// - Parameter placement: where managed memory has what; nil to make one.
    /// - Throws: in managed memory `.budgetTooSmall` with what would do, and `.outOfMemory`.
    public func follow(_ plan: AccessPlan, placement: Placement? = nil) throws(AccessError) {
        tracker.follow(plan)
        try adopt(plan, placement)
    }

    /// Where the application's kernels run, if not on its own thread: buffers are then ready for, and given back
    /// in, the order of this stream's work.
    ///
    /// Managed memory only; set before the first plan.
    public var applicationStream: (any DeviceStream)? {
        get { managed?.application }
        set { managed?.application = newValue }
    }

    /// The placement that is followed; nil where none is.
    public var placement: Placement? { managed?.run?.placement }

    // MARK: An iteration

    /// Completed clocks.
    public var tick: Tick { signal.withLock { state.tick } }

    /// How far reads may lag from now on.
    public var staleness: Staleness {
        get { defaultStaleness }
        set {
            guard newValue != defaultStaleness else { return }
            defaultStaleness = newValue
            signal.withLock { state.staleness = newValue }
            if managed != nil {
                // Not now: buffers may be held.
                mustReplan = true
            } else if let plan = tracker.plan {
                do throws(AccessError) { try adopt(plan, nil) } catch { keep(error) }
            }
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
        let position = isPlanned ? note(Access(.read, batch: batch.id)) : nil
        let staleness = staleness ?? defaultStaleness
        let least = staleness.leastAge(at: tick)
        if isPlanned, let managed {
            return try readManaged(
                managed, batch, at: position, least: least, staleness: staleness)
        }
        // Once the clock is raised, fresh rows may come at any time.
        if isBulkSynchronousJob, staleness == .bulkSynchronous, !hasRaised(batch.table),
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
        return try room(
            for: batch, at: note(Access(.update, batch: batch.id)), isOverwritten: isOverwritten)
    }

    /// Takes an update of `batch` whose values the caller has: read before this returns.
    ///
    /// - Parameters:
    ///   - pieces: in order and apart.
    ///   - copy: writes them, and zeros around them, where the rows cannot be stepped by them at once.
    /// - Returns: whether they were.
    public func update(
        _ batch: RowBatch, from pieces: [GradientPiece],
        copy: (UnsafeMutableBufferPointer<Float>) -> Void
    ) throws(AccessError) -> Bool {
        try rethrowFailure()
        let position = note(Access(.update, batch: batch.id))
        guard isLast(position, of: batch) else {
            let room = try room(for: batch, at: position, isOverwritten: true)
            copy(UnsafeMutableBufferPointer(start: room.values, count: room.count))
            room.finish()
            return false
        }
        _ = note(Access(.endUpdate, batch: batch.id))
        signal.withLock {
            state.counters.updates += 1
            state.clockRaised[batch.table] = true
        }
        managed?.noteTaken(batch)
        store.raiseClock(of: batch.table, from: pieces)
        return true
    }

    /// Updates are made in managed memory and copied out; not where rows are stepped in place by what the caller has.
    var updatesMove: Bool { managed != nil && !store.stepsInPlace }

    /// Whether rows can be stepped in place by this update, which begins at `position`: it is all there is, and nobody
    /// looks at them.
    private func isLast(_ position: Int?, of batch: RowBatch) -> Bool {
        guard batch.isWholeTable, let position, updateCounts[batch.table] == 1,
            lastUpdates[batch.table] == position + 1, reclaimer?.isIdle == true,
            signal.withLock({
                state.inPlaceReads[batch.table] == 0 && !state.clockRaised[batch.table]
            })
        else { return false }
        return store.canStepInPlace(batch.table)
    }

    private func room(
        for batch: RowBatch, at position: Int?, isOverwritten: Bool
    ) throws(AccessError) -> UpdateBuffer {
        // After the clock was raised an update can only belong to the next tick.
        let isLate = hasRaised(batch.table)
        let target = isLate ? tick.next.next : tick.next
        if let managed, updatesMove {
            return try updateManaged(
                managed, batch, at: isLate ? nil : position, tick: target,
                isOverwritten: isOverwritten)
        }
        let isAlone = batch.isWholeTable && updateCounts[batch.table] == 1 && !isLate
        // Taken here and not by the reclaimer: logs are handed out in the order of ticks, or a late absorb
        // could wait for a log that is only acknowledged after a clock that waits behind it.
        let log = try store.log(
            of: batch.table, tick: target, isOverwritten: isAlone && isOverwritten)
        if isAlone {
            let lease = Lease(batch: batch.id, memory: .none, isTraced: true, tick: target)
            return UpdateBuffer(
                values: log, count: batch.valueCount, lease: lease, manager: self)
        }
        let memory = try pool.take(valueCount: batch.valueCount)
        if !isOverwritten { device.zero(memory.address, count: batch.valueCount) }
        let lease = Lease(batch: batch.id, memory: .pooled(memory), isTraced: true, tick: target)
        return UpdateBuffer(
            values: memory.address, count: batch.valueCount, lease: lease, manager: self)
    }

    /// Lends local data: with `fetch` what was kept last, without it anything.
    ///
    /// - Throws: managed memory only: what went wrong copying, `.outOfMemory` outside the plan, `.contentLost`.
    public func local(_ batch: LocalBatch, fetch: Bool) throws(AccessError) -> LocalBuffer {
        try local(batch, at: note(Access(.local, batch: batch.id, matters: fetch)), fetch: fetch)
    }

    func local(
        _ batch: LocalBatch, at position: Int?, fetch: Bool
    ) throws(AccessError) -> LocalBuffer {
        if let managed {
            try rethrowFailure()
            return try localManaged(managed, batch, at: position, fetch: fetch)
        }
        return LocalBuffer(
            address: locals[batch.id].address, byteCount: batch.byteCount,
            lease: Lease(batch: batch.id, memory: .none, isTraced: true), manager: self)
    }

    /// Lets the planned iteration's updates of `table` leave now, though its rows are lent in place.
    ///
    /// What is lent does not change until it is given back, which must be before `clock`. Does nothing where more
    /// updates may come, or nothing is lent, or rows are stepped in place: the updates then leave by themselves.
    public func sendAhead(_ table: TableIndex) {
        guard !store.stepsInPlace else { return }
        let mustRaise = signal.withLock {
            guard state.clockWaits[table] else { return false }
            state.clockWaits[table] = false
            state.isSentAhead[table] = true
            // Under the lock: who gives the rows back on another thread lets them go after this.
            store.holdRows(of: table)
            return true
        }
        if mustRaise { raiseClock(of: table) }
    }

    /// Ends the iteration; waits only where it was not the planned one and managed memory is laid out anew.
    ///
    /// Tables not yet committed are committed.
    @discardableResult
    public func clock() -> Tick {
        if let table = signal.withLock({ state.isSentAhead.firstIndex(of: true) }) {
            keep(
                AccessError(
                    .protocolViolation,
                    "the updates of table \(tables[table].name) were sent ahead while its rows were lent, and "
                        + "these were not given back before the clock"))
        }
        let replanned = tracker.clock()
        if replanned != nil { abandonPlacement() }
        for table in tables.indices where !hasRaised(table) { requestClock(of: table) }
        let tick = signal.withLock { () -> Tick in
            state.tick = state.tick.next
            for table in tables.indices { state.clockRaised[table] = false }
            return state.tick
        }
        allocatorSequence += allocator?.readsPerIteration ?? 0
        managed?.run?.clock()
        let next = replanned ?? (mustReplan ? tracker.plan : nil)
        mustReplan = false
        guard let next else { return tick }
        do throws(AccessError) {
            try adopt(next, nil)
        } catch {
            // Accesses are then served one by one; a budget that is too small even for that says so there.
            if error.code != .budgetTooSmall { keep(error) }
        }
        return tick
    }

    /// Waits until every finished update is in the log and every raised clock is handed to the pushers.
    public func drain() {
        reclaimer?.drain()
        managed?.drain()
    }

    /// Ends the threads.
    ///
    /// Buffers still lent stay valid until dropped.
    public func close() {
        isClosed = true
        allocator?.stop()
        allocator = nil
        managed?.stop()
        reclaimer?.stop()
        reclaimer = nil
        managed?.close()
    }

    /// What managed memory has counted; nil where memory is not managed.
    public var managedCounters: ManagedCounters? { managed?.counters }

    /// What has been counted since the start.
    public var counters: AccessCounters {
        signal.withLock {
            var counters = state.counters
            counters.planDeviations = tracker.deviations
            counters.replans = tracker.replans
            return counters
        }
    }
}
