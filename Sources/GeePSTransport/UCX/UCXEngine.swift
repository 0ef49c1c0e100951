import CGeePSShims
import GeePSCore
import Glibc
import Synchronization

/// How the two threads of a lane wait for UCX: whoever waits has UCX work, for both; who finds nothing to do sleeps on
/// UCX's event descriptor, the TCP connection beside it and an event that the other thread writes.
///
/// One lock guards worker and inbox. It is held for a turn of UCX's progress, never while asleep. TCP's end of stream is
/// how a side learns that the other is gone.
final class UCXEngine: @unchecked Sendable {
    // Sendable: `worker`, `inbox` and what they have are guarded by `signal`; a `Sleeper` is its thread's.

    let worker: UCXWorker
    let inbox: UCXInbox
    private let socket: SocketHandle
    private let peer: String
    private let signal = Signal()
    private let sender: Sleeper
    private let receiver: Sleeper
    private let sleeps = Atomic<UInt64>(0)
    /// Whether the TCP connection has nothing more to say; guarded by `signal`.
    var expectsSilence = false
    /// When the end of the TCP connection was first seen; guarded by `signal`.
    private var endSeenAt: UInt64?

    /// Which of the two threads.
    enum Side {
        case sender
        case receiver
    }

    /// How long a thread has UCX work before it sleeps, as long as it takes to wake.
    private static let spinNanoseconds: UInt64 = 20_000
    /// The longest sleep: where UCX loses an event, it is late by so much.
    private static let sleepMilliseconds: Int32 = 20
    /// What was sent over UCX before the end of the TCP connection may come after it.
    private static let graceNanoseconds: UInt64 = 250_000_000

    /// One thread's place to sleep.
    private final class Sleeper {
        /// Guarded by the engine's `signal`.
        var isAsleep = false
        let event: Int32
        /// Used by the thread only; allocated once, since waiting is on the way of every frame.
        let entries = UnsafeMutablePointer<pollfd>.allocate(capacity: 3)

        init(event: Int32) { self.event = event }

        func wake() {
            guard isAsleep else { return }
            isAsleep = false
            var one: UInt64 = 1
            _ = write(event, &one, 8)
        }

        deinit {
            close(event)
            entries.deallocate()
        }
    }

    init(_ library: UCXLibrary, socket: SocketHandle, peer: String) throws(TransportError) {
        self.socket = socket
        self.peer = peer
        inbox = UCXInbox(peer: peer)
        worker = try UCXWorker(library)
        var sleepers: [Sleeper] = []
        for _ in 0..<2 {
            let event = geeps_event_create()
            guard event >= 0 else { throw .system("make an event descriptor", errno: -event) }
            sleepers.append(Sleeper(event: event))
        }
        (sender, receiver) = (sleepers[0], sleepers[1])
        try inbox.attach(to: worker)
    }

    /// Ends the endpoint: UCX uses no memory of the lane's any more; whoever waits comes to an end.
    ///
    /// Idempotent.
    func shutDown() {
        signal.withLock {
            inbox.refuseAnnounced(worker)
            worker.closeEndpoint()
            inbox.settle(worker)
        }
    }

    /// Runs `body` with the lock held, to use `worker` and `inbox`.
    func withLock<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        try signal.withLock(body)
    }

    /// Times that a thread slept.
    var sleepCount: UInt64 { sleeps.load(ordering: .relaxed) }

    // MARK: Waiting

    /// Has UCX work until `isDone`, which is asked with the lock held.
    ///
    /// - Returns: false when the deadline passed.
    /// - Throws: what ended the lane, `isDone` still being false.
    func wait(
        _ side: Side, until deadline: Deadline?, _ isDone: () throws(TransportError) -> Bool
    ) throws(TransportError) -> Bool {
        let sleeper = side == .sender ? sender : receiver
        var spinsUntil: UInt64 = 0
        while true {
            let now = monotonicNanoseconds()
            let maySleep = spinsUntil != 0 && now >= spinsUntil
            switch try withLock({ () throws(TransportError) in
                try turn(sleeper, side, maySleep: maySleep, isDone)
            }) {
            case .done: return true
            case .worked: spinsUntil = monotonicNanoseconds() + Self.spinNanoseconds
            case .idle:
                if spinsUntil == 0 { spinsUntil = now + Self.spinNanoseconds }
                geeps_spin_pause()
            case .asleep:
                sleep(sleeper, until: deadline)
                spinsUntil = 0
            }
            if let deadline, deadline.hasPassed { return false }
        }
    }

    private enum Turn {
        case done
        case worked
        case idle
        case asleep
    }

    /// One turn, with the lock held.
    private func turn(
        _ sleeper: Sleeper, _ side: Side, maySleep: Bool,
        _ isDone: () throws(TransportError) -> Bool
    ) throws(TransportError) -> Turn {
        sleeper.isAsleep = false
        let hasWorked = work()
        if try isDone() { return .done }
        if hasWorked { return .worked }
        if let end = end(seenBy: side) { throw end }
        guard maySleep, worker.arm() else { return .idle }
        sleeper.isAsleep = true
        sleeps.wrappingAdd(1, ordering: .relaxed)
        return .asleep
    }

    /// Has UCX do what there is, and wakes who is asleep when that may be its; with the lock held.
    @discardableResult
    func work() -> Bool {
        let hasWorked = worker.progress()
        inbox.advance(worker)
        if hasWorked {
            sender.wake()
            receiver.wake()
        }
        return hasWorked
    }

    /// Until something happens, a lock is not held.
    private func sleep(_ sleeper: Sleeper, until deadline: Deadline?) {
        let isEnding = signal.withLock { endSeenAt != nil }
        sleeper.entries[0] = pollfd(
            fd: worker.eventDescriptor, events: Int16(POLLIN), revents: 0)
        sleeper.entries[1] = pollfd(fd: sleeper.event, events: Int16(POLLIN), revents: 0)
        // At its end it is always readable.
        sleeper.entries[2] = pollfd(
            fd: isEnding ? -1 : socket.descriptor, events: Int16(POLLIN), revents: 0)
        let longest = isEnding ? 1 : Self.sleepMilliseconds
        let count = deadline.map { min(longest, pollMilliseconds(until: $0)) } ?? longest
        _ = poll(sleeper.entries, 3, count)
        if sleeper.entries[1].revents != 0 {
            var number: UInt64 = 0
            _ = read(sleeper.event, &number, 8)
        }
    }

    // MARK: The end

    /// Why the lane has ended, or nil while both sides are there; with the lock held.
    private func end(seenBy side: Side) -> TransportError? {
        if socket.isClosed { return .closedHere(peer) }
        if let failure = inbox.failure { return failure }
        if let failure = worker.failure {
            return TransportError(
                .lost, "connection to \(peer) ended without a goodbye (UCX: \(failure))")
        }
        guard let end = endOfSocket() else { return nil }
        let now = monotonicNanoseconds()
        let seenAt = endSeenAt ?? now
        endSeenAt = seenAt
        if side == .receiver && now - seenAt < Self.graceNanoseconds { return nil }
        return end
    }

    private func endOfSocket() -> TransportError? {
        var byte: UInt8 = 0
        let count = recv(socket.descriptor, &byte, 1, Int32(MSG_PEEK) | Int32(MSG_DONTWAIT))
        if count > 0 {
            guard expectsSilence else { return nil }
            return TransportError(.malformed, "\(peer) wrote to the TCP connection beside UCX")
        }
        if count < 0 {
            let number = errno
            if number == EAGAIN || number == EINTR { return nil }
            return TransportError(.lost, "connection to \(peer): \(systemMessage(number))")
        }
        return .endedWithoutGoodbye(peer)
    }
}
