public import GeePSCore

/// What a planner is asked: an iteration that repeats for ever, the sizes of what it touches, and room.
///
/// A **phase** is a maximal run of acquires with the releases after it: one step of a layer. Whatever is
/// held during a phase is held at its turning point, so loads by phase are exact.
public struct PlanProblem: Hashable, Sendable {
    /// Local data of one worker.
    public struct Local: Hashable, Sendable {
        /// For reports: "conv1.output".
        public var name: String
        /// Bytes.
        public var byteCount: Int
        /// Bytes that one sample of the batch adds; nil where the size does not depend on the batch.
        public var bytesPerSample: Int?
        /// Its content is made in memory of the caller's, who can keep it there until it has been used.
        public var mayBeLeft: Bool

        /// Local data.
        public init(
            name: String, byteCount: Int, bytesPerSample: Int? = nil, mayBeLeft: Bool = false
        ) {
            self.name = name
            self.byteCount = byteCount
            self.bytesPerSample = bytesPerSample
            self.mayBeLeft = mayBeLeft
        }
    }

    /// Rows of a table that are read or updated together.
    public struct Batch: Hashable, Sendable {
        /// Index in `tables`.
        public var table: TableIndex
        /// Bytes of a buffer for the rows.
        public var byteCount: Int
        /// A read is lent from a cache on the device in place; otherwise it is gathered into a buffer.
        public var isRun: Bool
        /// All rows of the table in order, so that its updates may be added up on the device.
        ///
        /// Need not be said of a run of the table's size, which is nothing else; only where reads are not lent
        /// in place.
        public var isWholeTable: Bool

        /// A batch.
        public init(
            table: TableIndex, byteCount: Int, isRun: Bool = true, isWholeTable: Bool = false
        ) {
            self.table = table
            self.byteCount = byteCount
            self.isRun = isRun
            self.isWholeTable = isWholeTable
        }
    }

    /// A table of parameters.
    public struct Table: Hashable, Sendable {
        /// For reports: the layer's name.
        public var name: String
        /// Bytes of all its rows.
        public var cacheBytes: Int

        /// A table.
        public init(name: String, cacheBytes: Int) {
            self.name = name
            self.cacheBytes = cacheBytes
        }
    }

    /// One iteration, ending with `.clock`.
    public var accesses: [Access]
    /// By id of a local batch.
    public var locals: [Local]
    /// By id of a row batch.
    public var batches: [Batch]
    /// By index of the table.
    public var tables: [Table]
    /// An update is made in device memory before it is copied out; not where a keeper in place takes it from the caller's.
    public var updatesNeedRoom = true
    /// Device memory that is always taken: indexes, workspaces of the device.
    public var fixedBytes = 0
    /// Device memory for everything, `fixedBytes` included; nil for as much as is of use.
    public var budgetBytes: Int?
    /// How to choose what stays.
    public var policy = PlanPolicy.benefit
    /// By phase, for messages; may be empty.
    public var phaseNames: [String] = []
    /// Samples in the batch, for advice; nil where there is no such thing.
    public var batchSize: Int?
    /// Compute time by phase; empty where unknown.
    public var phaseNanoseconds: [UInt64] = []
    /// How fast copies between host and device are; nil where unknown.
    public var link: PlanLink?
    /// Offsets are multiples of this, and sizes are rounded up to it.
    public var granuleBytes = 64

    /// Phases of the iteration.
    public var phaseCount: Int {
        var count = 1
        var wasRelease = false
        for access in accesses {
            if access.kind.isAcquire {
                if wasRelease { count += 1 }
                wasRelease = false
            } else if access.kind != .clock {
                wasRelease = true
            }
        }
        return count
    }

    /// Copied out by updates that need no room, per clock.
    var bytesOfTakenUpdates: Int {
        guard !updatesNeedRoom else { return 0 }
        return accesses.reduce(0) { sum, access in
            access.kind == .update ? sum + batches[access.batch].byteCount : sum
        }
    }

    /// Whether batch `id` is all rows of its table, in order.
    func isWholeTable(_ id: Int) -> Bool {
        let batch = batches[id]
        return batch.byteCount == tables[batch.table].cacheBytes
            && (batch.isRun || batch.isWholeTable)
    }

    /// A problem.
    public init(accesses: [Access], locals: [Local], batches: [Batch], tables: [Table]) {
        self.accesses = accesses
        self.locals = locals
        self.batches = batches
        self.tables = tables
    }
}

/// How to choose what stays on the device.
public enum PlanPolicy: String, Hashable, Sendable, CaseIterable {
    /// Content stays over the gaps between its uses, those first that save most for the room they take.
    case benefit
    /// Whole items stay: GeePS's Algorithm 2.
    case paper
}

/// Speed of copies, each direction on its own engine.
public struct PlanLink: Hashable, Sendable {
    /// Host to device.
    public var bytesPerSecondIn: Double
    /// Device to host.
    public var bytesPerSecondOut: Double

    /// A link.
    public init(bytesPerSecondIn: Double, bytesPerSecondOut: Double) {
        precondition(
            bytesPerSecondIn > 0 && bytesPerSecondOut > 0,
            "a link needs positive speeds, got \(bytesPerSecondIn) and \(bytesPerSecondOut)")
        self.bytesPerSecondIn = bytesPerSecondIn
        self.bytesPerSecondOut = bytesPerSecondOut
    }
}
