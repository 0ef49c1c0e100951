import GeePSCore
import Glibc

/// Wakes a thread that waits in `poll`.
final class WakePipe: Sendable {
    private let reader: Descriptor
    private let writer: Descriptor

    init() throws(LaunchError) { (reader, writer) = try ControlSocket.pair() }

    /// What to poll for reading.
    var descriptor: Int32 { reader.number }

    /// Ends the present or the next wait.
    ///
    /// A full pipe has woken already.
    func ring() {
        var byte: UInt8 = 1
        send(writer.number, &byte, 1, Int32(MSG_NOSIGNAL))
    }

    /// Forgets past rings.
    func clear() {
        var bytes = (UInt64(0), UInt64(0))
        while recv(reader.number, &bytes, 16, 0) > 0 {}
    }
}
