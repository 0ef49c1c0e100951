public import GeePSCore
internal import GeePSServer
import Synchronization

/// Rows and optimiser state at the keepers, for who saves, loads or changes them between two iterations.
///
/// Each needs a quiet moment: this worker has seen the rows of its last clock (a read of every table under BSP),
/// and every process does the same. What a process sets for its keepers is in force before its own next
/// update, and so before the keeper's next step, which waits for all.
extension Node {
    /// State arrays that `rule` keeps for every table, in torch.optim's names.
    public static func stateNames(of rule: OptimizerConfiguration) -> [String] {
        Optimizer(rule).stateKinds.map(\.name)
    }

    /// Changes the rule of `table`.
    ///
    /// - Precondition: it needs no state that the job's `optimizer` does not have.
    public func setRule(_ rule: OptimizerConfiguration, of table: TableIndex) {
        forOwnBlocks(of: table) { store, block, _ in
            store.setOptimizer(Optimizer(rule), of: block)
        }
    }

    /// Sets the rows of `table` at the keepers of this process; workers' copies stay as they are.
    ///
    /// - Parameter values: at most the table's `valueCount`.
    public func setRows(of table: TableIndex, to values: UnsafeBufferPointer<Float>) {
        let source = Values(UnsafeMutableBufferPointer(mutating: values))
        forOwnBlocks(of: table) { store, block, first in
            source.copy(from: first, to: store.values(block))
        }
    }

    /// Sets a state array of `table` and its steps at the keepers of this process.
    public func setState(
        _ kind: Int, of table: TableIndex, to values: UnsafeBufferPointer<Float>, steps: UInt64
    ) {
        let source = Values(UnsafeMutableBufferPointer(mutating: values))
        forOwnBlocks(of: table) { store, block, first in
            source.copy(from: first, to: store.state(block, kind: kind))
            store.setStepCount(steps, of: block)
        }
    }

    /// Copies a state array of `table` from all keepers, wherever they are; a collective.
    ///
    /// - Returns: steps that the optimiser has done.
    /// - Throws: as `Membership.sum`.
    public func state(
        _ kind: Int, of table: TableIndex, into values: UnsafeMutableBufferPointer<Float>,
        deadline: Deadline
    ) throws(LaunchError) -> UInt64 {
        values.update(repeating: 0)
        let target = Values(values)
        let steps = Mutex<UInt64>(0)
        forOwnBlocks(of: table) { store, block, first in
            target.copy(store.state(block, kind: kind), to: first)
            if first == 0 { steps.withLock { $0 = store.stepCount(block) } }
        }
        guard membership.worldSize > 1 else { return steps.withLock { $0 } }
        // What is another's is zero here, so the sum is what each has, exactly.
        for start in stride(from: 0, to: values.count, by: Self.valuesInSum) {
            let end = min(start + Self.valuesInSum, values.count)
            let sum = try membership.sum(
                values[start..<end].map(Double.init), label: "optimiser state", deadline: deadline)
            for (offset, value) in sum.enumerated() { values[start + offset] = Float(value) }
        }
        let total = try membership.sum(
            [Double(steps.withLock { $0 })], label: "optimiser steps", deadline: deadline)
        return UInt64(total[0])
    }

    /// Values in one collective: what `Membership.sum` takes.
    private static let valuesInSum = 131_072

    /// Runs `body` on each keeper of this process for its blocks of `table`; the last argument is the position
    /// of the block's first value in the table.
    private func forOwnBlocks(
        of table: TableIndex, _ body: @escaping @Sendable (RowStore, Int, Int) -> Void
    ) {
        let map = configuration.map
        let width = map.tables[table].rowWidth
        for keeper in configuration.ownKeepers {
            let blocks = map.blocks[map.blocksOfTable[table]].filter { $0.keeper == keeper }
            guard !blocks.isEmpty else { continue }
            server.withRows(ofKeeper: keeper) { store in
                for block in blocks {
                    body(store, block.indexInKeeper, block.rows.lowerBound * width)
                }
            }
        }
    }
}

/// Values of a table that a keeper's thread reads or writes while their owner waits.
///
/// Shorter than the table by the padding of its last row.
private struct Values: @unchecked Sendable {
    // Sendable: `withRows` returns when the other thread is done.
    let values: UnsafeMutableBufferPointer<Float>

    init(_ values: UnsafeMutableBufferPointer<Float>) { self.values = values }

    func copy(from first: Int, to target: UnsafeMutableBufferPointer<Float>) {
        for offset in 0..<overlap(first, target.count) { target[offset] = values[first + offset] }
    }

    func copy(_ source: UnsafeMutableBufferPointer<Float>, to first: Int) {
        for offset in 0..<overlap(first, source.count) { values[first + offset] = source[offset] }
    }

    private func overlap(_ first: Int, _ count: Int) -> Int {
        max(0, min(count, values.count - first))
    }
}
