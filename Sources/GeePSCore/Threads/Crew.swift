import Synchronization

/// Threads that help who calls them with work in many parts; they sleep in between.
///
/// One caller at a time.
public final class Crew: Sendable {
    private let shared = Shared()
    private let threads: [DedicatedThread]

    /// Starts `helperCount` threads named `name` with a number.
    public init(helperCount: Int, name: String) {
        threads = (0..<helperCount).map { [shared] index in
            DedicatedThread(name: "\(name).\(index + 1)") { shared.help() }
        }
    }

    /// Runs `body` for `0 ..< count`, in any order, here and on the helpers; returns when all of it is done.
    ///
    /// A helper may keep `body`, which it does not call any more, for a moment longer: it escapes.
    ///
    /// - Complexity: one wake, for which the caller does not wait: a helper that comes late finds less to do, or nothing.
    public func perform(count: Int, _ body: @escaping @Sendable (Int) -> Void) {
        guard count > 1, !threads.isEmpty else {
            for index in 0..<count { body(index) }
            return
        }
        let work = Work(count: count, body)
        shared.begin(work)
        work.run()
        shared.end()
    }

    /// Ends the threads; after the last `perform`.
    public func close() {
        shared.close()
        for thread in threads { thread.join() }
    }
}

/// Parts of which each is taken once.
private final class Work: Sendable {
    private let count: Int
    private let body: @Sendable (Int) -> Void
    private let next = Atomic(0)

    init(count: Int, _ body: @escaping @Sendable (Int) -> Void) {
        self.count = count
        self.body = body
    }

    // Relaxed: what the body reads and writes is handed over by `Shared`'s lock.
    func run() {
        while true {
            let index = next.wrappingAdd(1, ordering: .relaxed).oldValue
            guard index < count else { return }
            body(index)
        }
    }
}

/// What the caller and the helpers meet at.
private final class Shared: @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`.
    private let signal = Signal()
    private var work: Work?
    private var number = 0
    private var helping = 0
    private var isClosed = false

    func begin(_ work: Work) {
        signal.withLock {
            self.work = work
            number += 1
            signal.wakeAll()
        }
    }

    /// Waits for those who took part; nobody else will.
    func end() {
        signal.withLock {
            work = nil
            while helping > 0 { _ = signal.wait() }
        }
    }

    func close() {
        signal.withLock {
            isClosed = true
            signal.wakeAll()
        }
    }

    func help() {
        var last = 0
        while let work = take(after: &last) {
            work.run()
            signal.withLock {
                helping -= 1
                if helping == 0 { signal.wakeAll() }
            }
        }
    }

    /// The next work, each once; nil when there is none any more.
    private func take(after last: inout Int) -> Work? {
        signal.lock()
        defer { signal.unlock() }
        while !isClosed {
            if let work, number > last {
                last = number
                helping += 1
                return work
            }
            _ = signal.wait()
        }
        return nil
    }
}
