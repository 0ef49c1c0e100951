import GeePSCore

/// Tells a process that has died from one whose control connection was lost: where it listened, nobody does any more.
///
/// A machine that cannot be reached says nothing either way.
final class Witness: @unchecked Sendable {
    // Sendable: the flags are guarded by `signal`; `thread` is written before `init` returns.

    /// For a rank that comes back at once nobody needs to be asked.
    private static let pauseFirst = Duration.milliseconds(20)
    private static let pauseNext = Duration.milliseconds(50)

    private let signal = Signal()
    private var hasFoundDeath = false
    private var isDismissed = false
    private var thread: DedicatedThread?

    /// Asks again and again, on a thread of its own.
    ///
    /// - Parameters:
    ///   - isGone: whether nobody listens any more; waits a fraction of a second at most.
    ///   - onDeath: called once when that is so, on the witness's thread.
    init(_ isGone: @escaping @Sendable () -> Bool, onDeath: @escaping @Sendable () -> Void) {
        thread = DedicatedThread(name: "witness") { [self] in
            var pause = Self.pauseFirst
            repeat {
                if isOver(within: pause) { return }
                pause = Self.pauseNext
            } while !isGone()
            signal.withLock { hasFoundDeath = true }
            onDeath()
        }
    }

    /// Whether the process is known to have died.
    var isDeath: Bool { signal.withLock { hasFoundDeath } }

    /// Ends it, and waits for that.
    func dismiss() {
        signal.withLock {
            isDismissed = true
            signal.wakeAll()
        }
        thread?.join()
    }

    private func isOver(within pause: Duration) -> Bool {
        let end = Deadline.after(pause)
        return signal.withLock {
            while !isDismissed, !end.hasPassed { _ = signal.wait(until: end) }
            return isDismissed
        }
    }
}
