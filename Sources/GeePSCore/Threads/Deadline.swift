import Glibc

/// A point of monotonic time at which a wait gives up.
public struct Deadline: Sendable, Comparable {
    /// Nanoseconds of CLOCK_MONOTONIC.
    public let nanoseconds: UInt64

    /// The point `nanoseconds` of CLOCK_MONOTONIC.
    public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

    /// The point `duration` from now.
    public static func after(_ duration: Duration) -> Deadline {
        let (seconds, attoseconds) = duration.components
        let ahead =
            UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds / 1_000_000_000))
        return Deadline(nanoseconds: monotonicNanoseconds() + ahead)
    }

    /// Whether it has come.
    public var hasPassed: Bool { monotonicNanoseconds() >= nanoseconds }

    /// Nanoseconds left, zero when it has passed.
    public var remainingNanoseconds: UInt64 {
        let now = monotonicNanoseconds()
        return nanoseconds > now ? nanoseconds - now : 0
    }

    /// Whether `a` comes before `b`.
    public static func < (a: Deadline, b: Deadline) -> Bool { a.nanoseconds < b.nanoseconds }
}

/// Now, in nanoseconds of CLOCK_MONOTONIC.
public func monotonicNanoseconds() -> UInt64 {
    var now = timespec()
    clock_gettime(CLOCK_MONOTONIC, &now)
    return UInt64(now.tv_sec) * 1_000_000_000 + UInt64(now.tv_nsec)
}
