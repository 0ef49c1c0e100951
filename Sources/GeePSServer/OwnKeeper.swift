internal import GeePSCore

/// The only keeper as its only worker has it, who does the work of its threads himself, with a crew.
final class OwnKeeper: KeeperInPlace {
    private let keeper: Keeper
    private let map: ShardMap
    private let part: KeeperThread
    /// By table: its blocks, as the keeper numbers them; once, since every step asks.
    private let blocks: [[Int]]

    init(_ keeper: Keeper, map: ShardMap) {
        self.keeper = keeper
        self.map = map
        part = keeper.threads[0]
        blocks = map.blocksOfTable.map { map.blocks[$0].map(\.indexInKeeper) }
    }

    func rows(of table: TableIndex) -> UnsafeMutablePointer<Float> {
        keeper.store.rows(of: table)
    }

    func setUser(_ user: any RowUser) { part.setUser(user) }

    func initialise(_ table: TableIndex, values: UnsafeBufferPointer<Float>) {
        let layout = map.tables[table]
        let padded = Array(values) + repeatElement(0, count: layout.valueCount - values.count)
        padded.withUnsafeBufferPointer { padded in
            guard let start = padded.baseAddress else { return }
            for block in map.blocks[map.blocksOfTable[table]] {
                part.initialise(
                    block.indexInKeeper, from: start + block.rows.lowerBound * layout.rowWidth)
            }
        }
    }

    func take(
        _ pieces: [GradientPiece]?, of table: TableIndex, tick: UInt64, learningRate: Double
    ) {
        part.take(
            pieces, of: blocks[table], tick: tick, learningRate: learningRate, with: keeper.crew)
    }
}
