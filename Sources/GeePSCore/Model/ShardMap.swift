/// A run of rows of one table that lives on one keeper and travels in one frame.
public struct Block: Hashable, Sendable {
    /// Position in `ShardMap.blocks`.
    public var index: Int
    /// The table.
    public var table: TableIndex
    /// Rows of the table, half open.
    public var rows: Range<Int>
    /// The keeper that owns the rows.
    public var keeper: Int
    /// Position among the blocks of its keeper.
    public var indexInKeeper: Int
}

/// Which keeper owns which rows: a pure function of the tables' layouts, the number of keepers and
/// the block size.
///
/// Placement in memory and order of access never enter (the original's j-2).
///
/// Each table is cut into one slice a keeper; slice sizes differ by at most one row. Slice `i` of table
/// `t` belongs to keeper `(i + t) % keeperCount`, so that small tables do not all land on keeper 0.
/// Slices are cut into blocks of at most `blockBytes`, the last block of a slice may be shorter.
public struct ShardMap: Hashable, Sendable {
    /// The tables, in the job's order.
    public let tables: [TableLayout]
    /// Keepers in the job.
    public let keeperCount: Int
    /// Most bytes in a block; a row larger than this is a block of its own.
    public let blockBytes: Int
    /// All blocks, ordered by table, then by row.
    public let blocks: [Block]
    /// Blocks of each table, as a range of `blocks`.
    public let blocksOfTable: [Range<Int>]
    /// Blocks of each keeper, as indexes into `blocks`, ascending.
    public let blocksOfKeeper: [[Int]]

    /// Cuts `tables` over `keeperCount` keepers.
    public init(
        tables: [TableLayout], keeperCount: Int, blockBytes: Int = Limits.blockBytesDefault
    ) {
        precondition(keeperCount > 0, "a job needs at least one keeper, got \(keeperCount)")
        precondition(blockBytes > 0, "a block needs a positive size, got \(blockBytes)")
        self.tables = tables
        self.keeperCount = keeperCount
        self.blockBytes = blockBytes
        var blocks: [Block] = []
        var blocksOfTable: [Range<Int>] = []
        var blocksOfKeeper = [[Int]](repeating: [], count: keeperCount)
        for (table, layout) in tables.enumerated() {
            let firstBlock = blocks.count
            let rowsPerBlock = max(1, blockBytes / layout.rowBytes)
            for slice in 0..<keeperCount {
                let keeper = (slice + table) % keeperCount
                let rows = Self.slice(slice, of: layout.rowCount, count: keeperCount)
                for start in stride(from: rows.lowerBound, to: rows.upperBound, by: rowsPerBlock) {
                    let end = min(start + rowsPerBlock, rows.upperBound)
                    blocks.append(
                        Block(
                            index: blocks.count, table: table, rows: start..<end, keeper: keeper,
                            indexInKeeper: blocksOfKeeper[keeper].count))
                    blocksOfKeeper[keeper].append(blocks.count - 1)
                }
            }
            blocksOfTable.append(firstBlock..<blocks.count)
        }
        self.blocks = blocks
        self.blocksOfTable = blocksOfTable
        self.blocksOfKeeper = blocksOfKeeper
    }

    /// Slice `index` of `rowCount` rows cut `count` ways; the first `rowCount % count` get one row more.
    static func slice(_ index: Int, of rowCount: Int, count: Int) -> Range<Int> {
        let (each, extra) = rowCount.quotientAndRemainder(dividingBy: count)
        let start = index * each + min(index, extra)
        return start..<(start + each + (index < extra ? 1 : 0))
    }

    /// The block that holds `row` of `table`.
    ///
    /// - Complexity: O(log blocks of the table).
    public func block(of table: TableIndex, row: Int) -> Block {
        var range = blocksOfTable[table]
        while range.count > 1 {
            let middle = range.lowerBound + range.count / 2
            range =
                blocks[middle].rows.lowerBound <= row
                ? middle..<range.upperBound : range.lowerBound..<middle
        }
        return blocks[range.lowerBound]
    }

    /// Bytes of the rows of `block`.
    public func byteCount(of block: Block) -> Int {
        block.rows.count * tables[block.table].rowBytes
    }
}
