import CGeePSKernels
public import GeePSCore

/// The rows of one keeper: values, optimiser state, and the sum of the tick being collected.
///
/// Blocks are numbered by `Block.indexInKeeper`. Everything is allocated and touched at start; fold and
/// apply allocate nothing, take no lock and run at memory speed.
///
/// - Note: A block is used by one thread at a time; different blocks by as many as there are.
public final class RowStore: @unchecked Sendable {
    // Sendable: constant after init, but for what the arrays hold, which belongs to the blocks' threads.

    /// The map that says which blocks these are; constant.
    public let shardMap: ShardMap
    /// Whose rows these are; constant.
    public let keeper: Int
    /// The rule applied to them, unless a table has its own; it has all the state there is.
    ///
    /// Constant.
    public let optimizer: Optimizer

    // Constant data of the processor's level.
    private let kernels = geeps_kernels_best()
    // By block: where its values start in each array, and how many there are. Constant.
    private let starts: [Int]
    private let counts: [Int]
    private let values: RowStoreArray
    private let sums: RowStoreArray
    private let states: [RowStoreArray]
    // By block: optimiser steps done; its rule, which changes only while all of the keeper's threads stand still.
    private let steps: UnsafeMutablePointer<UInt64>
    private var optimizers: [Optimizer]

    /// Rows of zeros with the optimiser's initial state.
    ///
    /// - Parameter tableOptimizers: by table; empty: all have `optimizer`.
    /// - Throws: when the memory cannot be had: 2 + `optimizer.stateKinds.count` times the rows' bytes.
    public init(
        shardMap: ShardMap, keeper: Int, optimizer: Optimizer, tableOptimizers: [Optimizer] = []
    ) throws(RowStoreError) {
        precondition(
            shardMap.blocksOfKeeper.indices.contains(keeper),
            "keeper \(keeper) is not one of the map's \(shardMap.keeperCount)")
        self.shardMap = shardMap
        self.keeper = keeper
        self.optimizer = optimizer
        var starts: [Int] = []
        var counts: [Int] = []
        var end = 0
        for index in shardMap.blocksOfKeeper[keeper] {
            let block = shardMap.blocks[index]
            starts.append(end)
            counts.append(block.rows.count * shardMap.tables[block.table].rowWidth)
            end += (counts[counts.count - 1] + 15) & ~15
        }
        self.starts = starts
        self.counts = counts
        optimizers = shardMap.blocksOfKeeper[keeper].map {
            tableOptimizers.isEmpty ? optimizer : tableOptimizers[shardMap.blocks[$0].table]
        }
        values = try RowStoreArray(count: end, initialValue: 0, purpose: "values")
        sums = try RowStoreArray(count: end, initialValue: 0, purpose: "sums")
        var states: [RowStoreArray] = []
        for kind in optimizer.stateKinds {
            states.append(
                try RowStoreArray(
                    count: end, initialValue: kind.initialValue, purpose: kind.name))
        }
        self.states = states
        // Last: nothing throws any more.
        steps = .allocate(capacity: counts.count)
        steps.initialize(repeating: 0, count: counts.count)
    }

    deinit { steps.deallocate() }

    /// Blocks of this keeper.
    public var blockCount: Int { counts.count }

    /// Bytes allocated for rows, sums and state.
    public var byteCount: Int {
        (values.count + sums.count + states.reduce(0) { $0 + $1.count })
            * MemoryLayout<Float>.stride
    }

    /// Table, rows and place of a block.
    public func block(_ index: Int) -> Block {
        shardMap.blocks[shardMap.blocksOfKeeper[keeper][index]]
    }

    /// Values in a block.
    public func valueCount(_ block: Int) -> Int { counts[block] }

    /// The rows of a block, 64-byte aligned; valid while the store lives.
    public func values(_ block: Int) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(start: values.start + starts[block], count: counts[block])
    }

    /// The first row of `table`, 64-byte aligned, where this keeper has all of it; valid while the store lives.
    func rows(of table: TableIndex) -> UnsafeMutablePointer<Float> {
        let blocks = shardMap.blocksOfTable[table]
        let layout = shardMap.tables[table]
        precondition(
            shardMap.keeperCount == 1 && (blocks.count == 1 || layout.rowWidth % 16 == 0),
            "table \(layout.name) does not lie in one piece")
        return values.start + starts[shardMap.blocks[blocks.lowerBound].indexInKeeper]
    }

    /// The sum being collected for a block; valid while the store lives.
    public func sum(_ block: Int) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(start: sums.start + starts[block], count: counts[block])
    }

    /// The optimiser state of a block, for a checkpoint to save or restore.
    ///
    /// - Parameter kind: index into `optimizer.stateKinds`.
    public func state(_ block: Int, kind: Int) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(start: states[kind].start + starts[block], count: counts[block])
    }

    /// Optimiser steps a block has had; a checkpoint saves and restores it.
    public func stepCount(_ block: Int) -> UInt64 { steps[block] }

    /// Restores the number of steps a block has had.
    public func setStepCount(_ count: UInt64, of block: Int) { steps[block] = count }

    /// Changes the rule of a block; its state stays.
    ///
    /// - Precondition: the new rule needs no state that `optimizer` does not have.
    public func setOptimizer(_ new: Optimizer, of block: Int) {
        precondition(
            new.stateKinds.count <= states.count,
            "a rule with \(new.stateKinds.count) state arrays, there are \(states.count)")
        optimizers[block] = new
    }

    /// Sets the rows of a block to `source`; its state and step count become those of a new block.
    ///
    /// - Parameter source: `valueCount(block)` values, the caller's.
    public func initialise(_ block: Int, from source: UnsafePointer<Float>) {
        kernels.pointee.copy(values.start + starts[block], source, Int64(counts[block]))
        for (kind, state) in zip(optimizers[block].stateKinds, states) {
            kernels.pointee.fill(
                state.start + starts[block], kind.initialValue, Int64(counts[block]))
        }
        steps[block] = 0
    }

    /// Adds a worker's contribution to the block's sum; the first of a tick replaces the sum.
    ///
    /// - Parameter contribution: `valueCount(block)` values, the caller's.
    public func fold(_ block: Int, contribution: UnsafePointer<Float>, isFirst: Bool) {
        let sum = sums.start + starts[block]
        if isFirst {
            kernels.pointee.copy(sum, contribution, Int64(counts[block]))
        } else {
            kernels.pointee.add(sum, contribution, Int64(counts[block]))
        }
    }

    /// Runs the optimiser once over a block, on its sum.
    ///
    /// - Parameters:
    ///   - learningRate: of the tick that is being completed, schedule included.
    ///   - workerCount: contributions in the sum; a mean divides by it.
    ///   - gradientScale: what the gradient is multiplied by, such as a clipping factor.
    public func apply(
        _ block: Int, learningRate: Double, workerCount: Int, gradientScale: Float = 1
    ) {
        apply(
            block, gradient: sums.start + starts[block], learningRate: learningRate,
            workerCount: workerCount, gradientScale: gradientScale)
    }

    /// Runs the optimiser once over a block, on a gradient that need not be folded first.
    ///
    /// - Parameter gradient: `valueCount(block)` values, the caller's: a lone worker's contribution.
    public func apply(
        _ block: Int, gradient: UnsafePointer<Float>, learningRate: Double, workerCount: Int,
        gradientScale: Float = 1
    ) {
        steps[block] += 1
        step(
            block, from: 0, count: counts[block], gradient: gradient, learningRate: learningRate,
            workerCount: workerCount, gradientScale: gradientScale)
    }

    /// Runs the rule over some values of a block, whose step has been counted.
    private func step(
        _ block: Int, from offset: Int, count: Int, gradient: UnsafePointer<Float>,
        learningRate: Double, workerCount: Int, gradientScale: Float
    ) {
        let start = starts[block] + offset
        func state(_ kind: Int) -> UnsafeMutablePointer<Float>? {
            kind < states.count ? states[kind].start + start : nil
        }
        optimizers[block].step(
            values: values.start + start, gradient: gradient,
            state: Optimizer.StatePointers(state(0), state(1), state(2)), count: count,
            step: steps[block], learningRate: learningRate, gradientScale: gradientScale,
            workerCount: workerCount)
    }

    // MARK: Gradients in pieces

    /// As `fold`, of a contribution that lies in pieces.
    func fold(_ block: Int, pieces: [GradientPiece], isFirst: Bool) {
        let sum = sums.start + starts[block]
        forEachRun(of: block, pieces) { offset, values, count in
            if isFirst {
                kernels.pointee.copy(sum + offset, values, Int64(count))
            } else {
                kernels.pointee.add(sum + offset, values, Int64(count))
            }
        }
    }

    /// As `apply`, on a gradient that lies in pieces.
    func apply(_ block: Int, pieces: [GradientPiece], learningRate: Double, workerCount: Int) {
        steps[block] += 1
        forEachRun(of: block, pieces) { offset, values, count in
            step(
                block, from: offset, count: count, gradient: values, learningRate: learningRate,
                workerCount: workerCount, gradientScale: 1)
        }
    }

    /// Values of zero that stand for what no piece covers: mostly the gaps that align parameters.
    // Unsafe: never written again.
    nonisolated(unsafe) private static let zeros: UnsafePointer<Float> = {
        let zeros = UnsafeMutablePointer<Float>.allocate(capacity: zeroCount)
        zeros.initialize(repeating: 0, count: zeroCount)
        return UnsafePointer(zeros)
    }()
    private static let zeroCount = 1024

    /// Calls `body` for each run of the block whose values lie in one place: its offset in the block, where, how many.
    private func forEachRun(
        of block: Int, _ pieces: [GradientPiece],
        _ body: (Int, UnsafePointer<Float>, Int) -> Void
    ) {
        let place = self.block(block)
        let first = place.rows.lowerBound * shardMap.tables[place.table].rowWidth
        let end = first + counts[block]
        var position = first
        func skip(to next: Int) {
            while position < next {
                let count = min(next - position, Self.zeroCount)
                body(position - first, Self.zeros, count)
                position += count
            }
        }
        for piece in pieces where piece.range.upperBound > first && piece.range.lowerBound < end {
            skip(to: piece.range.lowerBound)
            let upTo = min(piece.range.upperBound, end)
            body(
                position - first, piece.values + (position - piece.range.lowerBound),
                upTo - position)
            position = upTo
        }
        skip(to: end)
    }

    /// The sum of squares of a block's sum, for clipping by the global norm.
    public func squaredNormOfSum(_ block: Int) -> Double {
        kernels.pointee.squared_norm(sums.start + starts[block], Int64(counts[block]))
    }
}
