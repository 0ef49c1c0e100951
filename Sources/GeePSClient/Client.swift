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
    /// Learning rate of the update that completes a tick; travels with every push.
    public var learningRate: @Sendable (UInt64) -> Double

    /// A configuration.
    public init(
        map: ShardMap, rank: Int, staleness: Staleness = .bulkSynchronous,
        waitTimeout: Duration = .seconds(120),
        learningRate: @escaping @Sendable (UInt64) -> Double
    ) {
        self.map = map
        self.rank = rank
        self.staleness = staleness
        self.waitTimeout = waitTimeout
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
            connections.count == configuration.map.keeperCount,
            "\(configuration.map.keeperCount) keepers, connections to \(connections.count)")
        self.configuration = configuration
        self.device = device
        store = try Store(configuration: configuration, device: device, connections: connections)
        manager = AccessManager(
            tables: configuration.map.tables, store: store, device: device,
            staleness: configuration.staleness)
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

    /// Makes room for data of this worker only.
    public func localBatch(name: String, byteCount: Int, for purpose: MemoryPurpose = .localData)
        throws(AccessError) -> LocalBatch
    {
        try manager.localBatch(name: name, byteCount: byteCount, for: purpose)
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
        let log = try store.log(of: table, tick: .zero, isOverwritten: false)
        if let source = values.baseAddress { device.copy(source, count: values.count, into: log) }
        store.initialise(table)
    }

    /// Records an iteration without data and follows it from now on (the dry run, GeePS §4.1).
    public func dryRun(_ iteration: (inout AccessRecorder) -> Void) {
        var recorder = AccessRecorder()
        iteration(&recorder)
        manager.follow(recorder.plan)
    }

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

    /// Lends the rows of `batch`; waits until they are fresh enough.
    ///
    /// - Parameters:
    ///   - staleness: for this read; nil for the client's.
    ///   - isPlanned: false for reads outside the repeated iteration, such as an evaluation.
    public func read(
        _ batch: RowBatch, staleness: Staleness? = nil, isPlanned: Bool = true
    ) throws(AccessError) -> ReadBuffer {
        let start = monotonicNanoseconds()
        defer { store.countStall(since: start) }
        return try manager.read(batch, staleness: staleness, isPlanned: isPlanned)
    }

    /// Lends room for an update of `batch`; waits when all update logs are on their way.
    ///
    /// - Parameter isOverwritten: the caller writes every value; otherwise the room starts as zeros.
    public func update(_ batch: RowBatch, isOverwritten: Bool = true) throws(AccessError)
        -> UpdateBuffer
    {
        let start = monotonicNanoseconds()
        defer { store.countStall(since: start) }
        return try manager.update(batch, isOverwritten: isOverwritten)
    }

    /// Lends local data: with `fetch` what was kept last, without it anything.
    public func local(_ batch: LocalBatch, fetch: Bool) -> LocalBuffer {
        let start = monotonicNanoseconds()
        defer { store.countStall(since: start) }
        return manager.local(batch, fetch: fetch)
    }

    /// Ends the iteration; never waits.
    ///
    /// Tables that were not updated are committed without an update.
    @discardableResult
    public func clock() -> Tick { manager.clock() }

    // MARK: Watching and ending

    /// What has been counted since the start.
    public var counters: ClientCounters {
        ClientCounters(
            access: manager.counters, waits: store.waits,
            stallNanoseconds: store.stallNanoseconds,
            bytesSent: store.bytesSent, bytesReceived: store.bytesReceived)
    }

    /// Time the application has spent inside read, update and local; cheaper than `counters`.
    public var stallNanoseconds: UInt64 { store.stallNanoseconds }

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
    /// By table: waits for its rows and its update logs, of the application and of the allocator.
    public var waits: [WaitCounters]
    /// Time the application spent inside read, update and local.
    public var stallNanoseconds: UInt64
    /// Bytes handed to connections, frame headers included; in-process ones count too.
    public var bytesSent: UInt64
    /// Bytes received.
    public var bytesReceived: UInt64
}
