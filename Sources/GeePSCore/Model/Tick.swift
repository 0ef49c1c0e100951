/// A point of logical time: how many clocks have been completed.
///
/// Zero means none; the initial values of a table are its state at tick zero. A worker that has
/// completed `t` clocks *is at* tick `t` and its next updates belong to tick `t + 1`.
public struct Tick: Comparable, Hashable, Sendable, CustomStringConvertible {
    /// Completed clocks.
    public var count: UInt64

    /// The tick after `count` completed clocks.
    public init(_ count: UInt64) { self.count = count }

    /// No clock completed.
    public static let zero = Tick(0)

    /// One clock later.
    public var next: Tick { Tick(count + 1) }

    /// Whether `a` comes before `b`.
    public static func < (a: Tick, b: Tick) -> Bool { a.count < b.count }

    /// The count, or the word, as it is printed.
    public var description: String { "\(count)" }
}

/// How many clocks a read may lag behind the reader (SSP; GeePS calls it slack).
public enum Staleness: Hashable, Sendable, CustomStringConvertible {
    /// At most this many clocks; zero is BSP.
    case clocks(UInt64)
    /// Any number: asynchronous. A read still waits for the initial values.
    case unbounded

    /// Bulk-synchronous: every read includes every worker's completed clocks.
    public static let bulkSynchronous = Staleness.clocks(0)

    /// The least data age that satisfies a read at `tick` (GeePS §4.2).
    public func leastAge(at tick: Tick) -> Tick {
        switch self {
        case .unbounded: return .zero
        case .clocks(let lag): return Tick(tick.count > lag ? tick.count - lag : 0)
        }
    }

    /// Whether a read with this staleness may see older rows than one with `other`.
    public func isLooser(than other: Staleness) -> Bool {
        switch (self, other) {
        case (.unbounded, .unbounded): return false
        case (.unbounded, _): return true
        case (_, .unbounded): return false
        case (.clocks(let a), .clocks(let b)): return a > b
        }
    }

    /// The count, or the word, as it is printed.
    public var description: String {
        switch self {
        case .clocks(let lag): return "\(lag)"
        case .unbounded: return "async"
        }
    }
}
