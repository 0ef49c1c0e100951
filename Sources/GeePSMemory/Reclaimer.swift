internal import GeePSCore

/// The thread that takes buffers back: adds updates to the update log and gives their memory to the pool, or
/// puts copies to the host on a stream; after a table's last update of the iteration it raises the table's clock.
final class Reclaimer: @unchecked Sendable {
    // Sendable: the mailbox is the only way in; `failure` is guarded by `signal`.
    enum Work: Sendable {
        /// Add the memory to the log of (table of the batch, tick), then give it back.
        case absorb(RowBatch, PooledMemory, tick: Tick)
        /// Copy a stay of a placement out, to `log` where it is an update; added to what is in it if `isAdded`.
        case save(stay: Int, PlacementRun, log: HostAddress?, isAdded: Bool)
        /// All updates of the table's next tick have been absorbed.
        case raiseClock(TableIndex)
    }

    private let mailbox = Mailbox<Work>(capacity: 1024)
    private let signal = Signal()
    private var firstFailure: AccessError?
    private var accepted: UInt64 = 0
    private var done: UInt64 = 0
    private var thread: DedicatedThread?

    init(perform: @escaping @Sendable (Work) throws(AccessError) -> Void) {
        thread = DedicatedThread(name: "reclaimer") { [self] in
            while let work = mailbox.receive() {
                do throws(AccessError) {
                    try perform(work)
                } catch {
                    signal.withLock { if firstFailure == nil { firstFailure = error } }
                }
                signal.withLock {
                    done += 1
                    signal.wakeAll()
                }
            }
        }
    }

    /// Hands work over; returns at once unless a thousand pieces of work wait.
    func send(_ work: Work) {
        signal.withLock { accepted += 1 }
        mailbox.send(work)
    }

    /// Whether all work handed over so far is done.
    var isIdle: Bool { signal.withLock { done == accepted } }

    /// What went wrong first, if anything.
    var failure: AccessError? { signal.withLock { firstFailure } }

    /// Waits until all work handed over so far is done.
    func drain() {
        signal.lock()
        let target = accepted
        while done < target { _ = signal.wait() }
        signal.unlock()
    }

    /// Finishes the work at hand and ends the thread.
    func stop() {
        mailbox.close()
        thread?.join()
        thread = nil
    }
}
