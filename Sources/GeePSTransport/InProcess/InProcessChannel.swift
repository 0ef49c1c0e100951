import GeePSCore
import Glibc

/// One direction of an in-process pair: a short queue of copied frames and at most one frame at its end
/// whose payload still is the sender's.
final class InProcessChannel: FrameOwner, @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`; payload memory belongs to one thread at a time.
    private enum Content {
        case copy(BufferPool.Loan)
        case lent(UnsafeRawBufferPointer)
    }

    /// What has become of the sender's own memory.
    private enum Rendezvous {
        case none
        case queued
        case received
        case released
    }

    private let signal = Signal()
    private let pool = BufferPool(keptBytesMaximum: InProcess.queuedFramesMaximum * 4096)
    private var queue: [(header: FrameHeader, content: Content)] = []
    private var rendezvous = Rendezvous.none
    private var closed = false

    deinit { drop() }

    var isClosed: Bool { signal.withLock { closed } }

    /// - Returns: false when the channel is closed and the frame was not received.
    func send(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> Bool {
        payload.count <= InProcess.copiedBytesMaximum
            ? sendCopy(header, payload) : sendLending(header, payload)
    }

    private func sendCopy(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> Bool {
        let loan = pool.take(payload.count)
        loan.bytes.copyMemory(from: payload)
        return signal.withLock {
            while queue.count >= InProcess.queuedFramesMaximum && !closed { _ = signal.wait() }
            guard !closed else {
                pool.release(token: loan.token)
                return false
            }
            enqueue(header, .copy(loan))
            return true
        }
    }

    private func sendLending(_ header: FrameHeader, _ payload: UnsafeRawBufferPointer) -> Bool {
        signal.withLock {
            while queue.count >= InProcess.queuedFramesMaximum && !closed { _ = signal.wait() }
            guard !closed else { return false }
            rendezvous = .queued
            enqueue(header, .lent(payload))
            defer { rendezvous = .none }
            while rendezvous != .released {
                if rendezvous == .queued && closed {
                    withdraw()
                    return false
                }
                _ = signal.wait()
            }
            return true
        }
    }

    /// Takes our own frame back, which is the last one.
    private func withdraw() {
        if case .lent? = queue.last?.content { queue.removeLast() }
    }

    private func enqueue(_ header: FrameHeader, _ content: Content) {
        queue.append((header, content))
        signal.wakeAll()
    }

    /// The next frame; nil when the channel is closed and empty or `deadline` passed.
    func receive(deadline: Deadline?) -> ReceivedFrame? {
        signal.lock()
        defer { signal.unlock() }
        while queue.isEmpty && !closed {
            if !signal.wait(until: deadline) { break }
        }
        guard !queue.isEmpty else { return nil }
        let (header, content) = queue.removeFirst()
        signal.wakeAll()
        switch content {
        case .copy(let loan):
            return ReceivedFrame(
                header: header, payload: UnsafeRawBufferPointer(loan.bytes), owner: pool,
                token: loan.token)
        case .lent(let payload):
            rendezvous = .received
            return ReceivedFrame(header: header, payload: payload, owner: self)
        }
    }

    /// The receiver has dropped the frame with the sender's memory.
    func release(token: Int) {
        signal.withLock {
            rendezvous = .released
            signal.wakeAll()
        }
    }

    /// Nothing more goes in; waiting senders give up.
    ///
    /// Idempotent.
    func close() {
        signal.withLock {
            closed = true
            signal.wakeAll()
        }
    }

    /// Drops what is queued: the receiver will not come.
    func discard() {
        signal.withLock {
            drop()
            signal.wakeAll()
        }
    }

    private func drop() {
        for case (_, .copy(let loan)) in queue { pool.release(token: loan.token) }
        queue.removeAll { if case .copy = $0.content { true } else { false } }
    }
}
