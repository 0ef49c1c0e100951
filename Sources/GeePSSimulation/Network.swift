import GeePSCore

/// What travels between a worker and a keeper.
struct Frame {
    enum Kind: UInt8 {
        case hello, welcome, initialise, push, rows
    }

    var kind: Kind
    /// `worker * keeperCount + keeper`.
    var connection: Int
    var isToKeeper: Bool
    var generation: UInt32
    /// Which of the connections that the pair had one after the other.
    var epoch: UInt32
    /// Index in `ShardMap.blocks`.
    var block = 0
    /// push: the tick.
    ///
    /// rows: the data age.
    var tick: UInt64 = 0
    /// rows: the receiver's last tick that the keeper has.
    var acknowledging: UInt64 = 0
    /// push: the contribution.
    var value: UInt64 = 0
    var contents = Contents()
    /// hello, welcome: what the sender has of the keeper's blocks.
    var points: [ResumePoint] = []
    /// It outlived its connection.
    var isLate = false
}

/// One direction of a connection: in order, delayed.
struct Direction {
    /// When the last frame arrives; a later one does not overtake it.
    var lastArrival: UInt64 = 0
    /// Nothing arrives before, because of a clog or a partition.
    ///
    /// Outlives the connection.
    var blockedUntil: UInt64 = 0
    /// The lost connection whose frames in flight arrive all the same, late.
    var lateEpoch: UInt32 = 0
}

/// The path between one worker and one keeper: a succession of connections, of which each side knows what
/// it has noticed.
struct Connection {
    /// The newest connection; zero before the first.
    var epoch: UInt32 = 0
    /// Whether the newest connection carries frames.
    var isLive = false
    /// Whether the worker was welcomed and has not noticed a loss.
    var workerIsUp = false
    /// The last connection that the worker gave up.
    var closedEpoch: UInt32 = 0
    /// The connection that the keeper sends on; zero for none.
    var keeperEpoch: UInt32 = 0
    var toKeeper = Direction()
    var toWorker = Direction()
    /// How much later than the others late frames come.
    var lateDelay: UInt64 = 0
}

/// The mailbox of a process: frames are handled in the order of their arrival, when it has time.
struct Mailbox {
    /// When the process has dealt with what it has.
    var busyUntil: UInt64 = 0
    /// Frames in it.
    var waitingCount = 0
}

/// The frames in flight, in slots that are used again.
struct FramePool {
    private var frames: [Frame] = []
    private var free: [Int] = []

    subscript(slot: Int) -> Frame {
        get { frames[slot] }
        set { frames[slot] = newValue }
    }

    mutating func insert(_ frame: Frame) -> Int {
        if let slot = free.popLast() {
            frames[slot] = frame
            return slot
        }
        frames.append(frame)
        return frames.count - 1
    }

    mutating func remove(_ slot: Int) -> Frame {
        free.append(slot)
        return frames[slot]
    }
}
