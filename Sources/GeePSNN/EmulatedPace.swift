/// How long a clock's layers take at least: workers with slower devices than this machine's, for comparison.
public struct EmulatedPace: Hashable, Sendable {
    /// Whose clocks take longer.
    public enum Delayed: Hashable, Sendable {
        /// Clock n is long for worker n modulo their number, so that all are equally fast on average.
        case inTurn
        /// Every clock of one worker.
        case worker(Int)
    }

    /// Nanoseconds of a clock, spread evenly over the steps that compute.
    public var clockNanoseconds: UInt64
    /// Nanoseconds that a long clock takes more.
    public var delayNanoseconds: UInt64
    /// Which clocks are long.
    public var delayed: Delayed

    /// A pace.
    public init(clockNanoseconds: UInt64, delayNanoseconds: UInt64 = 0, delayed: Delayed = .inTurn)
    {
        self.clockNanoseconds = clockNanoseconds
        self.delayNanoseconds = delayNanoseconds
        self.delayed = delayed
    }

    /// Nanoseconds of the clock after `tick` for worker `rank` of `workerCount`.
    public func nanoseconds(tick: UInt64, rank: Int, workerCount: Int) -> UInt64 {
        let isLong =
            switch delayed {
            case .inTurn: tick % UInt64(workerCount) == UInt64(rank)
            case .worker(let slow): rank == slow
            }
        return clockNanoseconds + (isLong ? delayNanoseconds : 0)
    }
}
