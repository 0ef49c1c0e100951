/// The snapshots of all keepers' blocks.
///
/// A checkpoint of a tick is complete when every block is in it.
///
/// A block is snapshotted when its age reaches a multiple of the interval. Under an aggregated policy it then
/// holds exactly the updates up to that tick. An asynchronous job has no consistent cut: its
/// snapshot holds every worker's updates up to the tick and some later ones of fast workers; after a
/// rollback every worker goes on from the tick, and those later ones stay in the rows as they are.
struct CheckpointStore {
    /// By block: tick and rows, ticks ascending.
    private var snapshots: [[(tick: UInt64, rows: Contents)]]
    /// The last tick of which every block has a snapshot; zero for none.
    private(set) var completeTick: UInt64 = 0

    init(blockCount: Int) {
        snapshots = Array(repeating: [], count: blockCount)
    }

    mutating func save(block: Int, tick: UInt64, rows: Contents, defect: Defect?) {
        snapshots[block].append((tick, rows))
        if defect == .rolledBackToIncompleteCheckpoint {
            completeTick = max(completeTick, tick)
            return
        }
        for others in snapshots where (others.last?.tick ?? 0) < tick { return }
        completeTick = tick
    }

    /// Drops what is newer than the last complete checkpoint.
    mutating func rollBack() {
        for block in snapshots.indices {
            while let last = snapshots[block].last, last.tick > completeTick {
                snapshots[block].removeLast()
            }
        }
    }

    /// The rows of `block` in the last complete checkpoint.
    func rows(of block: Int) -> Contents { snapshots[block].last?.rows ?? Contents() }
}
