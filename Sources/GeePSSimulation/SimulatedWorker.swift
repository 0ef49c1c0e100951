import GeePSCore

/// A worker's shell around its `WorkerProtocol`s, one a keeper: a parameter cache, an update log and an
/// application that reads, computes and updates every table in every clock.
struct SimulatedWorker {
    /// What the application does.
    enum Phase {
        case reading, updating, done
    }

    /// By keeper.
    var machines: [WorkerProtocol]
    /// By block: the parameter cache.
    var cache: [Contents]
    /// By block, `logTicks` each: the update log.
    var log: [UInt64]
    /// By block: the last tick ever pushed; up to it a push is a replay.
    var newestPushed: [UInt64]
    /// By block: rank 0 sent the initial values.
    var hasInitialised: [Bool]
    /// By block: what the last read returned.
    var lastRead: [Contents]
    /// By table: it is updated but never read.
    let isWriteOnly: [Bool]

    var phase = Phase.reading
    /// Tables in the order of this phase; the next one to deal with.
    var order: [Int]
    var position = 0
    var completed: UInt64
    var readStaleness: Staleness
    /// Waits for fresh rows or an acknowledgement.
    var isWaiting = false
    var isDead = false
    var pausedUntil: UInt64 = 0

    /// A worker of a fresh job (`tick` zero) or one rolled back to a checkpoint of `tick`.
    init(scenario: Scenario, logTicks: Int, restoredAt tick: UInt64, isWriteOnly: [Bool]) {
        machines = (0..<scenario.keeperCount).map { keeper in
            let tables = scenario.map.blocksOfKeeper[keeper].map { scenario.map.blocks[$0].table }
            guard tick > 0 else {
                return WorkerProtocol(
                    tableOfBlock: tables, tableCount: scenario.tableCount,
                    staleness: scenario.staleness)
            }
            return WorkerProtocol(
                tableOfBlock: tables, tableCount: scenario.tableCount,
                staleness: scenario.staleness, restoredAt: tick)
        }
        let blockCount = scenario.blockCount
        cache = Array(repeating: Contents(), count: blockCount)
        log = Array(repeating: 0, count: blockCount * logTicks)
        newestPushed = Array(repeating: tick, count: blockCount)
        hasInitialised = Array(repeating: false, count: blockCount)
        lastRead = cache
        self.isWriteOnly = isWriteOnly
        order = Array(0..<scenario.tableCount)
        completed = tick
        readStaleness = scenario.staleness
        if tick >= scenario.target { phase = .done }
    }
}
