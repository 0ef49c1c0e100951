import GeePSCore
import Glibc

/// The text of an errno: "Connection refused".
func systemMessage(_ number: Int32) -> String { String(cString: strerror(number)) }

extension TransportError {
    /// The operating system refused `action`: "listen on 127.0.0.1:80: Permission denied".
    static func system(_ action: String, errno number: Int32) -> TransportError {
        TransportError(.system, "\(action): \(systemMessage(number))")
    }

    /// Our own `close` ended it.
    static func closedHere(_ peer: String) -> TransportError {
        TransportError(.closed, "connection to \(peer): closed on this side")
    }

    /// The peer's goodbye has been received; nothing follows it.
    static func closedThere(_ peer: String) -> TransportError {
        TransportError(.closed, "connection to \(peer): closed by the peer after its goodbye")
    }

    /// The stream ended between two frames, but no goodbye came before.
    static func endedWithoutGoodbye(_ peer: String) -> TransportError {
        TransportError(.lost, "connection to \(peer) ended without a goodbye")
    }

    /// The stream ended inside a frame.
    static func endedInsideFrame(_ peer: String, after bytes: Int, of total: Int) -> TransportError
    {
        TransportError(
            .lost,
            "connection to \(peer) ended inside a frame after \(bytes) of \(total) bytes")
    }

    /// Nothing, or not enough, came in time.
    static func receiveDeadline(_ peer: String, after bytes: Int) -> TransportError {
        let what = bytes == 0 ? "no frame came" : "only \(bytes) bytes of a frame came"
        return TransportError(.deadline, "receive from \(peer): \(what) before the deadline")
    }
}
