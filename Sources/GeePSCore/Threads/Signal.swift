import Glibc

/// A mutex with a condition: the one place in the house where threads wait for each other.
///
/// The mutex guards whatever its owner says it guards. Waiting uses CLOCK_MONOTONIC.
public final class Signal: @unchecked Sendable {
    // Sendable: pthread objects at a fixed address, made for use from any thread.
    private let mutex = UnsafeMutablePointer<pthread_mutex_t>.allocate(capacity: 1)
    private let condition = UnsafeMutablePointer<pthread_cond_t>.allocate(capacity: 1)

    /// An unlocked signal nobody waits for.
    public init() {
        pthread_mutex_init(mutex, nil)
        var attributes = pthread_condattr_t()
        pthread_condattr_init(&attributes)
        pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC)
        pthread_cond_init(condition, &attributes)
        pthread_condattr_destroy(&attributes)
    }

    deinit {
        pthread_cond_destroy(condition)
        pthread_mutex_destroy(mutex)
        condition.deallocate()
        mutex.deallocate()
    }

    /// Locks; pair with `unlock`.
    ///
    /// Hold it to decide, let it go to act.
    public func lock() { pthread_mutex_lock(mutex) }

    /// Unlocks.
    public func unlock() { pthread_mutex_unlock(mutex) }

    /// Runs `body` under the lock.
    public func withLock<R: ~Copyable, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        lock()
        defer { unlock() }
        return try body()
    }

    /// Lets the lock go, waits for `wakeAll` or `wakeOne`, takes the lock again.
    ///
    /// May wake for nothing.
    ///
    /// - Returns: false when `deadline` passed.
    public func wait(until deadline: Deadline? = nil) -> Bool {
        guard let deadline else {
            pthread_cond_wait(condition, mutex)
            return true
        }
        var time = timespec(
            tv_sec: Int(deadline.nanoseconds / 1_000_000_000),
            tv_nsec: Int(deadline.nanoseconds % 1_000_000_000))
        return pthread_cond_timedwait(condition, mutex, &time) != ETIMEDOUT
    }

    /// Wakes every waiter.
    public func wakeAll() { pthread_cond_broadcast(condition) }

    /// Wakes one waiter, if there is one.
    public func wakeOne() { pthread_cond_signal(condition) }
}
