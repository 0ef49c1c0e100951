/// A bounded queue between threads: any number of senders and receivers, first in, first out.
///
/// Full is a wait that `fullWaits` counts; after `close` senders are turned away and receivers drain what
/// is left. Signals only when someone waits.
public final class Mailbox<Element: ~Copyable>: @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`; elements are moved, never shared.
    private let signal = Signal()
    private let slots: UnsafeMutablePointer<Element>
    private let capacity: Int
    private var head = 0
    private var count = 0
    private var isClosed = false
    private var waiters = 0
    private var fullWaitCount: UInt64 = 0

    /// A mailbox for at most `capacity` elements.
    public init(capacity: Int) {
        precondition(capacity > 0, "a mailbox needs a positive capacity, got \(capacity)")
        self.capacity = capacity
        slots = .allocate(capacity: capacity)
    }

    deinit {
        for offset in 0..<count { (slots + (head + offset) % capacity).deinitialize(count: 1) }
        slots.deallocate()
    }

    /// Puts `element` in; waits while the mailbox is full.
    ///
    /// - Returns: false when the mailbox is closed; the element is dropped.
    @discardableResult
    public func send(_ element: consuming Element) -> Bool {
        signal.lock()
        defer { signal.unlock() }
        if count == capacity && !isClosed { fullWaitCount += 1 }
        while count == capacity && !isClosed { _ = wait(until: nil) }
        guard !isClosed else { return false }
        (slots + (head + count) % capacity).initialize(to: element)
        count += 1
        wake()
        return true
    }

    /// Takes the oldest element; waits while there is none.
    ///
    /// - Returns: nil when the mailbox is closed and empty, or when `deadline` passed.
    public func receive(deadline: Deadline? = nil) -> Element? {
        signal.lock()
        defer { signal.unlock() }
        while count == 0 && !isClosed {
            if !wait(until: deadline) { break }
        }
        guard count > 0 else { return nil }
        let element = (slots + head).move()
        head = (head + 1) % capacity
        count -= 1
        wake()
        return element
    }

    /// Turns senders away from now on; what is inside can still be received.
    ///
    /// Idempotent.
    public func close() {
        signal.withLock {
            isClosed = true
            signal.wakeAll()
        }
    }

    /// Whether `close` was called.
    public var closed: Bool { signal.withLock { isClosed } }

    /// How often a sender found the mailbox full.
    public var fullWaits: UInt64 { signal.withLock { fullWaitCount } }

    private func wait(until deadline: Deadline?) -> Bool {
        waiters += 1
        defer { waiters -= 1 }
        return signal.wait(until: deadline)
    }

    /// Senders and receivers wait on one condition, so one wake-up could reach the wrong kind: wake all.
    private func wake() {
        if waiters > 0 { signal.wakeAll() }
    }
}
