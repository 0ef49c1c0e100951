import GeePSCore

/// A keeper's shell around its `KeeperProtocol`: rows, sums and held payloads of whole numbers.
///
/// Everything is by block, with the block's index in the keeper.
struct SimulatedKeeper {
    var machine: KeeperProtocol
    var rows: [Contents]
    var sums: [Contents]
    /// By block, worker and tick modulo `heldTicks`.
    var heldValues: [UInt64]
    /// Payloads held for a block.
    var heldCounts: [Int]
    /// Ghost: the rank whose contribution comes next in rank order.
    var nextRanks: [Int]
    /// The data age after the last apply.
    var lastAges: [UInt64]
    /// Ticks of one worker that may be held.
    let heldTicks: Int
    var isDead = false

    /// A keeper of a fresh job, or of one rolled back to a checkpoint of `tick` that holds `rows`.
    init(scenario: Scenario, keeper: Int, restoredAt tick: UInt64, rows restored: [Contents]) {
        let blockCount = scenario.map.blocksOfKeeper[keeper].count
        heldTicks = Int(scenario.lag ?? 0) + 1
        rows = restored
        sums = Array(repeating: Contents(), count: blockCount)
        heldValues = Array(repeating: 0, count: blockCount * scenario.workerCount * heldTicks)
        heldCounts = Array(repeating: 0, count: blockCount)
        nextRanks = heldCounts
        lastAges = Array(repeating: tick, count: blockCount)
        guard tick > 0 else {
            machine = KeeperProtocol(
                workerCount: scenario.workerCount, blockCount: blockCount, policy: scenario.policy)
            return
        }
        machine = KeeperProtocol(
            workerCount: scenario.workerCount, blockCount: blockCount, policy: scenario.policy,
            restoredAt: tick)
    }

    /// Where the payload of a held push lies.
    func heldSlot(block: Int, worker: Int, tick: UInt64) -> Int {
        (block * machine.workerCount + worker) * heldTicks + Int(tick % UInt64(heldTicks))
    }
}
