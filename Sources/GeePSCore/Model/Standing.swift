/// Where a worker stands at a moment: what its application does and, while it waits, for which rows.
///
/// Times are ages, of the moment it was made.
public struct WorkerStanding: Hashable, Sendable {
    /// What the application is in.
    public enum Activity: UInt8, Hashable, Sendable, CaseIterable {
        /// Not inside the parameter server: it computes.
        case computing = 0
        /// Waits for rows, or for a copy of them.
        case read = 1
        /// Waits for room for an update.
        case update = 2
        /// Waits for local data.
        case local = 3
    }

    /// Rows of one keeper that are not as fresh as the read needs.
    public struct Lack: Hashable, Sendable {
        /// Whose rows they are.
        public var keeper: Int
        /// The first such block.
        public var rows: Range<Int>
        /// Its age here; nil before the initial values.
        public var age: UInt64?

        /// Rows that lag.
        public init(keeper: Int, rows: Range<Int>, age: UInt64?) {
            self.keeper = keeper
            self.rows = rows
            self.age = age
        }
    }

    /// A push that the transport has not taken yet.
    public struct Sending: Hashable, Sendable {
        /// To whom.
        public var keeper: Int
        /// Of which table.
        public var table: TableIndex
        /// Of which block.
        public var rows: Range<Int>
        /// Its tick.
        public var tick: UInt64
        /// Since when.
        public var nanoseconds: UInt64

        /// A push on its way.
        public init(
            keeper: Int, table: TableIndex, rows: Range<Int>, tick: UInt64, nanoseconds: UInt64
        ) {
            self.keeper = keeper
            self.table = table
            self.rows = rows
            self.tick = tick
            self.nanoseconds = nanoseconds
        }
    }

    /// Completed clocks.
    public var tick: UInt64
    /// What the application does.
    public var activity: Activity
    /// The table of a read or an update.
    public var table: TableIndex?
    /// The age that a read needs.
    public var neededAge: UInt64
    /// How long it has done so.
    public var nanoseconds: UInt64
    /// By keeper: what a read waits for; empty where the rows are there.
    public var lacking: [Lack]
    /// Pushes that are being sent.
    public var sending: [Sending]

    /// A standing.
    public init(
        tick: UInt64, activity: Activity, table: TableIndex?, neededAge: UInt64,
        nanoseconds: UInt64, lacking: [Lack], sending: [Sending]
    ) {
        self.tick = tick
        self.activity = activity
        self.table = table
        self.neededAge = neededAge
        self.nanoseconds = nanoseconds
        self.lacking = lacking
        self.sending = sending
    }
}

/// Where a keeper stands: of each table the block that is furthest behind, and whom it waits for.
public struct KeeperStanding: Hashable, Sendable {
    /// A worker whose update of the next tick is not here.
    public struct Missing: Hashable, Sendable {
        /// Its rank.
        public var worker: Int
        /// Its last tick that is.
        public var tick: UInt64

        /// A worker with its last tick.
        public init(worker: Int, tick: UInt64) {
            self.worker = worker
            self.tick = tick
        }
    }

    /// The oldest block of a table.
    public struct Oldest: Hashable, Sendable {
        /// The table.
        public var table: TableIndex
        /// The block.
        public var rows: Range<Int>
        /// Up to which tick everything is applied; nil before the initial values.
        public var age: UInt64?
        /// Who has not pushed the tick after that; at most `missingMaximum`.
        public var missing: [Missing]
        /// How many have not.
        public var missingCount: Int
        /// Since the last push of this block came; nil where none has.
        public var nanoseconds: UInt64?

        /// A block.
        public init(
            table: TableIndex, rows: Range<Int>, age: UInt64?, missing: [Missing],
            missingCount: Int, nanoseconds: UInt64?
        ) {
            self.table = table
            self.rows = rows
            self.age = age
            self.missing = missing
            self.missingCount = missingCount
            self.nanoseconds = nanoseconds
        }
    }

    /// Names of missing workers that an answer has room for; more are only counted.
    public static let missingMaximum = 16

    /// Which keeper.
    public var keeper: Int
    /// Its tables, those without a block here left out.
    public var tables: [Oldest]

    /// A standing.
    public init(keeper: Int, tables: [Oldest]) {
        self.keeper = keeper
        self.tables = tables
    }
}

/// What a process's keepers have found out about the waits for their rows; nanoseconds, since the start.
public struct WaitShares: Hashable, Sendable {
    /// By waiting worker: while the keeper added up and stepped.
    public var update: [UInt64]
    /// By waiting worker: while another worker computed longer.
    public var worker: [UInt64]
    /// By late worker: how long others have waited for it, all of them together.
    public var causedBy: [UInt64]
    /// By late worker: how much of that would be gone if it alone were not late.
    public var recoverable: [UInt64]

    /// Nothing found out.
    public init(workerCount: Int) {
        update = Array(repeating: 0, count: workerCount)
        worker = update
        causedBy = update
        recoverable = update
    }

    /// Adds what others have found out.
    public mutating func add(_ other: WaitShares) {
        for index in update.indices {
            update[index] += other.update[index]
            worker[index] += other.worker[index]
            causedBy[index] += other.causedBy[index]
            recoverable[index] += other.recoverable[index]
        }
    }
}
