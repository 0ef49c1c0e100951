internal import GeePSCore

/// A read that the plan foresees and that needs a copy.
struct PlannedRead: Sendable {
    let batch: RowBatch
}

/// Rows gathered ahead of the application.
struct PreparedRead: Sendable {
    let memory: PooledMemory
    let freshness: Freshness
}

/// The thread that prepares read buffers ahead of the application, in the plan's order.
///
/// It waits for fresh enough rows, gathers them into pool memory and goes on, at most one iteration ahead.
/// Only reads that need a copy pass through it; what can be lent in place is.
final class Allocator: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`; the rest is constant after init.
    private let store: any ParameterStore
    private let reads: [PlannedRead]
    private let firstTick: Tick
    private let staleness: Staleness
    private let gather: @Sendable (RowBatch, PooledMemory) -> Freshness
    private let take: @Sendable (RowBatch) throws(AccessError) -> PooledMemory
    private let giveBack: @Sendable (PooledMemory) -> Void
    private let stopFlag = StopFlag()
    private let signal = Signal()
    private var state: State
    private var thread: DedicatedThread?

    private struct State {
        var produced = 0
        var wanted = 0
        var ready: [Int: PreparedRead] = [:]
        var failure: AccessError?
        var isStopped = false
    }

    /// Starts preparing `reads`, over and over, the first time for an application at `firstTick`.
    init(
        store: any ParameterStore, reads: [PlannedRead], firstTick: Tick, staleness: Staleness,
        take: @escaping @Sendable (RowBatch) throws(AccessError) -> PooledMemory,
        giveBack: @escaping @Sendable (PooledMemory) -> Void,
        gather: @escaping @Sendable (RowBatch, PooledMemory) -> Freshness
    ) {
        self.store = store
        self.reads = reads
        self.firstTick = firstTick
        self.gather = gather
        self.take = take
        self.giveBack = giveBack
        self.staleness = staleness
        state = State()
        thread = DedicatedThread(name: "allocator") { [self] in run() }
    }

    /// Reads in an iteration.
    var readsPerIteration: Int { reads.count }

    /// Takes the prepared read number `sequence`, counted over all iterations; what was prepared before it
    /// and never taken goes back to the pool.
    func take(sequence: Int) throws(AccessError) -> PreparedRead {
        signal.lock()
        state.wanted = sequence + 1
        signal.wakeAll()
        while state.ready[sequence] == nil, state.failure == nil, !state.isStopped {
            _ = signal.wait()
        }
        let prepared = state.ready.removeValue(forKey: sequence)
        let failure = state.failure
        let skipped = state.ready.filter { $0.key < sequence }.map { $0 }
        for (number, _) in skipped { state.ready[number] = nil }
        signal.unlock()
        for (_, read) in skipped { giveBack(read.memory) }
        if let prepared { return prepared }
        throw failure ?? AccessError(.closed, "the allocator was stopped")
    }

    /// Ends the thread, also out of a wait for rows, and gives back what nobody took.
    func stop() {
        stopFlag.raise()
        store.wakeWaiters()
        signal.withLock {
            state.isStopped = true
            signal.wakeAll()
        }
        thread?.join()
        thread = nil
        for (_, read) in signal.withLock({ state.ready }) { giveBack(read.memory) }
        signal.withLock { state.ready = [:] }
    }

    private func run() {
        while let sequence = nextSequence() {
            let batch = reads[sequence % reads.count].batch
            let tick = Tick(firstTick.count + UInt64(sequence / reads.count))
            do throws(AccessError) {
                try store.waitForAge(
                    of: batch.table, atLeast: staleness.leastAge(at: tick), unless: stopFlag)
                let memory = try take(batch)
                let freshness = gather(batch, memory)
                signal.withLock {
                    state.ready[sequence] = PreparedRead(memory: memory, freshness: freshness)
                    signal.wakeAll()
                }
            } catch {
                signal.withLock {
                    state.failure = error
                    signal.wakeAll()
                }
                return
            }
        }
    }

    /// The next read to prepare; waits while a whole iteration is prepared ahead.
    private func nextSequence() -> Int? {
        signal.lock()
        defer { signal.unlock() }
        while !state.isStopped, state.produced >= state.wanted + reads.count { _ = signal.wait() }
        guard !state.isStopped else { return nil }
        // Reads the application skipped need no preparing.
        state.produced = max(state.produced, state.wanted - 1, 0)
        defer { state.produced += 1 }
        return state.produced
    }
}
