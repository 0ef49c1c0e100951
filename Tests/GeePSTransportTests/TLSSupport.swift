import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

/// A CA that all tests share; making one takes a millisecond, but trust needs the same one.
enum TestAuthority {
    static let job = try? TLSAuthority(name: "job CA")
    static let other = try? TLSAuthority(name: "other CA")
}

/// A listener and what dials it, with contexts of their own.
struct TLSEnds {
    let listener: Listener
    let calling: TransportOptions

    /// - Parameter listening: nil for a side without TLS; likewise `calling`.
    init(listening: TLSContext?, calling: TLSContext?) throws {
        var options = TransportOptions()
        options.tls = listening
        listener = try Listener(options: options)
        options.tls = calling
        options.peerName = "rank 1"
        self.calling = options
    }

    /// What a caller comes to that sends a frame and waits for one.
    func call() -> Running<TransportError?> {
        let (endpoint, options) = (listener.endpoint, calling)
        return Running {
            outcome { () throws(TransportError) in
                let connection = try dial(
                    endpoint, carrier: .fixed(.tcp), options: options, deadline: soon())
                try connection.establish(deadline: soon())
                try connection.send(FrameHeader(.control))
                _ = try connection.receiveCopy()
            }
        }
    }

    /// What the next caller comes to at the listener, which answers one frame.
    func answer(patience: Duration = .seconds(20)) throws -> TransportError? {
        let connection = try listener.accept(deadline: soon())
        defer { connection.close() }
        return outcome { () throws(TransportError) in
            _ = try connection.receiveCopy(deadline: .after(patience))
            try connection.send(FrameHeader(.control))
        }
    }
}

/// Passes bytes on between a caller and a listener, a block at a time, and may change them.
final class Relay: Sendable {
    let port: UInt16
    private let thread: DedicatedThread

    /// - Parameter change: gets each block that goes to the listener; the number of its first byte in the stream.
    init(to port: UInt16, change: @escaping @Sendable (_ first: Int, inout [UInt8]) -> Void) throws
    {
        let listening = socket(AF_INET, streamSocketType, 0)
        let address = try SocketAddress.resolve("127.0.0.1", port: 0)[0]
        precondition(address.withAddress { bind(listening, $0, $1) } == 0)
        precondition(listen(listening, 8) == 0)
        self.port = SocketAddress.local(of: listening)!.numeric!.port
        let target = try SocketAddress.resolve("127.0.0.1", port: port)[0]
        let far = socket(AF_INET, streamSocketType, 0)
        precondition(target.withAddress { connect(far, $0, $1) } == 0)
        thread = DedicatedThread(name: "relay there") {
            let near = accept(listening, nil, nil)
            let back = DedicatedThread(name: "relay back") { Self.pass(far, near) { _, _ in } }
            Self.pass(near, far, change)
            back.join()
            for descriptor in [near, far, listening] { close(descriptor) }
        }
    }

    private static func pass(
        _ source: Int32, _ target: Int32, _ change: (Int, inout [UInt8]) -> Void
    ) {
        var passed = 0
        while true {
            var bytes = [UInt8](repeating: 0, count: 16 << 10)
            let count = recv(source, &bytes, bytes.count, 0)
            guard count > 0 else { break }
            bytes.removeLast(bytes.count - count)
            change(passed, &bytes)
            passed += count
            writeAll(target, bytes)
        }
        _ = shutdown(target, Int32(SHUT_WR))
        _ = shutdown(source, Int32(SHUT_RD))
    }

    func join() { thread.join() }
}

/// A directory of PEM files; `remove` it in the end.
final class PEMDirectory {
    let path: String

    init() throws {
        var template = Array("/tmp/geeps-tls-XXXXXX".utf8CString)
        path = try #require(mkdtemp(&template).map { String(cString: $0) })
    }

    func remove() {
        for name in ["ca", "node", "key", "wrong"] { unlink(file(name)) }
        rmdir(path)
    }

    func file(_ name: String) -> String { "\(path)/\(name).pem" }

    @discardableResult
    func write(_ name: String, _ bytes: [UInt8], mode: mode_t = 0o600) -> String {
        let descriptor = open(file(name), O_WRONLY | O_CREAT | O_TRUNC, mode)
        defer { close(descriptor) }
        _ = Glibc.write(descriptor, bytes, bytes.count)
        return file(name)
    }

    /// Files of a fresh certificate of `authority`.
    func files(of authority: TLSAuthority, name: String = "node", seconds: Int = 3600) throws
        -> TLSFiles
    {
        let identity = try authority.issue(name: name, seconds: seconds)
        return TLSFiles(
            certificate: write("node", identity.certificate), key: write("key", identity.key),
            ca: write("ca", authority.identity.certificate))
    }
}

/// Something that has happened, or not.
final class Flag: Sendable {
    private let signal = Signal()
    nonisolated(unsafe) private var value = false  // Guarded by `signal`.

    func raise() { signal.withLock { value = true } }
    var isRaised: Bool { signal.withLock { value } }
}
