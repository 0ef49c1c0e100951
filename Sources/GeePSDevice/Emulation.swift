import GeePSCore
import Glibc
import Synchronization

/// A link between host and device that the host device pretends to have, slower than its memory.
///
/// Each direction has its own engine, and the copies of one direction follow each other, whichever
/// streams they are on. Copies inside the device do not use the link.
public struct LinkEmulation: Hashable, Sendable {
    /// Of pinned memory, in each direction.
    public var bytesPerSecond: Double
    /// Added to every copy.
    public var latencyNanoseconds: UInt64
    /// Part of the bandwidth that is left to copies from or to pageable memory.
    public var pageableShare: Double

    /// A link of `bytesPerSecond` each way.
    public init(
        bytesPerSecond: Double, latencyNanoseconds: UInt64 = 10_000, pageableShare: Double = 0.5
    ) {
        precondition(
            bytesPerSecond > 0 && pageableShare > 0 && pageableShare <= 1,
            "a link needs a positive bandwidth and a share in 0..<=1, got \(bytesPerSecond) bytes/s "
                + "and \(pageableShare)")
        self.bytesPerSecond = bytesPerSecond
        self.latencyNanoseconds = latencyNanoseconds
        self.pageableShare = pageableShare
    }

    /// How long a copy of `byteCount` bytes takes alone, in nanoseconds.
    public func copyNanoseconds(byteCount: Int, isPageable: Bool) -> UInt64 {
        let speed = isPageable ? bytesPerSecond * pageableShare : bytesPerSecond
        return latencyNanoseconds + UInt64((Double(byteCount) / speed * 1e9).rounded(.up))
    }
}

/// Random waits in front of every operation of a stream, so that a missing wait for an event shows.
///
/// The sequence of waits depends on the seed and the stream's name only. Half of the operations start at
/// once, the others wait for up to `delayMicrosecondsMaximum`, mostly short.
public struct Jitter: Hashable, Sendable {
    /// Where the sequences start.
    public var seed: UInt64
    /// The longest wait.
    public var delayMicrosecondsMaximum: UInt64

    /// Waits from `seed`.
    public init(seed: UInt64, delayMicrosecondsMaximum: UInt64 = 300) {
        self.seed = seed
        self.delayMicrosecondsMaximum = delayMicrosecondsMaximum
    }
}

/// The waits of one stream, in nanoseconds, in order.
struct JitterSequence {
    private var state: UInt64
    private let longest: Double

    init(_ jitter: Jitter, streamName: String) {
        // FNV-1a: `Hasher` differs between processes.
        state = streamName.utf8.reduce(0xcbf2_9ce4_8422_2325 ^ jitter.seed) {
            ($0 ^ UInt64($1)) &* 0x100_0000_01b3
        }
        longest = Double(jitter.delayMicrosecondsMaximum) * 1000
    }

    mutating func next() -> UInt64 {
        let bits = splitMix()
        guard bits & 1 == 1 else { return 0 }
        let uniform = Double(bits >> 11) / Double(1 << 53)
        return UInt64(uniform * uniform * longest)
    }

    private mutating func splitMix() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

/// One direction of an emulated link: one copy at a time, in the order they come.
final class CopyEngine: Sendable {
    private let freeAt = Mutex<UInt64>(0)

    /// Reserves the engine for `nanoseconds`, from `now` or when it is free.
    ///
    /// - Returns: when the reserved time ends.
    func reserve(_ nanoseconds: UInt64, now: UInt64) -> UInt64 {
        freeAt.withLock { freeAt in
            freeAt = max(now, freeAt) + nanoseconds
            return freeAt
        }
    }
}

/// Sleeps until the monotonic clock shows `end`, a few microseconds late at most on an idle machine.
///
/// A sleep ends up to the kernel's timer slack, 50 microseconds, late: so it aims earlier by that much and
/// spins for the rest.
func sleepPrecisely(until end: UInt64) {
    let slack: UInt64 = 60_000
    if end > monotonicNanoseconds() + slack { sleepRoughly(until: end - slack) }
    while monotonicNanoseconds() < end {}
}

/// Sleeps until the monotonic clock shows at least `end`.
package func sleepRoughly(until end: UInt64) {
    var time = timespec(tv_sec: Int(end / 1_000_000_000), tv_nsec: Int(end % 1_000_000_000))
    while clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nil) == EINTR {}
}
