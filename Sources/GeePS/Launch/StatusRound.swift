import GeePSCore

/// Rank 0's question to all where they stand, and what has come back.
///
/// Asked by one thread, answered by the coordinator's; both wait for nothing but each other, and that with a bound.
final class StatusRound: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`.
    private struct State {
        var sequence: UInt64 = 0
        var isSent = true
        var expected = 0
        var answers: [Int: [UInt8]] = [:]
    }

    private let signal = Signal()
    private var state = State()

    /// Asks, and waits for all answers or until `deadline`.
    ///
    /// - Parameter wake: has the coordinator look.
    /// - Returns: by rank, what came in time.
    func ask(until deadline: Deadline, wake: () -> Void) -> [Int: [UInt8]] {
        signal.withLock {
            state.sequence += 1
            state.isSent = false
            state.answers = [:]
        }
        wake()
        return signal.withLock {
            while !state.isSent || state.answers.count < state.expected {
                if !signal.wait(until: deadline) { break }
            }
            return state.answers
        }
    }

    /// The question that has not been sent, if there is one; it counts as sent to `count` from here on.
    func takeQuestion(for count: Int) -> UInt64? {
        signal.withLock {
            guard !state.isSent else { return nil }
            state.isSent = true
            state.expected = count
            signal.wakeAll()
            return state.sequence
        }
    }

    /// An answer; one to an earlier question is dropped.
    func take(_ bytes: [UInt8], sequence: UInt64, from rank: Int) {
        signal.withLock {
            guard sequence == state.sequence else { return }
            state.answers[rank] = bytes
            signal.wakeAll()
        }
    }
}
