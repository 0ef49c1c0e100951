internal import CGeePSShims
import Glibc

/// A named thread with one owner, who joins it.
///
/// For the data plane: its body may block.
public final class DedicatedThread: @unchecked Sendable {
    // Sendable: `handle` is written before `init` returns; `isJoined` is guarded by `signal`.
    private var handle = pthread_t()
    private var isJoined = false
    private let signal = Signal()
    /// As shown by /proc and debuggers; the kernel keeps 15 bytes.
    public let name: String

    /// Starts `body` on a new thread.
    ///
    /// - Precondition: the system has a thread left; without threads nothing here can work.
    public init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        let start = Unmanaged.passRetained(Start(name: name, body: body))
        let status = pthread_create(&handle, nil, runDedicatedThread, start.toOpaque())
        precondition(
            status == 0, "cannot start thread \(name): \(String(cString: strerror(status)))")
    }

    /// Waits until the body has returned.
    ///
    /// Only the first call waits.
    public func join() {
        let mustJoin = signal.withLock {
            defer { isJoined = true }
            return !isJoined
        }
        if mustJoin { pthread_join(handle, nil) }
    }
}

private final class Start {
    let name: String
    let body: @Sendable () -> Void

    init(name: String, body: @escaping @Sendable () -> Void) {
        self.name = name
        self.body = body
    }
}

// Nonisolated on purpose: a closure made in a main-actor context dies in dispatch_assert_queue.
private nonisolated func runDedicatedThread(_ argument: UnsafeMutableRawPointer?)
    -> UnsafeMutableRawPointer?
{
    guard let argument else { return nil }
    let start = Unmanaged<Start>.fromOpaque(argument).takeRetainedValue()
    geeps_thread_set_name(start.name)
    start.body()
    return nil
}
