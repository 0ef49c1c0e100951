import GeePSCore
import GeePSTransport
import Glibc

/// Rank 0's port while the job runs: for ranks whose connection was lost, on a thread of its own, so that callers who are
/// not of the job take no time of the coordinator's.
///
/// It knows nobody's identity: whoever has the secret is passed on.
final class ControlDoor: @unchecked Sendable {
    // Sendable: `strangers` is the thread's alone; `waiting` and `isClosed` are guarded by `signal`; `thread` is
    // written before `init` returns.

    /// A rank that is back.
    struct Return {
        let link: ControlLink
        let rejoin: Rejoin
    }

    private let listener: Descriptor
    private let strangers: Strangers
    private let waker: WakePipe
    private let onReturn: @Sendable () -> Void
    private let signal = Signal()
    private var waiting: [Return] = []
    private var isClosed = false
    private var thread: DedicatedThread?

    /// Takes callers of `listener`.
    ///
    /// - Parameter onReturn: called on the door's thread when there is something to take.
    init(
        _ listener: Descriptor, strangers: Strangers, onReturn: @escaping @Sendable () -> Void
    ) throws(LaunchError) {
        self.listener = listener
        self.strangers = strangers
        self.onReturn = onReturn
        waker = try WakePipe()
        thread = DedicatedThread(name: "door") { [self] in run() }
    }

    /// Those who have come back since the last call, in order.
    func takeReturns() -> [Return] {
        signal.withLock {
            defer { waiting = [] }
            return waiting
        }
    }

    /// Stops listening, and waits for that.
    func close() {
        signal.withLock { isClosed = true }
        waker.ring()
        thread?.join()
    }

    private func run() {
        while !signal.withLock({ isClosed }) {
            var items = [listener.number, waker.descriptor].map {
                pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
            }
            items += strangers.pollItems
            let due = strangers.due ?? Deadline(nanoseconds: .max)
            ControlSocket.wait(&items, count: items.count, until: due)
            waker.clear()
            // Before accepting: who has said enough makes room.
            for caller in strangers.hear() { take(caller) }
            do throws(LaunchError) {
                try strangers.takeCallers(listener)
            } catch {
                // No descriptor is left; callers wait until there is one.
                usleep(50_000)
            }
        }
        strangers.report()
        // The descriptor closes with the last reference; nobody must be able to connect from here on.
        shutdown(listener.number, Int32(SHUT_RDWR))
    }

    private func take(_ caller: Strangers.Caller) {
        guard case .rejoin(let rejoin) = caller.wish else {
            // A process that was started anew while this job still runs: its next attempt, or the next but one, finds
            // the next job. A refusal would end it.
            return strangers.turnAway(caller.link, "the job has started")
        }
        caller.link.payloadLimit = ControlLimits.payloadBytes
        signal.withLock { waiting.append(Return(link: caller.link, rejoin: rejoin)) }
        onReturn()
    }
}
