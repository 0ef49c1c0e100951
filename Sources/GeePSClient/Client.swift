public import GeePSCore
public import GeePSDevice
public import GeePSMemory

/// What a client must know about its job; equal on all workers but for the rank.
public struct ClientConfiguration: Sendable {
    /// Which keeper owns which rows.
    public var map: ShardMap
    /// This worker.
    public var rank: Int
    /// How far reads may lag, and so how far workers may run ahead of the slowest.
    public var staleness: Staleness
    /// Most time a read or an update waits before it fails with an error.
    public var waitTimeout: Duration
    /// How device memory is managed; nil: everything stays on the device.
    public var memory: MemoryConfiguration?
    /// Learning rate of the update of a table that completes a tick; travels with every push.
    public var learningRate: @Sendable (TableIndex, UInt64) -> Double
    /// Clocks completed before: the tick that the keepers are restored at.
    public var firstTick = Tick.zero
    /// How lanes whose connection is lost get another; nil: the client then fails.
    public var repair: LaneRepair?
    /// The job's only keeper, where it is in this process and this is its only worker; there are no lanes then.
    public var keeperInPlace: (any KeeperInPlace)?
    /// Rows that were prepared ahead are gathered again before they are lent where newer ones have come.
    ///
    /// False lends them as old as they are, as the original did: for comparison.
    public var refreshesReads = true

    /// A configuration.
    public init(
        map: ShardMap, rank: Int, staleness: Staleness = .bulkSynchronous,
        waitTimeout: Duration = .seconds(120), memory: MemoryConfiguration? = nil,
        learningRate: @escaping @Sendable (TableIndex, UInt64) -> Double
    ) {
        self.map = map
        self.rank = rank
        self.staleness = staleness
        self.waitTimeout = waitTimeout
        self.memory = memory
        self.learningRate = learningRate
    }
}

/// A worker's side of the parameter server.
///
/// Keeps a copy of all tables in device memory, sends updates and receives fresh rows in the background.
/// One application thread calls `read`, `update`, `local` and `clock`; only the first three can wait.
///
/// ```swift
/// let rows = try client.read(batch)          // waits until fresh enough
/// let update = try client.update(batch)      // room for gradients
/// ...                                         // compute
/// update.finish()                             // handed over; sent while the next layer computes
/// client.clock()                              // never waits
/// ```
public final class Client: Sendable {
    /// What the client was made with.
    public let configuration: ClientConfiguration
    /// Memory of this worker.
    public let device: any Device
    private let store: Store
    private let manager: AccessManager

    /// A client over `connections[keeper][lane]`; its threads run from here on.
    ///
    /// - Throws: `.outOfMemory` when the parameter cache does not fit the device.
    public init(
        configuration: ClientConfiguration, device: any Device, connections: [[any Connection]]
    ) throws(AccessError) {
        precondition(
            connections.count
                == (configuration.keeperInPlace == nil ? configuration.map.keeperCount : 0),
            "\(configuration.map.keeperCount) keepers, connections to \(connections.count)")
        self.configuration = configuration
        self.device = device
        store = try Store(configuration: configuration, device: device, connections: connections)
        var memory = configuration.memory
        memory?.waitTimeout = configuration.waitTimeout
        manager = try AccessManager(
            tables: configuration.map.tables, store: store, device: device,
            staleness: configuration.staleness, memory: memory,
            refreshesReads: configuration.refreshesReads, firstTick: configuration.firstTick)
        store.start()
    }

    // MARK: Setting up

    /// Prepares the whole of a table as a batch.
    public func batch(of table: TableIndex) -> RowBatch { manager.batch(of: table) }

    /// Prepares consecutive rows as a batch.
    public func batch(of table: TableIndex, rows: Range<Int>) -> RowBatch {
        manager.batch(of: table, rows: rows)
    }

    /// Prepares rows in any order, repeated or not, as a batch.
    public func batch(of table: TableIndex, rows: some Collection<Int>) throws(AccessError)
        -> RowBatch
    {
        try manager.batch(of: table, rows: rows)
    }

    /// Makes room for data of this worker only; where memory is managed, when it is used.
    public func localBatch(name: String, byteCount: Int, for purpose: MemoryPurpose = .localData)
        throws(AccessError) -> LocalBatch
    {
        try manager.localBatch(name: name, byteCount: byteCount, for: purpose)
    }

    /// Gives local data a first content, which the first access with `fetch` finds; before the dry run.
    ///
    /// - Parameter values: as many as `batch` has room for.
    public func write(_ values: [Float], to batch: LocalBatch) throws(AccessError) {
        try manager.write(values, to: batch)
    }

    /// What was kept of local data; between iterations, on which it has no influence.
    ///
    /// Waits for the copies under way, not for the application's kernels where memory is not managed.
    public func values(of batch: LocalBatch) throws(AccessError) -> [Float] {
        try manager.values(of: batch)
    }

    /// Gives a table its initial values; one worker does, all workers' first reads wait for it.
    ///
    /// - Parameter values: at most the table's `valueCount`; the rest is zero.
    public func initialise(_ table: TableIndex, values: UnsafeBufferPointer<Float>)
        throws(AccessError)
    {
        let layout = configuration.map.tables[table]
        precondition(
            values.count <= layout.valueCount,
            "table \(layout.name) holds \(layout.valueCount) values, got \(values.count)")
        try store.initialise(table, values: values)
    }

    /// Records an iteration without data and follows it from now on (the dry run, GeePS §4.1).
    ///
    /// - Parameter placement: where managed memory has what; nil to make one.
    /// - Throws: in managed memory only: `.budgetTooSmall`, with the least budget and what would do;
    ///   `.outOfMemory`.
    public func dryRun(
        placement: Placement? = nil, _ iteration: (inout AccessRecorder) -> Void
    ) throws(AccessError) {
        var recorder = AccessRecorder()
        iteration(&recorder)
        try manager.follow(recorder.plan, placement: placement)
    }

    /// Where the application's kernels run, if not on its own thread: buffers are then ready for, and given back
    /// in, the order of this stream's work.
    ///
    /// Managed memory only; set before the dry run.
    public func setApplicationStream(_ stream: (any DeviceStream)?) {
        manager.applicationStream = stream
    }

    /// The placement that is followed; nil where none is.
    public var placement: Placement? { manager.placement }

    // MARK: An iteration

    /// Completed clocks.
    public var tick: Tick { manager.tick }

    /// How far reads may lag from now on.
    ///
    /// Not looser than the job's staleness in effect: pushes never run further ahead than that.
    public var staleness: Staleness {
        get { manager.staleness }
        set { manager.staleness = newValue }
    }

    /// Waits until rows of `table` are as fresh as a read of now needs them, at most `bound`.
    ///
    /// - Returns: whether they are; the read then does not wait for anybody.
    public func waitUntilFresh(_ table: TableIndex, within bound: Duration) throws(AccessError)
        -> Bool
    {
        let least = manager.staleness.leastAge(at: manager.tick)
        let start = store.application.enter(.read, table: table, neededAge: least.count)
        defer { store.leave(table, needing: least.count, since: start, isPlanned: true) }
        return try store.waitForAge(of: table, atLeast: least, within: bound)
    }

    /// Lends the rows of `batch`; waits until they are fresh enough.
    ///
    /// - Parameters:
    ///   - staleness: for this read; nil for the client's.
    ///   - isPlanned: false for reads outside the repeated iteration, such as an evaluation.
    public func read(
        _ batch: RowBatch, staleness: Staleness? = nil, isPlanned: Bool = true
    ) throws(AccessError) -> ReadBuffer {
        let least = (staleness ?? manager.staleness).leastAge(at: manager.tick).count
        let start = store.application.enter(.read, table: batch.table, neededAge: least)
        defer { store.leave(batch.table, needing: least, since: start, isPlanned: isPlanned) }
        return try manager.read(batch, staleness: staleness, isPlanned: isPlanned)
    }

    /// Lends room for an update of `batch`; waits when all update logs are on their way.
    ///
    /// - Parameter isOverwritten: the caller writes every value; otherwise the room starts as zeros.
    public func update(_ batch: RowBatch, isOverwritten: Bool = true) throws(AccessError)
        -> UpdateBuffer
    {
        let start = store.application.enter(.update, table: batch.table)
        defer { store.leave(batch.table, needing: nil, since: start, isPlanned: true) }
        return try manager.update(batch, isOverwritten: isOverwritten)
    }

    /// Takes an update of `batch` whose values the caller has: read before this returns.
    ///
    /// Where the keeper is in place and the plan has nothing left of the table, its rows are stepped by it at once,
    /// without a copy; else `copy` is called for the room that `update` would lend, all of which it writes.
    ///
    /// - Parameter pieces: in order and apart.
    public func update(
        _ batch: RowBatch, from pieces: [GradientPiece],
        copy: (UnsafeMutableBufferPointer<Float>) -> Void
    ) throws(AccessError) {
        let start = store.application.enter(.update, table: batch.table)
        var isStepped = false
        defer {
            // The optimiser's own time is no wait.
            if isStepped {
                store.application.goOn()
            } else {
                store.leave(batch.table, needing: nil, since: start, isPlanned: true)
            }
        }
        isStepped = try manager.update(batch, from: pieces, copy: copy)
    }

    /// Lends local data: with `fetch` what was kept last, without it anything.
    ///
    /// - Throws: where memory is managed: what went wrong bringing it in, `.outOfMemory` or `.contentLost`
    ///   outside the plan.
    public func local(_ batch: LocalBatch, fetch: Bool) throws(AccessError) -> LocalBuffer {
        let start = store.application.enter(.local)
        defer { _ = store.application.leave(since: start) }
        return try manager.local(batch, fetch: fetch)
    }

    /// Lets the next plan leave what is put into local data with the caller, as if `put` had been told that it may be.
    public func letStay(_ batch: LocalBatch) { manager.letStay(batch) }

    /// Puts content into local data, or leaves it with the caller where the plan has it on the device until it is used.
    ///
    /// - Parameters:
    ///   - left: where the caller has it, and can keep it as it is until the next access, which lends this very memory,
    ///     is over; nil where it cannot.
    ///   - copy: writes it, where it is not left.
    /// - Returns: whether it is left.
    /// - Throws: as `local`.
    public func put(
        _ batch: LocalBatch, left bytes: UnsafeMutableRawPointer?,
        copy: (UnsafeMutableRawPointer) -> Void
    ) throws(AccessError) -> Bool {
        let start = store.application.enter(.local)
        defer { _ = store.application.leave(since: start) }
        return try manager.put(batch, left: bytes, copy: copy)
    }

    /// Lets the planned iteration's updates of `table` leave now, though its rows are lent in place.
    ///
    /// What is lent does not change until it is given back, which must be before `clock`: fresh rows wait for it, and
    /// rows of other tables may wait behind them. Does nothing where more updates may come, or nothing is lent.
    public func sendAhead(_ table: TableIndex) { manager.sendAhead(table) }

    /// Ends the iteration; never waits, unless it was not the planned one and memory is managed: it is then laid
    /// out anew.
    ///
    /// Tables that were not updated are committed without an update.
    @discardableResult
    public func clock() -> Tick { manager.clock() }

    // MARK: Watching and ending

    /// Waits until what the application has given back is copied to where it goes, so that counters are complete.
    public func drain() { manager.drain() }

    /// What has been counted since the start.
    public var counters: ClientCounters {
        ClientCounters(
            access: manager.counters, memory: manager.managedCounters, waits: store.waits,
            stallNanoseconds: stallNanoseconds,
            rowWaitNanoseconds: store.application.rowWaitNanoseconds,
            startWaitNanoseconds: store.application.startWaitNanoseconds,
            repairs: store.repairs,
            bytesSent: store.bytesSent, bytesReceived: store.bytesReceived,
            bytesSentOutside: store.bytesSentOutside,
            bytesReceivedOutside: store.bytesReceivedOutside)
    }

    /// Time the application has spent inside read, update and local; cheaper than `counters`.
    public var stallNanoseconds: UInt64 { store.application.stallNanoseconds }

    /// Where this worker stands now; from any thread, it makes none of the others wait.
    public func standing() -> WorkerStanding { store.standing(tick: tick.count) }

    /// Lets every present and future wait fail with `error`; ends all traffic.
    ///
    /// From any thread.
    public func fail(_ error: AccessError) { store.fail(error) }

    /// Sends what is complete, says goodbye to the keepers and ends all threads.
    public func close() {
        manager.close()
        store.close()
    }
}

/// What a client counts.
public struct ClientCounters: Sendable, Hashable {
    /// Buffers lent, copies, deviations.
    public var access: AccessCounters
    /// Copies and waits of managed memory; nil where memory is not managed.
    public var memory: ManagedCounters?
    /// By table: waits for its rows and its update logs, of the application and of the allocator.
    public var waits: [WaitCounters]
    /// Time the application spent inside read, update and local.
    public var stallNanoseconds: UInt64
    /// Of that, waits for rows to come; what is left was for copies.
    public var rowWaitNanoseconds: UInt64
    /// Of the stall, waits for initial values.
    public var startWaitNanoseconds: UInt64
    /// Connections to keepers that were lost and made anew.
    public var repairs: RepairCounters
    /// Bytes handed to connections, frame headers included; in-process ones count too.
    public var bytesSent: UInt64
    /// Bytes received.
    public var bytesReceived: UInt64
    /// Of `bytesSent`, what left the process.
    public var bytesSentOutside: UInt64
    /// Of `bytesReceived`, what came from other processes.
    public var bytesReceivedOutside: UInt64
}
