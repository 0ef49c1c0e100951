internal import GeePSCore

/// One step of an iteration as the parameter server sees it.
public struct Access: Hashable, Sendable {
    /// What is done.
    public enum Kind: UInt8, Sendable {
        case read, endRead, update, endUpdate, local, endLocal, clock
    }

    /// What is done.
    public var kind: Kind
    /// Id of the row batch, or of the local batch; zero for `clock`.
    public var batch: Int
    /// local: the content must be what was kept last.
    ///
    /// endLocal: the content must survive.
    public var matters: Bool

    /// A step.
    public init(_ kind: Kind, batch: Int = 0, matters: Bool = false) {
        self.kind = kind
        self.batch = batch
        self.matters = matters
    }
}

/// The accesses of one iteration in order, ending with `clock`: what a dry run records (GeePS §4.1).
///
/// A plan is a hint. An iteration that deviates is served on demand and counted, and what it did becomes
/// the next plan.
public struct AccessPlan: Hashable, Sendable {
    /// In the application's order.
    public let accesses: [Access]

    /// A plan of `accesses`.
    public init(_ accesses: [Access]) { self.accesses = accesses }

    /// Position of the last `endUpdate` of each table; nil where the iteration never updates it.
    func lastUpdates(tableOfBatch: [TableIndex], tableCount: Int) -> [Int?] {
        var last = [Int?](repeating: nil, count: tableCount)
        for (position, access) in accesses.enumerated() where access.kind == .endUpdate {
            last[tableOfBatch[access.batch]] = position
        }
        return last
    }

    /// Batches of which some read begins after the last update of their table has ended.
    ///
    /// Fresh rows may come while they are lent, also under BSP: the table's clock has been raised.
    func batchesReadAfterUpdates(tableOfBatch: [TableIndex], tableCount: Int) -> Set<Int> {
        let last = lastUpdates(tableOfBatch: tableOfBatch, tableCount: tableCount)
        var late: Set<Int> = []
        for (position, access) in accesses.enumerated() where access.kind == .read {
            if let last = last[tableOfBatch[access.batch]], last < position {
                late.insert(access.batch)
            }
        }
        return late
    }

    /// How often the iteration updates each table.
    func updateCounts(tableOfBatch: [TableIndex], tableCount: Int) -> [Int] {
        var counts = [Int](repeating: 0, count: tableCount)
        for access in accesses where access.kind == .endUpdate {
            counts[tableOfBatch[access.batch]] += 1
        }
        return counts
    }
}

/// Writes an iteration down without doing it: no data, no waiting, microseconds.
public struct AccessRecorder: Sendable {
    private var accesses: [Access] = []

    /// An empty record.
    public init() {}

    /// The rows of `batch` are needed from here.
    public mutating func read(_ batch: RowBatch) { note(.read, batch.id) }
    /// ...
    ///
    /// to here.
    public mutating func endRead(_ batch: RowBatch) { note(.endRead, batch.id) }
    /// An update of `batch` is filled from here.
    public mutating func update(_ batch: RowBatch) { note(.update, batch.id) }
    /// ...
    ///
    /// to here.
    public mutating func endUpdate(_ batch: RowBatch) { note(.endUpdate, batch.id) }
    /// Local data is used from here; `fetch`: what was kept last is needed.
    public mutating func local(_ batch: LocalBatch, fetch: Bool) {
        note(.local, batch.id, matters: fetch)
    }
    /// ...
    ///
    /// to here; `keep`: the content is needed later.
    public mutating func endLocal(_ batch: LocalBatch, keep: Bool) {
        note(.endLocal, batch.id, matters: keep)
    }
    /// The iteration ends.
    public mutating func clock() { note(.clock, 0) }
    /// Any step.
    public mutating func append(_ access: Access) { accesses.append(access) }

    /// What was recorded.
    public var plan: AccessPlan { AccessPlan(accesses) }

    private mutating func note(_ kind: Access.Kind, _ batch: Int, matters: Bool = false) {
        accesses.append(Access(kind, batch: batch, matters: matters))
    }
}
