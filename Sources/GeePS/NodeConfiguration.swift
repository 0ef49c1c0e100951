public import GeePSCore
public import GeePSMemory
public import GeePSServer
public import GeePSTransport

/// What a process must know to take part in a job.
///
/// All but `rank` and the addresses is equal everywhere, and checked to be at the join.
public struct NodeConfiguration: Sendable {
    /// This process; rank 0 gives the initial values.
    public var rank = 0
    /// Processes.
    public var worldSize = 1
    /// Processes that work, ranks `0 ..< workerCount`; nil: all.
    ///
    /// The others only keep.
    public var workerCount: Int?
    /// Keepers; they are dealt in turn to the processes that only keep, or to all where every one works.
    public var keeperCount = 1
    /// Threads of each keeper of this process; each process may have its own number.
    public var keeperThreads = 1
    /// "host:port" of rank 0.
    public var rendezvous = "127.0.0.1:0"
    /// Address of the interface that data lanes are accepted on; `automaticInterface`: the one that leads to rank 0.
    ///
    /// That is loopback where the rendezvous is.
    public var interface = NodeConfiguration.automaticInterface
    /// Stands for the interface that leads to rank 0.
    public static let automaticInterface = "auto"
    /// Port of the data lanes; 0 lets the kernel choose.
    public var port: UInt16 = 0
    /// How frames travel.
    public var carrier = CarrierChoice.auto
    /// Parallel connections to each keeper; nil chooses by the carrier.
    public var laneCount: Int?
    /// What may be chosen about connections.
    public var transport = TransportOptions()
    /// How long to wait for all processes.
    public var joinTimeout = Duration.seconds(60)
    /// How long a lane whose connection was lost may take to be there again.
    ///
    /// Each process may have its own time.
    public var reconnectTimeout = Duration.seconds(10)
    /// How long a read or an update waits before it fails.
    public var waitTimeout = Duration.seconds(120)
    /// The tables.
    public var tables: [TableLayout]
    /// Most bytes in a block.
    public var blockBytes = Limits.blockBytesDefault
    /// How far reads may lag.
    public var staleness = Staleness.bulkSynchronous
    /// Whether a read gets the newest rows that are there; false, for comparison, those prepared ahead.
    public var refreshesReads = true
    /// A job of one process, with one keeper, in lock step, whose rows are in host memory and start from initial values:
    /// they are used and stepped where the keeper has them, without lanes.
    public var isInPlace = false
    /// How this worker's device memory is managed; nil: everything stays on the device.
    ///
    /// Each worker may have its own.
    public var memory: MemoryConfiguration?
    /// What keepers do with updates.
    public var optimizer: OptimizerConfiguration
    /// By table, where they differ: rules of the kind of `optimizer`, which has all the state they need.
    ///
    /// Empty: all tables have `optimizer`.
    public var tableOptimizers: [OptimizerConfiguration] = []
    /// Learning rate of the update of a table that completes a tick; nil: as its optimiser says.
    ///
    /// Rank 0's counts. Called by the threads that send.
    public var learningRate: (@Sendable (TableIndex, UInt64) -> Double)?
    /// What else must be equal in all processes, "key: value" a line: the model, the data.
    public var agreement = ""
    /// Finds what the keepers start from, once all processes are there; nil, or an answer of nil, for the initial
    /// values that rank 0 sends.
    ///
    /// All processes must come to the same tick.
    public var restore: (@Sendable (Membership) throws(LaunchError) -> RestoredRows?)?
    /// Where this process answers who asks where it stands, in a socket of its own; its parent is there.
    ///
    /// Nil: where `StatusQuery.variable` of the environment says, or nowhere.
    public var statusDirectory: String?
    /// Times of the control plane.
    public var control = ControlSettings()

    /// A job of one process.
    public init(tables: [TableLayout], optimizer: OptimizerConfiguration) {
        self.tables = tables
        self.optimizer = optimizer
    }

    /// The shard map of the job.
    public var map: ShardMap {
        ShardMap(tables: tables, keeperCount: keeperCount, blockBytes: blockBytes)
    }

    /// Learning rate by table and tick.
    var learningRates: @Sendable (TableIndex, UInt64) -> Double {
        if let learningRate { return learningRate }
        let (common, tables) = (optimizer, tableOptimizers)
        return { (tables.isEmpty ? common : tables[$0]).learningRate(at: $1) }
    }

    /// Workers in the job.
    var workers: Int { workerCount ?? worldSize }

    /// The rank whose process holds a keeper.
    func owner(ofKeeper keeper: Int) -> Int {
        workers == worldSize ? keeper % worldSize : workers + keeper % (worldSize - workers)
    }

    /// The keepers that live in this process.
    var ownKeepers: [Int] { (0..<keeperCount).filter { owner(ofKeeper: $0) == rank } }

    /// The text that all processes of the job must share.
    var fullAgreement: String {
        var lines = [
            "frame version: \(FrameHeader.version)", "processes: \(worldSize)",
            "workers: \(workers)", "keepers: \(keeperCount)", "block bytes: \(blockBytes)",
            "staleness: \(staleness)",
            "optimizer: \(optimizer.rule)", "learning rate: \(optimizer.learningRate)",
            "schedule: \(optimizer.schedule)", "weight decay: \(optimizer.weightDecay)",
            "reduction: \(optimizer.reduction)",
        ]
        for table in tables {
            lines.append("table \(table.name): \(table.rowCount) rows of \(table.rowWidth)")
        }
        for (table, optimizer) in zip(tables, tableOptimizers) {
            lines.append(
                "optimizer of \(table.name): \(optimizer.rule), weight decay \(optimizer.weightDecay), "
                    + "\(optimizer.reduction)")
        }
        if !agreement.isEmpty { lines.append(agreement) }
        return lines.joined(separator: "\n")
    }
}
