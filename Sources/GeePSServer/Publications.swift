internal import GeePSCore

/// What a keeper offers for sending, block by block: where the newest rows are, their age, and what has
/// arrived from whom.
///
/// Under BSP the rows themselves are sent: no update of the next tick can be applied before every worker has
/// received this one, so nothing changes while a writer reads (`WorkerProtocol.nextPush`). Otherwise a
/// published block is copied once, whoever it goes to, and the copy is reused when no writer reads it. A slow
/// receiver skips versions: a writer always sends the newest.
final class Publications: @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`.
    private let copies: Bool
    private let workerCount: Int
    private let signal = Signal()
    private var blocks: [Entry]

    private struct Entry {
        var current: Version?
        var spare: [Version] = []
        var received: [UInt64]
    }

    /// One version of a block's rows.
    final class Version {
        let rows: UnsafeMutableRawBufferPointer
        fileprivate let isOwned: Bool
        fileprivate(set) var age: UInt64 = 0
        fileprivate var readers = 0

        fileprivate init(rows: UnsafeMutableRawBufferPointer, isOwned: Bool) {
            self.rows = rows
            self.isOwned = isOwned
        }

        deinit { if isOwned { rows.deallocate() } }
    }

    /// Nothing published of `blockCount` blocks; with `copies` the rows may change after `publish`.
    init(blockCount: Int, workerCount: Int, copies: Bool) {
        self.copies = copies
        self.workerCount = workerCount
        blocks = Array(
            repeating: Entry(received: Array(repeating: 0, count: workerCount)), count: blockCount)
    }

    /// Offers the rows of `block` at `age`; `received[w]` is the last tick that came from worker `w`.
    func publish(
        block: Int, rows: UnsafeRawBufferPointer, age: UInt64, received: (Int) -> UInt64
    ) {
        let version = signal.withLock { takeVersion(block: block, rows: rows) }
        if copies { version.rows.copyMemory(from: rows) }
        signal.withLock {
            version.age = age
            if let old = blocks[block].current, old !== version { blocks[block].spare.append(old) }
            blocks[block].current = version
            for worker in 0..<workerCount { blocks[block].received[worker] = received(worker) }
        }
    }

    /// The newest version of `block` for `worker`, or nil when there is none; pair with `end`.
    func begin(block: Int, worker: Int) -> (version: Version, age: UInt64, received: UInt64)? {
        signal.withLock {
            guard let current = blocks[block].current else { return nil }
            current.readers += 1
            return (current, current.age, blocks[block].received[worker])
        }
    }

    /// A writer has sent `version`.
    func end(_ version: Version) { signal.withLock { version.readers -= 1 } }

    private func takeVersion(block: Int, rows: UnsafeRawBufferPointer) -> Version {
        guard copies else {
            if let current = blocks[block].current { return current }
            return Version(rows: UnsafeMutableRawBufferPointer(mutating: rows), isOwned: false)
        }
        if let free = blocks[block].spare.firstIndex(where: { $0.readers == 0 }) {
            return blocks[block].spare.remove(at: free)
        }
        return Version(
            rows: .allocate(byteCount: max(1, rows.count), alignment: 64), isOwned: true)
    }
}
