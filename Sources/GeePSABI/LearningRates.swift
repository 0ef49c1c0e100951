import Synchronization

/// Learning rates of one table by tick: set by the application, asked for by the threads that send.
final class LearningRates: Sendable {
    private let changes: Mutex<[(tick: UInt64, rate: Double)]>

    /// `rate` from the first tick on.
    init(_ rate: Double) { changes = Mutex([(0, rate)]) }

    /// Changes are forgotten beyond this many: pushes lag by fewer ticks (`Limits.stalenessClocksMaximum`).
    private static let kept = 4096

    /// Sets the rate from `tick` on.
    func set(_ rate: Double, from tick: UInt64) {
        changes.withLock { changes in
            guard let last = changes.last, last.rate != rate else { return }
            if last.tick >= tick { changes.removeLast() }
            changes.append((tick, rate))
            if changes.count > 2 * Self.kept { changes.removeFirst(changes.count - Self.kept) }
        }
    }

    /// The rate of `tick`.
    func rate(at tick: UInt64) -> Double {
        changes.withLock { changes in
            // Almost always the last one or the one before.
            for change in changes.reversed() where change.tick <= tick { return change.rate }
            return changes.first?.rate ?? 0
        }
    }
}
