public import GeePSCore
internal import GeePSServer
import Synchronization

/// A clock in two phases: first all gradients are added up, then, when their norm is known everywhere, the optimiser
/// runs on all of them or on none.
///
/// Needs BSP and a quiet moment, as the functions of `Node+State.swift` do; every process does the same.
extension Node {
    /// Begins such a clock; before this worker's updates of it.
    public func beginTwoPhaseClock() -> HeldSteps {
        let held = HeldSteps(missing: configuration.ownKeepers.count)
        for keeper in configuration.ownKeepers {
            server.holdSteps(ofKeeper: keeper) { held.add($0) }
        }
        return held
    }

    /// The norm of all gradients of the clock, averaged as the optimiser will; a collective, after `client.clock()`.
    ///
    /// - Throws: `.timeout` when some worker's updates do not come, `.peerLost`, and as `Membership.sum`.
    public func gradientNorm(
        of held: HeldSteps, deadline: Deadline
    ) throws(LaunchError) -> Double {
        while !held.isComplete(within: .milliseconds(100)) {
            if let failure = membership.failure { throw LaunchError(.peerLost, "\(failure)") }
            if deadline.hasPassed {
                throw LaunchError(.timeout, "some process has not sent its gradients of this clock")
            }
        }
        let squares = try membership.sum(
            [held.squares], label: "gradient norm", deadline: deadline)
        let isMean = configuration.optimizer.reduction == .mean
        return squares[0].squareRoot() / (isMean ? Double(configuration.workers) : 1)
    }

    /// Ends it: the optimiser runs on gradients times `scale`, or nothing changes when that is nil.
    public func endTwoPhaseClock(scale: Float?) {
        for keeper in configuration.ownKeepers {
            server.releaseSteps(ofKeeper: keeper, gradientScale: scale)
        }
    }
}

/// What the keepers of this process hold back between the phases.
public final class HeldSteps: Sendable {
    private let state: Mutex<(missing: Int, squares: Double)>
    private let signal = Signal()

    init(missing: Int) { state = Mutex((missing, 0)) }

    func add(_ squares: Double) {
        state.withLock {
            $0.squares += squares
            $0.missing -= 1
        }
        signal.withLock { signal.wakeAll() }
    }

    var squares: Double { state.withLock(\.squares) }

    /// Whether all gradients are there, after at most `bound`.
    public func isComplete(within bound: Duration) -> Bool {
        let deadline = Deadline.after(bound)
        return signal.withLock {
            while state.withLock({ $0.missing > 0 }) {
                if !signal.wait(until: deadline) { return false }
            }
            return true
        }
    }
}
