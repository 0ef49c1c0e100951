import GeePSCore
import Testing

@testable import GeePSServer

@Suite("RowStore") struct RowStoreTests {
    private static let tables = [
        TableLayout(name: "conv", rowCount: 13, rowWidth: 5),
        TableLayout(name: "keys", rowCount: 1000, rowWidth: 1),
        TableLayout(name: "fc", rowCount: 40),
    ]
    private static let map = ShardMap(tables: tables, keeperCount: 3, blockBytes: 1024)
    private static let momentum = Optimizer(
        OptimizerConfiguration(
            rule: .sgd(momentum: 0.5, dampening: 0, nesterov: false), learningRate: 1))

    private static func store(
        keeper: Int = 1, optimizer: Optimizer = momentum
    ) throws -> RowStore {
        try RowStore(shardMap: map, keeper: keeper, optimizer: optimizer)
    }

    @Test(arguments: 0..<3)
    func blocksAreThoseOfTheKeeperAlignedAndApart(keeper: Int) throws {
        let store = try Self.store(keeper: keeper)
        #expect(store.blockCount == Self.map.blocksOfKeeper[keeper].count)
        var end: UnsafeMutablePointer<Float>?
        for index in 0..<store.blockCount {
            let block = store.block(index)
            let rows = store.values(index)
            #expect(block.keeper == keeper && block.indexInKeeper == index)
            #expect(rows.count * 4 == Self.map.byteCount(of: block))
            #expect(store.valueCount(index) == rows.count)
            #expect(UInt(bitPattern: rows.baseAddress) % 64 == 0)
            if let end, let start = rows.baseAddress { #expect(start >= end) }
            end = rows.baseAddress.map { $0 + rows.count }
        }
    }

    @Test func foldAddsAfterTheFirstAndApplyUsesTheMean() throws {
        let store = try Self.store()
        for block in 0..<store.blockCount {
            let count = store.valueCount(block)
            let initial = (0..<count).map { Float($0 + block) }
            store.initialise(block, from: initial)
            for tick in 1...2 {
                for worker in 0..<4 {
                    store.fold(
                        block, contribution: [Float](repeating: Float(worker * tick), count: count),
                        isFirst: worker == 0)
                }
                #expect(store.sum(block).allSatisfy { $0 == Float(6 * tick) })
                #expect(store.squaredNormOfSum(block) == Double(count * 36 * tick * tick))
                store.apply(block, learningRate: 0.5, workerCount: 4)
            }
            // Means 1.5 and 3; buffers 1.5 and 3.75; half of each is taken off.
            #expect(Array(store.values(block)) == initial.map { $0 - 0.75 - 1.875 })
            #expect(store.state(block, kind: 0).allSatisfy { $0 == 3.75 })
            #expect(store.stepCount(block) == 2)
        }
    }

    @Test func blocksDoNotTouchOneAnother() throws {
        let store = try Self.store()
        for block in 0..<store.blockCount {
            store.initialise(
                block, from: [Float](repeating: Float(block), count: store.valueCount(block)))
        }
        let ones = [Float](repeating: 1, count: store.valueCount(2))
        store.fold(2, contribution: ones, isFirst: true)
        store.apply(2, learningRate: 1, workerCount: 1)
        for block in 0..<store.blockCount {
            let expected = Float(block == 2 ? 1 : block)
            #expect(store.values(block).allSatisfy { $0 == expected })
            #expect(store.stepCount(block) == (block == 2 ? 1 : 0))
        }
    }

    @Test func aLoneContributionNeedsNoFold() throws {
        let folded = try Self.store()
        let direct = try Self.store()
        var numbers = TestNumbers(seed: 8)
        let count = folded.valueCount(0)
        for _ in 0..<3 {
            let gradient = numbers.floats(count)
            folded.fold(0, contribution: gradient, isFirst: true)
            folded.apply(0, learningRate: 0.1, workerCount: 1)
            direct.apply(0, gradient: gradient, learningRate: 0.1, workerCount: 1)
        }
        #expect(Array(folded.values(0)).bits == Array(direct.values(0)).bits)
    }

    @Test func stateCarriedOverContinuesWithTheSameBits() throws {
        let rule = OptimizerRule.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8)
        let optimizer = Optimizer(OptimizerConfiguration(rule: rule, learningRate: 1))
        let first = try Self.store(optimizer: optimizer)
        let second = try Self.store(optimizer: optimizer)
        var numbers = TestNumbers(seed: 9)
        let gradients = (0..<4).map { _ in numbers.floats(first.valueCount(0)) }
        for step in 0..<4 {
            if step == 2 {
                second.initialise(0, from: Array(first.values(0)))
                for kind in 0..<2 {
                    _ = second.state(0, kind: kind).update(
                        fromContentsOf: first.state(0, kind: kind))
                }
                second.setStepCount(first.stepCount(0), of: 0)
            }
            for store in step < 2 ? [first] : [first, second] {
                store.apply(0, gradient: gradients[step], learningRate: 0.1, workerCount: 1)
            }
        }
        #expect(Array(first.values(0)).bits == Array(second.values(0)).bits)
    }

    @Test func initialiseResetsTheState() throws {
        let rule = OptimizerRule.adaGrad(
            learningRateDecay: 0, initialAccumulator: 0.5, epsilon: 1e-10)
        let store = try Self.store(
            optimizer: Optimizer(OptimizerConfiguration(rule: rule, learningRate: 1)))
        #expect(store.state(0, kind: 0).allSatisfy { $0 == 0.5 })
        let ones = [Float](repeating: 1, count: store.valueCount(0))
        store.apply(0, gradient: ones, learningRate: 1, workerCount: 1)
        #expect(store.state(0, kind: 0).allSatisfy { $0 == 1.5 })
        store.initialise(0, from: ones)
        #expect(store.state(0, kind: 0).allSatisfy { $0 == 0.5 })
        #expect(store.stepCount(0) == 0)
    }

    @Test func aKeeperWithoutRowsIsEmpty() throws {
        let map = ShardMap(tables: [TableLayout(name: "one", rowCount: 1)], keeperCount: 2)
        let store = try RowStore(shardMap: map, keeper: 1, optimizer: Self.momentum)
        #expect(store.blockCount == 0)
        #expect(store.byteCount == 0)
    }
}
