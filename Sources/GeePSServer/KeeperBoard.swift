internal import GeePSCore
import Synchronization

/// What a keeper's threads show of their blocks while they run: who asks never makes them wait.
///
/// Relaxed throughout: each number is true by itself, and two of them may be of moments a little apart.
final class KeeperBoard: @unchecked Sendable {
    // Sendable: atomics at fixed addresses; each block's are written by its thread only.
    private let blocks: [Block]
    private let keeper: Int
    private let workerCount: Int
    // By block: applied ticks and one, zero before the initial values; when the last push came, zero before.
    private let ages: UnsafeMutablePointer<Atomic<UInt64>>
    private let arrivals: UnsafeMutablePointer<Atomic<UInt64>>
    // By block and worker: its last tick.
    private let received: UnsafeMutablePointer<Atomic<UInt64>>

    /// Blocks that nobody has initialised, of workers that have completed `firstTick`.
    init(keeper: Int, blocks: [Block], workerCount: Int, firstTick: UInt64) {
        self.keeper = keeper
        self.blocks = blocks
        self.workerCount = workerCount
        ages = Self.zeros(blocks.count)
        arrivals = Self.zeros(blocks.count)
        received = Self.zeros(blocks.count * workerCount, value: firstTick)
    }

    deinit {
        ages.deinitialize(count: blocks.count).deallocate()
        arrivals.deinitialize(count: blocks.count).deallocate()
        received.deinitialize(count: blocks.count * workerCount).deallocate()
    }

    private static func zeros(_ count: Int, value: UInt64 = 0)
        -> UnsafeMutablePointer<Atomic<UInt64>>
    {
        let memory = UnsafeMutablePointer<Atomic<UInt64>>.allocate(capacity: max(1, count))
        for index in 0..<count { (memory + index).initialize(to: Atomic(value)) }
        return memory
    }

    /// A worker's push came.
    func show(block: Int, worker: Int, tick: UInt64, at nanoseconds: UInt64) {
        received[block * workerCount + worker].store(tick, ordering: .relaxed)
        arrivals[block].store(nanoseconds, ordering: .relaxed)
    }

    /// All updates up to `age` are applied.
    func show(block: Int, age: UInt64) { ages[block].store(age + 1, ordering: .relaxed) }

    /// Of each table the block that is furthest behind.
    ///
    /// - Complexity: O(blocks), then O(workers) a table.
    func standing(now: UInt64) -> KeeperStanding {
        var oldest: [TableIndex: Int] = [:]
        for (index, block) in blocks.enumerated() {
            guard let other = oldest[block.table] else {
                oldest[block.table] = index
                continue
            }
            if isBehind(index, other) { oldest[block.table] = index }
        }
        return KeeperStanding(
            keeper: keeper,
            tables: oldest.keys.sorted().compactMap { table in
                oldest[table].map { describe($0, now: now) }
            })
    }

    /// Whether a block is further behind than another: older, or as old and of fewer pushes.
    private func isBehind(_ index: Int, _ other: Int) -> Bool {
        let ages = (
            self.ages[index].load(ordering: .relaxed), self.ages[other].load(ordering: .relaxed)
        )
        if ages.0 != ages.1 { return ages.0 < ages.1 }
        return missingCount(index, age: ages.0) > missingCount(other, age: ages.1)
    }

    private func missingCount(_ index: Int, age: UInt64) -> Int {
        (0..<workerCount).count {
            received[index * workerCount + $0].load(ordering: .relaxed) < age
        }
    }

    private func describe(_ index: Int, now: UInt64) -> KeeperStanding.Oldest {
        let next = ages[index].load(ordering: .relaxed)
        let arrival = arrivals[index].load(ordering: .relaxed)
        var missing: [KeeperStanding.Missing] = []
        for worker in 0..<workerCount where next > 0 {
            let tick = received[index * workerCount + worker].load(ordering: .relaxed)
            if tick < next { missing.append(KeeperStanding.Missing(worker: worker, tick: tick)) }
        }
        return KeeperStanding.Oldest(
            table: blocks[index].table, rows: blocks[index].rows, age: next == 0 ? nil : next - 1,
            missing: Array(missing.prefix(KeeperStanding.missingMaximum)),
            missingCount: missing.count,
            nanoseconds: arrival == 0 ? nil : now - min(now, arrival))
    }
}
