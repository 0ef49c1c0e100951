import GeePSCore
import Glibc
import Synchronization

/// What the control plane of one process has seen.
public struct ControlCounters: Hashable, Sendable {
    /// Heartbeats this process sent: to every other process at rank 0, to rank 0 elsewhere.
    public var heartbeatsSent: UInt64 = 0
    /// Heartbeats this process received from other processes.
    public var heartbeatsReceived: UInt64 = 0
    /// Longest time in nanoseconds between two signs of life of a peer that came back.
    public var longestSilenceNanoseconds: UInt64 = 0
    /// Connections made in place of lost ones: of all other processes at rank 0, to rank 0 elsewhere.
    public var returns: UInt64 = 0
}

/// When to send heartbeats and when a peer has been silent for too long; belongs to one control thread.
///
/// Silence counts only while this process itself runs: after a stop (SIGSTOP, a suspended job) the
/// others are given their time again, or a stopped job would find everybody dead when it goes on.
struct Pulse: ~Copyable {
    private let heartbeat: UInt64
    private let silence: UInt64
    private var nextBeat: UInt64
    private var plannedWake: UInt64
    private let counters: CounterBox

    init(_ settings: ControlSettings, counters: CounterBox) {
        heartbeat = settings.heartbeat.nanoseconds
        silence = settings.silence.nanoseconds
        let now = monotonicNanoseconds()
        nextBeat = now
        plannedWake = now
        self.counters = counters
    }

    /// Waits until a session or `waker` is ready or something is due.
    ///
    /// - Parameters:
    ///   - sessions: all; those without a connection are not waited for.
    ///   - watched: those whose silence counts.
    ///   - expiry: when the caller has something else to do.
    mutating func wait(
        _ sessions: [ControlSession], watched: [ControlSession], waker: WakePipe, expiry: UInt64?
    ) {
        var due = min(nextBeat, expiry ?? .max)
        for session in watched { due = min(due, session.lastHeard.saturatingAdd(silence)) }
        plannedWake = due
        var items = sessions.map(\.pollItem)
        items.append(pollfd(fd: waker.descriptor, events: Int16(POLLIN), revents: 0))
        ControlSocket.wait(&items, count: items.count, until: Deadline(nanoseconds: due))
        waker.clear()
        let now = monotonicNanoseconds()
        guard now > plannedWake, now - plannedWake > silence / 4 else { return }
        for session in watched {
            session.lastHeard = min(now, session.lastHeard + (now - plannedWake))
        }
    }

    /// Whether heartbeats are due; then the next ones are due a heartbeat later.
    mutating func isBeatDue(now: UInt64) -> Bool {
        guard now >= nextBeat else { return false }
        nextBeat = now.saturatingAdd(heartbeat)
        return true
    }

    /// "5.0 s" when `session` has been silent for too long, with or without a connection; ask after reading.
    func silence(of session: ControlSession, now: UInt64) -> String? {
        guard now > session.lastHeard, now - session.lastHeard >= silence else { return nil }
        return secondsText(nanoseconds: now - session.lastHeard)
    }

    /// Reads `session` and counts the silence that ended.
    func receive(_ session: ControlSession) throws(ByteError) -> [ControlMessage] {
        let before = session.lastHeard
        defer {
            let gap = session.lastHeard - min(before, session.lastHeard)
            counters.update {
                $0.longestSilenceNanoseconds = max($0.longestSilenceNanoseconds, gap)
            }
        }
        return try session.receive()
    }
}

/// Counters that a control thread writes and anybody reads.
final class CounterBox: Sendable {
    private let counters = Mutex(ControlCounters())

    var value: ControlCounters { counters.withLock { $0 } }

    func update(_ body: (inout ControlCounters) -> Void) { counters.withLock { body(&$0) } }
}

extension UInt64 {
    /// The sum, or the largest number there is.
    func saturatingAdd(_ other: UInt64) -> UInt64 {
        let (sum, overflow) = addingReportingOverflow(other)
        return overflow ? .max : sum
    }
}
