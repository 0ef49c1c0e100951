import GeePSCore

/// Kinds of faults; each has its own weight in a scenario.
enum Fault: Int, CaseIterable {
    case reset, clog, partition, slowKeeper, pausedWorker, deadWorker, deadKeeper
}

/// What a seed draws before anything happens: the cluster, its habits and the faults in store.
///
/// Swarm testing (Groce et al. 2012): every fault is absent from many runs, so that those
/// which remain get further than they would in a mixture of all.
struct Scenario {
    let workerCount: Int
    let map: ShardMap
    let staleness: Staleness
    let policy: ApplyPolicy
    /// Clocks that each worker must complete.
    let target: UInt64
    /// Ticks between checkpoints; zero for none.
    let checkpointTicks: UInt64
    /// Ticks of one block that fit into a worker's update log.
    let logTicks: UInt64
    /// Every read draws its own staleness, at most the job's.
    let mixesStaleness: Bool
    /// Percent of (worker, table) pairs that are updated but never read.
    let writeOnlyPercent: UInt64
    let commitsInReverse: Bool
    let delayMinimum: UInt64
    let delaySpread: UInt64
    let computeSpread: UInt64
    /// Time between the commits of a worker's tables.
    let commitSpread: UInt64
    /// Time a keeper needs for a frame.
    let serviceMicroseconds: UInt64
    let faultCount: Int
    /// The most time between two faults.
    let faultSpread: UInt64
    /// By `Fault.rawValue`.
    let faultWeights: [UInt64]
    /// Percent of resets that let the frames in flight arrive late instead of losing them.
    let latePercent: UInt64

    init(from random: inout SplitMix64) {
        workerCount = random.integer(1, workersMaximum)
        map = Self.drawMap(from: &random)
        let lag = random.integer(0, 4)
        staleness = lag == 4 ? .unbounded : .clocks(UInt64(lag))
        policy = ApplyPolicy(staleness)
        target = UInt64(random.integer(1, 10))
        checkpointTicks = random.below(4)
        // With `lag + 1` ticks a worker that reads what it updates never waits for its log.
        logTicks = UInt64((lag == 4 ? 0 : lag) + 1) + (random.chance(50) ? 0 : random.below(3))
        mixesStaleness = random.chance(20)
        writeOnlyPercent = random.chance(20) ? 30 : 0
        commitsInReverse = random.chance(50)
        delayMinimum = 1 + random.below(100)
        delaySpread = Self.drawSpread(from: &random)
        computeSpread = Self.drawSpread(from: &random)
        commitSpread = random.chance(50) ? 0 : Self.drawSpread(from: &random)
        serviceMicroseconds = random.chance(50) ? 0 : 1 + random.below(delayMinimum)
        faultCount = random.chance(10) ? 0 : random.integer(1, 16)
        let clockMicroseconds = 2 * (delayMinimum + delaySpread) + computeSpread
        faultSpread = clockMicroseconds * (random.chance(50) ? 1 : 4)
        faultWeights = Fault.allCases.map { fault in
            guard random.chance(50) else { return 0 }
            let isDeath = fault == .deadWorker || fault == .deadKeeper
            return isDeath ? 1 : UInt64(random.integer(1, 8))
        }
        latePercent = random.chance(50) ? 0 : 80
    }

    var tableCount: Int { map.tables.count }
    var keeperCount: Int { map.keeperCount }
    var blockCount: Int { map.blocks.count }

    /// Ticks a worker may be ahead of the data age; nil for asynchronous jobs.
    var lag: UInt64? {
        if case .clocks(let lag) = staleness { return lag }
        return nil
    }

    /// One-row blocks, so that a slice of a table has zero to three.
    private static func drawMap(from random: inout SplitMix64) -> ShardMap {
        let keeperCount = random.integer(1, 4)
        let tables = (0..<random.integer(1, 4)).map { index in
            let rowCount = random.integer(1, (random.chance(30) ? 3 : 1) * keeperCount)
            return TableLayout(name: "\(index)", rowCount: rowCount, rowWidth: 1)
        }
        return ShardMap(tables: tables, keeperCount: keeperCount, blockBytes: 4)
    }

    private static func drawSpread(from random: inout SplitMix64) -> UInt64 {
        let kind = random.index(below: 4)
        return [0, 10, 300, 5_000][kind]
    }
}
