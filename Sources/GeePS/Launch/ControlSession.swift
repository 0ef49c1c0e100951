import GeePSCore
import Glibc

/// What two processes say to each other on the control plane, over one connection after the other.
///
/// Both sides count the messages since the roster, all but heartbeats. What the other is not known to have is kept, and
/// said again over the next connection, so that every message arrives once and in order.
///
/// Used by one thread at a time.
final class ControlSession {
    /// Drawn by the process that joined; who comes back must have it.
    let identity: UInt64
    /// The connection; nil while there is none.
    private(set) var link: ControlLink?
    /// When bytes last came, in nanoseconds of the monotonic clock; a lost connection is silence.
    var lastHeard = monotonicNanoseconds()
    /// Messages received.
    private(set) var heard: UInt64 = 0

    // The messages from number `heardByPeer` on.
    private var unheard: [ControlMessage] = []
    private var heardByPeer: UInt64 = 0

    /// A session that begins over `link`, after the roster.
    init(_ link: ControlLink, identity: UInt64) {
        self.link = link
        self.identity = identity
    }

    /// Whether the connection has ended, for whatever reason.
    var hasLostLink: Bool { link.map { $0.ending != nil } ?? true }

    /// Whether the other side is known to have everything.
    var isAllHeard: Bool { unheard.isEmpty }

    /// What to wait for.
    var pollItem: pollfd { link?.pollItem ?? pollfd(fd: -1, events: 0, revents: 0) }

    /// Queues `message`; without a connection until there is one again.
    func send(_ message: ControlMessage) {
        unheard.append(message)
        link?.send(message)
    }

    /// Says that this process lives, and what it has received; nothing without a connection.
    func beat() { link?.send(.heartbeat(heard: heard)) }

    /// Takes whole messages, heartbeats among them.
    ///
    /// - Throws: what the peer did against the format.
    func receive() throws(ByteError) -> [ControlMessage] {
        guard let link else { return [] }
        link.flush()
        let before = link.lastHeard
        let messages = try link.receive()
        if link.lastHeard != before { lastHeard = link.lastHeard }
        try count(messages)
        return messages
    }

    /// Counts what has been received, and forgets what the other side has by its own word.
    func count(_ messages: [ControlMessage]) throws(ByteError) {
        for message in messages {
            if case .heartbeat(let count) = message {
                try forget(upTo: count)
            } else {
                heard += 1
            }
        }
    }

    /// Closes the connection; what is not heard waits for the next.
    func lose() { link = nil }

    /// Goes on over `next`, whose other side has received `count` messages.
    ///
    /// - Parameter answer: what is said before all else.
    func resume(
        over next: ControlLink, heardByPeer count: UInt64, answer: ControlMessage? = nil
    ) throws(ByteError) {
        try forget(upTo: count)
        link = next
        lastHeard = monotonicNanoseconds()
        if let answer { next.send(answer) }
        for message in unheard { next.send(message) }
    }

    private func forget(upTo count: UInt64) throws(ByteError) {
        // A heartbeat may have been overtaken by what was said at a return.
        guard count > heardByPeer else { return }
        guard count - heardByPeer <= UInt64(unheard.count) else {
            throw ByteError(
                "\(count) messages received by its own word, "
                    + "\(heardByPeer + UInt64(unheard.count)) were sent")
        }
        unheard.removeFirst(Int(count - heardByPeer))
        heardByPeer = count
    }
}
