internal import GeePSCore

/// When a lane's pushes of the last ticks left, and how long the worker was busy for them.
///
/// Of a fixed size; guarded by whatever guards the lane.
struct PushTimes {
    private struct Mark {
        var tick: UInt64 = 0
        var nanoseconds: UInt64 = 0
    }

    private static let depthMaximum: UInt64 = 8
    private let depth: Int
    // By block, and by table, and tick.
    private var sent: [Mark]
    private var busy: [Mark]

    init(blockCount: Int, tableCount: Int, staleness: Staleness) {
        switch staleness {
        case .clocks(let lag): depth = 2 + Int(min(lag, Self.depthMaximum - 2))
        case .unbounded: depth = Int(Self.depthMaximum)
        }
        sent = Array(repeating: Mark(), count: blockCount * depth)
        busy = Array(repeating: Mark(), count: tableCount * depth)
    }

    /// The push of `tick` leaves now.
    mutating func noteSent(block: Int, tick: UInt64, at nanoseconds: UInt64) {
        sent[place(block, tick)] = Mark(tick: tick, nanoseconds: nanoseconds)
    }

    /// When the push of `tick` left; nil where that is too long ago.
    func sent(block: Int, tick: UInt64) -> UInt64? {
        let mark = sent[place(block, tick)]
        return mark.tick == tick && tick > 0 ? mark.nanoseconds : nil
    }

    /// The worker was busy for so long until it completed `tick`.
    mutating func noteBusy(_ nanoseconds: UInt64, table: TableIndex, tick: UInt64) {
        busy[place(table, tick)] = Mark(tick: tick, nanoseconds: nanoseconds)
    }

    /// How long the worker was busy until it completed `tick`; zero where that is too long ago.
    func busy(table: TableIndex, tick: UInt64) -> UInt64 {
        let mark = busy[place(table, tick)]
        return mark.tick == tick ? mark.nanoseconds : 0
    }

    private func place(_ index: Int, _ tick: UInt64) -> Int {
        index * depth + Int(tick % UInt64(depth))
    }
}
