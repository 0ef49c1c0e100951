/// Contributions that came before their turn, by worker and block, in the order of their ticks.
///
/// Touched by the keeper's thread only. Memory is kept for reuse; the consistency bounds how much is held.
struct HeldPushes: ~Copyable {
    /// A contribution that waits for its turn.
    struct Push {
        /// nil for an empty update.
        var values: UnsafeMutableRawBufferPointer?
        var learningRate: Double
    }

    private let workerCount: Int
    private let bytesMaximum: Int
    private var queues: [[Push]]
    private var free: [UnsafeMutableRawBufferPointer] = []
    /// Contributions held now.
    private(set) var count = 0

    /// Holds nothing; contributions have at most `bytesMaximum` bytes.
    init(blockCount: Int, workerCount: Int, bytesMaximum: Int) {
        self.workerCount = workerCount
        self.bytesMaximum = max(64, bytesMaximum)
        queues = Array(repeating: [], count: blockCount * workerCount)
    }

    deinit {
        for buffer in free { buffer.deallocate() }
        for queue in queues { for push in queue { push.values?.deallocate() } }
    }

    /// Copies a contribution; an empty `payload` is an empty update.
    mutating func hold(
        block: Int, worker: Int, payload: UnsafeRawBufferPointer, learningRate: Double
    ) {
        var values: UnsafeMutableRawBufferPointer?
        if !payload.isEmpty {
            let buffer = free.popLast() ?? .allocate(byteCount: bytesMaximum, alignment: 64)
            buffer.copyMemory(from: payload)
            values = buffer
        }
        queues[block * workerCount + worker].append(
            Push(values: values, learningRate: learningRate))
        count += 1
    }

    /// The oldest contribution of `worker` for `block`; give its memory back with `recycle`.
    mutating func take(block: Int, worker: Int) -> Push {
        count -= 1
        return queues[block * workerCount + worker].removeFirst()
    }

    /// Memory that is not needed any more.
    mutating func recycle(_ push: Push) {
        if let values = push.values { free.append(values) }
    }
}
