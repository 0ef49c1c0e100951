/// What pushes and notices of waits say about time, always as durations that one process has measured.
extension FrameHeader {
    /// The block's index in its keeper, of every kind that speaks of one.
    public var blockInKeeper: UInt64 { kind == .push ? third & 0xFFFF_FFFF : third }

    /// push: how long the worker has been busy since its last push of the table, waits for rows left out.
    public var busyMicroseconds: UInt32 { UInt32(truncatingIfNeeded: third >> 32) }

    /// Sets `third` of a push.
    public mutating func setPush(block: Int, busyMicroseconds: UInt32) {
        third = UInt64(UInt32(block)) | UInt64(busyMicroseconds) << 32
    }

    /// waited: how long, and how far away the keeper is.
    public var notice: WaitNotice {
        get {
            WaitNotice(
                waitMicroseconds: UInt32(truncatingIfNeeded: second),
                roundTripMicroseconds: UInt32(truncatingIfNeeded: second >> 32))
        }
        set {
            second =
                UInt64(newValue.waitMicroseconds) | UInt64(newValue.roundTripMicroseconds) << 32
        }
    }
}

/// A worker's wait for the rows of a block.
public struct WaitNotice: Hashable, Sendable {
    /// How long the application has waited.
    public var waitMicroseconds: UInt32
    /// From the worker's push of that tick to the rows with it.
    public var roundTripMicroseconds: UInt32

    /// A wait.
    public init(waitMicroseconds: UInt32, roundTripMicroseconds: UInt32) {
        self.waitMicroseconds = waitMicroseconds
        self.roundTripMicroseconds = roundTripMicroseconds
    }

    /// `nanoseconds` in microseconds, rounded; the most that fits for longer ones.
    public static func microseconds(_ nanoseconds: UInt64) -> UInt32 {
        UInt32(clamping: (nanoseconds + 500) / 1000)
    }
}
