import Testing

@testable import GeePSCore

@Suite struct ShardMapTests {
    /// A layout that a seed draws.
    private func randomMap(_ seed: UInt64) -> ShardMap {
        var random = SeededGenerator(state: seed)
        let tables = (0..<Int.random(in: 1...8, using: &random)).map { index in
            TableLayout(
                name: "t\(index)", rowCount: Int.random(in: 1...3000, using: &random),
                rowWidth: Int.random(in: 1...300, using: &random))
        }
        return ShardMap(
            tables: tables, keeperCount: Int.random(in: 1...12, using: &random),
            blockBytes: Int.random(in: 1...100_000, using: &random))
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func everyRowIsInExactlyOneBlock(seed: UInt64) {
        let map = randomMap(seed)
        for (table, layout) in map.tables.enumerated() {
            var next = 0
            for block in map.blocks[map.blocksOfTable[table]] {
                #expect(block.table == table && block.rows.lowerBound == next)
                #expect(!block.rows.isEmpty)
                next = block.rows.upperBound
            }
            #expect(next == layout.rowCount)
        }
        #expect(map.blocks.indices.allSatisfy { map.blocks[$0].index == $0 })
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func slicesDifferByAtMostOneRow(seed: UInt64) {
        let map = randomMap(seed)
        for table in map.tables.indices {
            var rows = [Int](repeating: 0, count: map.keeperCount)
            for block in map.blocks[map.blocksOfTable[table]] {
                rows[block.keeper] += block.rows.count
            }
            #expect((rows.max() ?? 0) - (rows.min() ?? 0) <= 1)
            // The larger slices come first, starting with keeper `table % keeperCount`.
            let inOrder = (0..<map.keeperCount).map { rows[($0 + table) % map.keeperCount] }
            #expect(inOrder == inOrder.sorted(by: >))
        }
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func blocksKeepTheirBoundUnlessARowIsLarger(seed: UInt64) {
        let map = randomMap(seed)
        for block in map.blocks {
            let bytes = map.byteCount(of: block)
            #expect(bytes == block.rows.count * map.tables[block.table].rowWidth * 4)
            #expect(bytes <= map.blockBytes || block.rows.count == 1)
        }
    }

    @Test(arguments: 0..<60 as Range<UInt64>)
    func keepersNumberTheirBlocksInOrder(seed: UInt64) {
        let map = randomMap(seed)
        #expect(map.blocksOfKeeper.count == map.keeperCount)
        #expect(map.blocksOfKeeper.joined().count == map.blocks.count)
        for (keeper, indexes) in map.blocksOfKeeper.enumerated() {
            #expect(indexes == indexes.sorted())
            for (position, index) in indexes.enumerated() {
                #expect(map.blocks[index].keeper == keeper)
                #expect(map.blocks[index].indexInKeeper == position)
            }
        }
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func aRowFindsItsBlock(seed: UInt64) {
        let map = randomMap(seed)
        for block in map.blocks {
            for row in [block.rows.lowerBound, block.rows.upperBound - 1] {
                #expect(map.block(of: block.table, row: row) == block)
            }
        }
    }

    @Test func sameLayoutsGiveTheSameMap() {
        #expect(randomMap(7) == randomMap(7))
        #expect(randomMap(7) != randomMap(8))
    }

    @Test func aKnownMap() {
        let map = ShardMap(
            tables: [
                TableLayout(name: "a", rowCount: 5, rowWidth: 4),
                TableLayout(name: "b", rowCount: 1, rowWidth: 4),
            ], keeperCount: 2, blockBytes: 40)
        #expect(map.blocks.map(\.rows) == [0..<2, 2..<3, 3..<5, 0..<1])
        #expect(map.blocks.map(\.keeper) == [0, 0, 1, 1])
        #expect(map.blocksOfKeeper == [[0, 1], [2, 3]])
    }
}
