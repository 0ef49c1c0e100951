import GeePSCore
import Glibc
import Synchronization

/// A socket that several threads use and any may close.
///
/// `close` shuts the socket down, which wakes whoever is blocked in it; the descriptor itself is given
/// back when the last of them has left, so that its number cannot be reused under their feet.
final class SocketHandle: @unchecked Sendable {
    // Sendable: `users` and `isReturned` are guarded by `signal`; the rest is constant or atomic.

    /// Valid between `enter` and `leave`.
    let descriptor: Int32
    private let signal = Signal()
    private var users = 0
    private var isReturned = false
    private let closed = Atomic<Bool>(false)

    /// Takes ownership of `descriptor`.
    init(_ descriptor: Int32) { self.descriptor = descriptor }

    deinit {
        if !isReturned { _ = Glibc.close(descriptor) }
    }

    /// Whether `close` was called on this side.
    var isClosed: Bool { closed.load(ordering: .sequentiallyConsistent) }

    /// Starts a use of the descriptor; pair with `leave`.
    ///
    /// - Returns: false when it is closed; do not use it then.
    func enter() -> Bool {
        signal.withLock {
            guard !isClosed else { return false }
            users += 1
            return true
        }
    }

    /// Ends a use.
    func leave() {
        signal.withLock {
            users -= 1
            returnIfUnused()
        }
    }

    /// Ends both directions; blocked calls return.
    ///
    /// Idempotent.
    func close() {
        signal.withLock {
            guard !isClosed else { return }
            closed.store(true, ordering: .sequentiallyConsistent)
            _ = shutdown(descriptor, Int32(SHUT_RDWR))
            returnIfUnused()
        }
    }

    /// Ends both directions after a failure, without marking it as closed by us: the peer learns of it.
    ///
    /// - Precondition: between `enter` and `leave`.
    func abandon() { _ = shutdown(descriptor, Int32(SHUT_RDWR)) }

    private func returnIfUnused() {
        guard isClosed, users == 0, !isReturned else { return }
        isReturned = true
        _ = Glibc.close(descriptor)
    }
}
