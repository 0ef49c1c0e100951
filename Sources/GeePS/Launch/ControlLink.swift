import GeePSCore
import GeePSTransport
import Glibc

/// One control connection: messages in and out, never waiting; over TLS where the job has it.
///
/// Used by one thread at a time.
final class ControlLink {
    /// Who is at the other end, for messages.
    var peer: String
    /// Largest payload the peer may announce.
    var payloadLimit: Int
    /// When bytes last came, in nanoseconds of the monotonic clock.
    var lastHeard = monotonicNanoseconds()
    /// Why nothing more can come; nil while the connection is open.
    private(set) var ending: String?
    /// Messages received and sent.
    private(set) var messagesReceived: UInt64 = 0
    private(set) var messagesSent: UInt64 = 0

    private let descriptor: Descriptor
    private let sender: Int
    private let secure: ControlCipher?
    // Bytes received and not decoded; bytes to send from `outgoingStart` on.
    private var incoming: [UInt8] = []
    private var outgoing: [UInt8] = []
    private var outgoingStart = 0
    private var canSend = true

    /// A link over `descriptor`, whose own end is rank `sender`.
    ///
    /// - Parameter secure: nil for a connection without TLS.
    init(
        _ descriptor: Descriptor, sender: Int, peer: String, payloadLimit: Int,
        secure: ControlCipher? = nil
    ) {
        self.descriptor = descriptor
        self.sender = sender
        self.peer = peer
        self.payloadLimit = payloadLimit
        self.secure = secure
        if let secure {
            outgoing = secure.start()
            flush()
        }
    }

    /// Why TLS ended the connection; nil when it did not.
    var tlsFailure: TransportError? { secure?.failure }

    /// What is the same at both ends of this connection only; empty without TLS.
    var channelBinding: [UInt8] { secure?.channelBinding ?? [] }

    /// Tells a caller that does not begin a TLS handshake, so waits to be spoken to, what is wrong.
    func refuseInClear(_ message: ControlMessage) {
        guard let secure, secure.isUntouched else { return }
        outgoing += message.frame(sender: sender)
        flush()
    }

    /// What to wait for.
    var pollItem: pollfd {
        let events = POLLIN | (hasUnsent ? POLLOUT : 0)
        return pollfd(fd: ending == nil ? descriptor.number : -1, events: Int16(events), revents: 0)
    }

    /// Whether bytes wait for the peer to make room.
    var hasUnsent: Bool { canSend && outgoingStart < outgoing.count }

    /// Queues `message` and sends what the system takes now.
    func send(_ message: ControlMessage) {
        guard canSend else { return }
        let frame = message.frame(sender: sender)
        outgoing += secure?.encrypt(frame) ?? frame
        messagesSent += 1
        flush()
    }

    /// Sends what the system takes now.
    ///
    /// A broken connection shows when it is read: what came before the break is still worth
    /// reading.
    func flush() {
        while hasUnsent {
            let count = outgoing.withUnsafeBytes { bytes in
                Glibc.send(
                    descriptor.number, bytes.baseAddress.map { $0 + outgoingStart },
                    bytes.count - outgoingStart, Int32(MSG_NOSIGNAL))
            }
            if count < 0 {
                if errno == EINTR { continue }
                if errno != EAGAIN { canSend = false }
                break
            }
            outgoingStart += count
        }
        if !hasUnsent {
            outgoing.removeAll(keepingCapacity: outgoing.capacity < 1 << 16)
            outgoingStart = 0
        }
    }

    /// Tells the peer that nothing more comes; what it still sends can be read.
    func finishSending() {
        canSend = false
        shutdown(descriptor.number, Int32(SHUT_WR))
    }

    /// Reads what is there, and takes whole messages out of it.
    ///
    /// - Throws: what the peer did against the format; close the link then.
    func receive() throws(ByteError) -> [ControlMessage] {
        readAvailable()
        var messages: [ControlMessage] = []
        var position = 0
        defer { incoming.removeFirst(position) }
        while let (message, end) = try nextMessage(from: position) {
            messages.append(message)
            messagesReceived += 1
            position = end
        }
        return messages
    }

    /// Reads and drops what is there.
    func discard() {
        readAvailable()
        incoming.removeAll()
    }

    private func readAvailable() {
        // Who may say little is not read far ahead.
        var budget = min(4 << 20, payloadLimit + Limits.frameHeaderBytes)
        while ending == nil && budget > 0 {
            let size = 64 << 10
            let count = withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { buffer in
                let count = recv(descriptor.number, buffer.baseAddress, size, 0)
                if count > 0 { take(UnsafeRawBufferPointer(buffer)[..<count]) }
                return count
            }
            if count > 0 {
                lastHeard = monotonicNanoseconds()
                budget -= count
                if count < size { return }
            } else if count == 0 {
                ending = "it closed the connection"
            } else if errno == EAGAIN {
                return
            } else if errno != EINTR {
                ending = systemText(errno)
            }
        }
    }

    private func take(_ bytes: Slice<UnsafeRawBufferPointer>) {
        guard let secure else { return incoming.append(contentsOf: bytes) }
        outgoing += secure.decrypt(UnsafeRawBufferPointer(rebasing: bytes), into: &incoming)
        flush()
        ending = ending ?? secure.ending
    }

    private func nextMessage(from start: Int) throws(ByteError) -> (ControlMessage, end: Int)? {
        guard incoming.count - start >= Limits.frameHeaderBytes else { return nil }
        let head = Array(incoming[start..<start + Limits.frameHeaderBytes])
        let decoded = head.withUnsafeBytes { bytes in
            Result { () throws(FrameError) in try FrameHeader(decoding: bytes) }
        }
        let header: FrameHeader
        switch decoded {
        case .success(let found): header = found
        case .failure(let error): throw ByteError(error.description)
        }
        guard header.kind == .control else {
            throw ByteError("a \(header.kind) frame on a control connection")
        }
        guard header.flags == FrameHeader.payloadChecked else {
            throw ByteError("a control frame without a payload checksum")
        }
        guard Int(header.payloadBytes) <= payloadLimit else {
            throw ByteError(
                "a message of \(header.payloadBytes) bytes announced, "
                    + "at most \(payloadLimit) are allowed")
        }
        let begin = start + Limits.frameHeaderBytes
        let end = begin + Int(header.payloadBytes)
        guard incoming.count >= end else { return nil }
        let checksum = incoming.withUnsafeBytes {
            crc32c(UnsafeRawBufferPointer(rebasing: $0[begin..<end]))
        }
        guard checksum == header.payloadChecksum else {
            throw ByteError("a message with a wrong checksum")
        }
        return (try ControlMessage(decoding: Array(incoming[begin..<end])), end)
    }
}

extension ControlLink {
    /// Sends the rest and ends all `links` in order, without losing what is on its way: says that nothing
    /// more comes, then reads until the peers have closed too or `deadline` passed.
    static func drain(_ links: [ControlLink], until deadline: Deadline) {
        var finished = [Bool](repeating: false, count: links.count)
        while !deadline.hasPassed {
            for (index, link) in links.enumerated() {
                link.flush()
                if !link.hasUnsent && !finished[index] {
                    link.finishSending()
                    finished[index] = true
                }
                link.discard()
            }
            var items = links.map(\.pollItem).filter { $0.fd >= 0 }
            if items.isEmpty { return }
            ControlSocket.wait(&items, count: items.count, until: deadline)
        }
    }
}
