import CGeePSShims
import GeePSCore
import Glibc

/// TLS over a connected, blocking socket: what `StreamConnection` sends and receives through in place of the socket.
///
/// One thread may send and one receive; whichever comes first does the handshake.
final class TLSStream: @unchecked Sendable {
    // Sendable: `handshakeFailure` is guarded by `handshaking`; the rest is constant or safe by itself.

    private let session: TLSSession
    private let descriptor: Int32
    private let peer: String
    // Held during the handshake, waits included: who else would send or receive must wait for its end anyway, and
    // it has a bound.
    private let handshaking = Signal()
    private var handshakeFailure: TransportError?

    /// How much is encrypted before it is sent, and asked of the socket at once: eight records.
    private static let bufferBytes = 128 << 10
    /// How long a handshake may take that a send or a receive without a deadline has begun.
    private static let patience = Duration.seconds(10)
    /// How long a listener that has refused a caller stays for it to hear why.
    private static let linger = Duration.milliseconds(500)

    /// A stream over the socket `descriptor`, which stays its owner's.
    init(_ context: TLSContext, side: TLSSession.Side, descriptor: Int32, peer: String) {
        session = TLSSession(context, side: side, peer: peer, bufferBytes: Self.bufferBytes)
        self.descriptor = descriptor
        self.peer = peer
    }

    var channelBinding: [UInt8] { session.channelBinding }

    // MARK: Handshake

    /// Completes the handshake; returns at once when it is.
    ///
    /// - Throws: `.deadline`, after which it can be called again; as `TLSSession.handshake`.
    func establish(deadline: Deadline?) throws(TransportError) {
        if session.isEstablished { return }
        handshaking.lock()
        defer { handshaking.unlock() }
        if let handshakeFailure { throw handshakeFailure }
        do throws(TransportError) {
            try shakeHands(deadline ?? .after(Self.patience))
        } catch {
            if error.code != .deadline { handshakeFailure = error }
            throw error
        }
    }

    private func shakeHands(_ deadline: Deadline) throws(TransportError) {
        while true {
            let isDone: Bool
            do throws(TransportError) {
                isDone = try session.handshake()
            } catch {
                sayWhy()
                throw error
            }
            try flush()
            if isDone { return }
            guard waitForEvents(Int16(POLLIN), on: descriptor, until: deadline) else {
                throw TransportError(
                    .deadline, "TLS handshake with \(peer): not complete before the deadline")
            }
            let room = session.inputRoom()
            let count = recv(descriptor, room.baseAddress, room.count, Int32(MSG_DONTWAIT))
            let number = errno
            if count < 0 && (number == EAGAIN || number == EINTR) { continue }
            guard count > 0 else {
                let why = count == 0 ? "it closed the connection" : systemMessage(number)
                throw TransportError(
                    .lost,
                    "TLS handshake with \(peer): \(why); does it have cluster.tls, and a certificate of this CA?"
                )
            }
            session.received(count)
        }
    }

    /// Sends the alert, and reads on for a moment: bytes that nobody reads would reset the connection before the
    /// peer has heard it.
    private func sayWhy() {
        try? flush()
        _ = shutdown(descriptor, Int32(SHUT_WR))
        let end = Deadline.after(Self.linger)
        while waitForEvents(Int16(POLLIN), on: descriptor, until: end) {
            let room = session.inputRoom()
            guard room.count > 0,
                recv(descriptor, room.baseAddress, room.count, Int32(MSG_DONTWAIT)) > 0
            else { return }
        }
    }

    // MARK: Sending

    /// Sends `head` and then `body`, whole.
    func send(
        _ head: UnsafeRawBufferPointer, _ body: UnsafeRawBufferPointer
    ) throws(TransportError) {
        try establish(deadline: nil)
        for part in [head, body] {
            var rest = part
            while !rest.isEmpty {
                let count = try session.write(rest)
                if count == 0 { try flush() }
                rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            }
        }
        try flush()
    }

    /// Sends what is encrypted.
    private func flush() throws(TransportError) {
        var rest = session.takeOutput()
        while !rest.isEmpty {
            let count = geeps_socket_send(descriptor, rest.baseAddress, rest.count, nil, 0, 0, -1)
            if count == -Int64(EINTR) { continue }
            guard count >= 0 else {
                throw TransportError(.lost, "send to \(peer): \(systemMessage(Int32(-count)))")
            }
            rest = UnsafeRawBufferPointer(rebasing: rest[Int(count)...])
        }
    }

    // MARK: Receiving

    /// Receives as `recv` does, some bytes at most.
    ///
    /// - Parameter waits: whether to wait for the first byte.
    /// - Returns: bytes; 0 at the end of the stream; or -errno.
    func receive(
        _ target: UnsafeMutableRawBufferPointer, waits: Bool
    ) throws(TransportError) -> Int {
        while true {
            switch try session.read(into: target) {
            case .bytes(let count): return count
            case .ended: return 0
            case .needsInput: break
            }
            let room = session.inputRoom()
            let count = recv(
                descriptor, room.baseAddress, room.count, waits ? 0 : Int32(MSG_DONTWAIT))
            guard count > 0 else { return count == 0 ? 0 : -Int(errno) }
            session.received(count)
        }
    }
}
