public import GeePSCore
import Glibc
import Synchronization

/// Connections between threads of one process.
public enum InProcess {
    /// Payloads up to this many bytes are copied and queued; the sender does not wait for the receiver.
    public static let copiedBytesMaximum = 4096

    /// Copied frames that may wait in each direction before the sender waits too.
    public static let queuedFramesMaximum = 64

    /// Two connected ends.
    ///
    /// A payload over `copiedBytesMaximum` is not copied: the receiver is lent the sender's own memory
    /// and `send` returns when the receiver has dropped the frame, or when the connection is closed
    /// before the frame was received. So a frame that is kept keeps its sender waiting, even past
    /// `close`, and a receiver that wants to keep it for long copies it.
    public static func pair(
        names: (String, String) = ("first end", "second end"), options: TransportOptions = .init()
    ) -> (any Connection, any Connection) {
        let forth = InProcessChannel()
        let back = InProcessChannel()
        return (
            InProcessConnection(
                outgoing: forth, incoming: back, peer: "\(names.1) (in-process)", options: options),
            InProcessConnection(
                outgoing: back, incoming: forth, peer: "\(names.0) (in-process)", options: options)
        )
    }
}

/// One end of a pair.
final class InProcessConnection: Connection, @unchecked Sendable {
    // Sendable: `hasGoodbye` and `failure` are the receiving thread's; the rest is constant or atomic.
    let peer: String
    let carrier = Carrier.inProcess
    private let outgoing: InProcessChannel
    private let incoming: InProcessChannel
    private let checksPayload: Bool
    private let closed = Atomic<Bool>(false)
    private let sent = Atomic<UInt64>(0)
    private let received = Atomic<UInt64>(0)
    private var hasGoodbye = false
    private var failure: TransportError?

    init(
        outgoing: InProcessChannel, incoming: InProcessChannel, peer: String,
        options: TransportOptions
    ) {
        self.outgoing = outgoing
        self.incoming = incoming
        self.peer = peer
        checksPayload = options.checksPayload
    }

    deinit { end() }

    var bytesSent: UInt64 { sent.load(ordering: .relaxed) }
    var bytesReceived: UInt64 { received.load(ordering: .relaxed) }

    func send(_ header: FrameHeader, payload: UnsafeRawBufferPointer) throws(TransportError) {
        let header = header.sealed(over: payload, checksPayload: checksPayload)
        if isClosed { throw .closedHere(peer) }
        sent.wrappingAdd(UInt64(header.frameBytes), ordering: .relaxed)
        guard outgoing.send(header, payload) else {
            throw isClosed ? .closedHere(peer) : .endedWithoutGoodbye(peer)
        }
    }

    func receive(deadline: Deadline?) throws(TransportError) -> ReceivedFrame {
        if isClosed { throw .closedHere(peer) }
        if let failure { throw failure }
        if hasGoodbye { throw .closedThere(peer) }
        switch incoming.receive(deadline: deadline) {
        case .some(let frame):
            received.wrappingAdd(UInt64(frame.header.frameBytes), ordering: .relaxed)
            hasGoodbye = frame.header.kind == .goodbye
            do {
                try frame.header.verify(frame.payload, from: peer)
            } catch {
                failure = error
                end()
                throw error
            }
            return frame
        case .none:
            if isClosed { throw .closedHere(peer) }
            if incoming.isClosed { throw .endedWithoutGoodbye(peer) }
            throw .receiveDeadline(peer, after: 0)
        }
    }

    func close() {
        closed.store(true, ordering: .sequentiallyConsistent)
        end()
        incoming.discard()
    }

    private var isClosed: Bool { closed.load(ordering: .sequentiallyConsistent) }

    private func end() {
        outgoing.close()
        incoming.close()
    }
}
