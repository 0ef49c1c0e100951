import GeePSCore
import GeePSTransport

/// TLS of one control connection: whole messages go in and encrypted bytes come out, and back; never waits.
///
/// Used by one thread at a time.
final class ControlCipher {
    private let session: TLSSession
    // What was sent before the handshake was complete.
    private var held: [UInt8] = []
    /// Why TLS ended the connection.
    private(set) var failure: TransportError?
    /// Whether the peer ended the stream in order.
    private var hasEnded = false
    /// Whether nothing has come yet.
    private(set) var isUntouched = true

    /// Control messages are small, and rank 0 has a connection for every process.
    private static let bufferBytes = 32 << 10

    init(_ context: TLSContext, side: TLSSession.Side, peer: String) {
        session = TLSSession(context, side: side, peer: peer, bufferBytes: Self.bufferBytes)
    }

    var channelBinding: [UInt8] { session.channelBinding }

    /// Why nothing more can come; nil while the stream is open.
    var ending: String? { failure?.message ?? (hasEnded ? "it ended the TLS stream" : nil) }

    /// Begins the handshake.
    ///
    /// - Returns: what must be sent, as do the others.
    func start() -> [UInt8] { advance() }

    /// Encrypts `bytes`, or keeps them until the handshake is complete.
    func encrypt(_ bytes: [UInt8]) -> [UInt8] {
        guard session.isEstablished else {
            held += bytes
            return []
        }
        var output: [UInt8] = []
        do throws(TransportError) {
            var done = 0
            while done < bytes.count {
                let result = bytes.withUnsafeBytes { source in
                    Result { () throws(TransportError) in
                        try session.write(UnsafeRawBufferPointer(rebasing: source[done...]))
                    }
                }
                let count = try result.get()
                if count == 0 { output += session.takeOutput() }
                done += count
            }
        } catch {
            failure = failure ?? error
        }
        return output + session.takeOutput()
    }

    /// Decrypts what has come and appends it to `target`.
    func decrypt(_ bytes: UnsafeRawBufferPointer, into target: inout [UInt8]) -> [UInt8] {
        isUntouched = false
        var output: [UInt8] = []
        var rest = bytes
        while !rest.isEmpty && ending == nil {
            let room = session.inputRoom()
            let count = min(room.count, rest.count)
            guard count > 0 else {
                // A record of TLS is half as long as the room at most.
                failure = TransportError(.lost, "\(session.peer) sent a TLS record without end")
                break
            }
            room.copyMemory(from: UnsafeRawBufferPointer(rebasing: rest[..<count]))
            session.received(count)
            rest = UnsafeRawBufferPointer(rebasing: rest[count...])
            if !session.isEstablished { output += advance() }
            if session.isEstablished { read(into: &target) }
        }
        return output
    }

    private func advance() -> [UInt8] {
        do throws(TransportError) {
            guard try session.handshake() else { return Array(session.takeOutput()) }
        } catch {
            failure = error
            return Array(session.takeOutput())
        }
        let waiting = held
        held = []
        return session.takeOutput() + encrypt(waiting)
    }

    private func read(into target: inout [UInt8]) {
        let size = 16 << 10
        do throws(TransportError) {
            while true {
                let result = withUnsafeTemporaryAllocation(byteCount: size, alignment: 16) { room in
                    Result { () throws(TransportError) in
                        let reading = try session.read(into: room)
                        if case .bytes(let count) = reading {
                            target.append(contentsOf: room[..<count])
                        }
                        return reading
                    }
                }
                switch try result.get() {
                case .bytes: continue
                case .needsInput: return
                case .ended:
                    hasEnded = true
                    return
                }
            }
        } catch {
            failure = failure ?? error
        }
    }
}
