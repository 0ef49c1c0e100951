internal import CGeePSKernels
public import GeePSCore
import Synchronization

/// A copy of what a keeper holds after one tick: rows, optimiser state and step counts, block by block.
///
/// The keeper's threads fill it, each with its blocks at the moment their tick is applied; whoever is told that
/// it is full reads it. Its memory is that of rows and state once more, for as long as somebody holds it.
public final class ShardCapture: @unchecked Sendable {
    // Sendable: each block is written once, by its thread; `isTaken` says which are, by that thread too. The
    // thread that brings `missing` to zero hands all to the reader.

    /// The map of the job; constant.
    public let shardMap: ShardMap
    /// Whose rows these are; constant.
    public let keeper: Int
    /// Names of the state arrays; constant.
    public let stateNames: [String]
    /// The tick after which each block is copied; constant while it is filled.
    public private(set) var tick: UInt64 = 0

    private let store: RowStore
    private let arrays: [RowStoreArray]
    private let starts: [Int]
    private let steps: UnsafeMutablePointer<UInt64>
    private let isTaken: UnsafeMutablePointer<Bool>
    private let missing = Atomic<Int>(0)
    private var onFull: @Sendable (ShardCapture) -> Void = { _ in }

    /// Room for the rows of `store`.
    ///
    /// - Throws: when the memory cannot be had.
    init(_ store: RowStore) throws(RowStoreError) {
        self.store = store
        shardMap = store.shardMap
        keeper = store.keeper
        stateNames = store.optimizer.stateKinds.map(\.name)
        var starts: [Int] = []
        var end = 0
        for block in 0..<store.blockCount {
            starts.append(end)
            end += store.valueCount(block)
        }
        self.starts = starts
        var arrays: [RowStoreArray] = []
        for name in ["rows"] + stateNames {
            arrays.append(
                try RowStoreArray(count: end, initialValue: 0, purpose: "a checkpoint's \(name)"))
        }
        self.arrays = arrays
        // Last: nothing throws any more.
        steps = .allocate(capacity: max(1, starts.count))
        steps.initialize(repeating: 0, count: starts.count)
        isTaken = .allocate(capacity: max(1, starts.count))
        isTaken.initialize(repeating: false, count: starts.count)
    }

    /// A copy of all of `store` now, as after `tick`; nobody writes to it.
    package convenience init(whole store: RowStore, tick: UInt64) throws(RowStoreError) {
        try self.init(store)
        begin(tick: tick) { _ in }
        for block in 0..<store.blockCount { _ = take(block) }
    }

    deinit {
        steps.deallocate()
        isTaken.deallocate()
    }

    /// Empties it for another tick; nobody reads or fills it.
    func begin(tick: UInt64, onFull: @escaping @Sendable (ShardCapture) -> Void) {
        self.tick = tick
        self.onFull = onFull
        isTaken.update(repeating: false, count: starts.count)
        missing.store(starts.count, ordering: .releasing)
        if starts.isEmpty { onFull(self) }
    }

    /// Copies `block` unless it has been; the thread of the block calls it.
    ///
    /// - Returns: whether it was copied now.
    func take(_ block: Int) -> Bool {
        guard !isTaken[block] else { return false }
        isTaken[block] = true
        copy(store.values(block), to: 0, block)
        for kind in stateNames.indices { copy(store.state(block, kind: kind), to: kind + 1, block) }
        steps[block] = store.stepCount(block)
        // Acquires what the other threads have released, for the reader.
        let (_, left) = missing.subtract(1, ordering: .acquiringAndReleasing)
        if left == 0 { onFull(self) }
        return true
    }

    private func copy(_ source: UnsafeMutableBufferPointer<Float>, to array: Int, _ block: Int) {
        guard let start = source.baseAddress else { return }
        geeps_kernels_best().pointee.copy(
            arrays[array].start + starts[block], start, Int64(source.count))
    }

    /// The blocks, in the order of tables and rows.
    public var blocks: [Block] { shardMap.blocksOfKeeper[keeper].map { shardMap.blocks[$0] } }

    /// The rows of a block as they were; valid while this lives.
    public func values(_ block: Int) -> UnsafeBufferPointer<Float> { part(0, block) }

    /// The state array number `kind` of a block as it was; valid while this lives.
    public func state(_ block: Int, kind: Int) -> UnsafeBufferPointer<Float> {
        part(kind + 1, block)
    }

    /// Optimiser steps that a block had had.
    public func stepCount(_ block: Int) -> UInt64 { steps[block] }

    private func part(_ array: Int, _ block: Int) -> UnsafeBufferPointer<Float> {
        UnsafeBufferPointer(
            start: arrays[array].start + starts[block], count: store.valueCount(block))
    }
}

/// What keepers start from instead of initial values.
public struct RestoredRows: Sendable {
    /// The clock that all rows and workers are at.
    public var tick: UInt64
    /// Fills rows, state and step counts of a keeper.
    public var fill: @Sendable (RowStore) throws(RowStoreError) -> Void

    /// Rows of `tick`, which `fill` brings.
    public init(tick: UInt64, fill: @escaping @Sendable (RowStore) throws(RowStoreError) -> Void) {
        self.tick = tick
        self.fill = fill
    }
}
