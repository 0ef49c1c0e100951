internal import GeePSCore
import Synchronization

/// What a keeper's thread has found out about waits for its rows.
///
/// Locked once a notice, by the keeper's thread, and by who reads.
final class WaitLedger: Sendable {
    private let shares: Mutex<WaitShares>

    init(workerCount: Int) { shares = Mutex(WaitShares(workerCount: workerCount)) }

    /// Adds a wait of `worker`.
    func add(_ split: WaitSplit, of worker: Int) {
        shares.withLock {
            $0.update[worker] += UInt64(split.update) * 1000
            $0.worker[worker] += UInt64(split.worker) * 1000
            $0.causedBy[split.last] += UInt64(split.worker) * 1000
            $0.recoverable[split.last] += UInt64(split.recoverable) * 1000
        }
    }

    /// All so far.
    var value: WaitShares { shares.withLock { $0 } }
}
