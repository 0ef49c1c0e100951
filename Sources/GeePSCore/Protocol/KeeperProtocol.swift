/// When a keeper applies a worker's update.
public enum ApplyPolicy: Hashable, Sendable {
    /// Once per tick, when the update of the last worker is in, summed in rank order: the result does not
    /// depend on who came first. Workers may run `staleness` clocks ahead of the slowest.
    case aggregated(staleness: UInt64)
    /// Each worker's update alone and at once; its sender gets the fresh rows back. Asynchronous training.
    ///
    /// Only the sender: a read with a bounded staleness could wait for ever, so every read must be unbounded.
    case onArrival

    /// The policy that serves reads of `staleness`.
    public init(_ staleness: Staleness) {
        switch staleness {
        case .clocks(let lag): self = .aggregated(staleness: lag)
        case .unbounded: self = .onArrival
        }
    }
}

/// The rules of a keeper, without rows, time, threads or I/O: who may push what, in which order
/// contributions are added, when the optimiser runs and who is sent fresh rows.
///
/// A keeper's thread and the simulator drive it alike: an event goes in through `offer`, then `next` is
/// asked for steps until it has none. Blocks are numbered by `Block.indexInKeeper`.
public struct KeeperProtocol: Sendable {
    /// What to do with a push that has just come in.
    public enum Verdict: Hashable, Sendable {
        /// Its turn: add it to the block's sum now (the first one of a tick replaces the sum).
        case fold
        /// Not its turn: keep its payload until `next` asks for it.
        case hold
        /// Seen before, after a reconnect; drop it. It is not applied twice.
        case duplicate
        /// Against the rules; the connection that sent it must be closed.
        case refused(Refusal)
    }

    /// Why a push is refused.
    public enum Refusal: Hashable, Sendable {
        case unknownBlock
        case notInitialised
        /// Ticks of one worker and block must come in order, without gaps.
        case gap(expected: UInt64)
        /// The worker is further ahead of the slowest than the staleness allows.
        case tooFarAhead(limit: UInt64)
    }

    /// The next thing to do for a block.
    public enum Step: Hashable, Sendable {
        /// Add the held contribution of `worker` for `tick` to the sum and free it.
        case foldHeld(worker: Int, tick: UInt64)
        /// All contributions of `tick` are in the sum: run the optimiser, then publish to every worker.
        case apply(tick: UInt64)
        /// Run the optimiser on the sum, which is `worker`'s contribution alone; publish to it, and to every
        /// worker when it `raisesAge`: somebody may wait for the slowest.
        case applyAlone(worker: Int, tick: UInt64, raisesAge: Bool)
    }

    /// Workers in the job.
    public let workerCount: Int
    /// Blocks of this keeper.
    public let blockCount: Int
    /// When updates are applied.
    public let policy: ApplyPolicy

    // By block: completed ticks; nil before the initial values.
    private var applied: [UInt64?]
    // By block: contributions of tick `applied + 1` in the sum, ranks 0..<folded. Aggregated only.
    private var folded: [Int]
    // By block and worker: last tick received.
    private var received: [UInt64]
    // On arrival only: the contribution folded but not yet applied.
    private var alone: (block: Int, worker: Int)?

    /// A keeper of `blockCount` blocks that nobody has initialised.
    public init(workerCount: Int, blockCount: Int, policy: ApplyPolicy) {
        precondition(workerCount > 0, "a keeper needs at least one worker")
        self.workerCount = workerCount
        self.blockCount = blockCount
        self.policy = policy
        applied = Array(repeating: nil, count: blockCount)
        folded = Array(repeating: 0, count: blockCount)
        received = Array(repeating: 0, count: blockCount * workerCount)
    }

    /// A keeper whose blocks hold the state after `tick` of every worker, as read from a checkpoint.
    public init(workerCount: Int, blockCount: Int, policy: ApplyPolicy, restoredAt tick: UInt64) {
        self.init(workerCount: workerCount, blockCount: blockCount, policy: policy)
        applied = Array(repeating: tick, count: blockCount)
        received = Array(repeating: tick, count: blockCount * workerCount)
    }

    /// Takes the initial values of a block.
    ///
    /// - Returns: whether they are the first; then store them and publish to every worker.
    public mutating func initialise(block: Int) -> Bool {
        guard applied.indices.contains(block), applied[block] == nil else { return false }
        applied[block] = 0
        return true
    }

    /// Takes the news that `worker` pushed its update of `tick` for `block`.
    public mutating func offer(worker: Int, block: Int, tick: UInt64) -> Verdict {
        guard (0..<workerCount).contains(worker), applied.indices.contains(block) else {
            return .refused(.unknownBlock)
        }
        guard let appliedTick = applied[block] else { return .refused(.notInitialised) }
        let slot = block * workerCount + worker
        if tick <= received[slot] { return .duplicate }
        guard tick == received[slot] + 1 else {
            return .refused(.gap(expected: received[slot] + 1))
        }
        switch policy {
        case .onArrival:
            received[slot] = tick
            alone = (block, worker)
            return .fold
        case .aggregated(let staleness):
            guard tick <= appliedTick + 1 + staleness else {
                return .refused(.tooFarAhead(limit: appliedTick + 1 + staleness))
            }
            received[slot] = tick
            guard tick == appliedTick + 1, worker == folded[block] else { return .hold }
            folded[block] += 1
            return .fold
        }
    }

    /// The next step for `block`, or nil when it must wait for another event.
    public mutating func next(block: Int) -> Step? {
        guard let appliedTick = applied[block] else { return nil }
        switch policy {
        case .onArrival:
            guard let ready = alone, ready.block == block else { return nil }
            alone = nil
            let age = leastReceived(block: block)
            applied[block] = age
            let tick = received[block * workerCount + ready.worker]
            return .applyAlone(
                worker: ready.worker, tick: tick, raisesAge: age > appliedTick)
        case .aggregated:
            let tick = appliedTick + 1
            if folded[block] == workerCount {
                applied[block] = tick
                folded[block] = 0
                return .apply(tick: tick)
            }
            let worker = folded[block]
            guard received[block * workerCount + worker] >= tick else { return nil }
            folded[block] += 1
            return .foldHeld(worker: worker, tick: tick)
        }
    }

    /// The tick whose updates of all workers are in `block`; nil before the initial values.
    public func age(block: Int) -> UInt64? { applied[block] }

    /// The last tick of `worker` that has arrived for `block`; it travels back as an acknowledgement.
    public func received(block: Int, from worker: Int) -> UInt64 {
        received[block * workerCount + worker]
    }

    /// What this side says of `block` to `worker` when a connection begins.
    public func resumePoint(block: Int, worker: Int) -> ResumePoint {
        ResumePoint(age: applied[block], tick: received(block: block, from: worker))
    }

    /// Whether `worker`, which has said what it has of `block`, must be sent the rows now.
    ///
    /// Rows that it has are not sent again: a worker that has rows of age `t` may have pushed `t + 1`, so nothing
    /// keeps the keeper from changing them while they are sent.
    public func owesRows(block: Int, to worker: Int, having point: ResumePoint) -> Bool {
        guard let age = applied[block] else { return false }
        guard let cached = point.age else { return true }
        // Asynchronous rows are news when they hold more of the worker's own pushes, at whatever age.
        return age > cached
            || (policy == .onArrival && received(block: block, from: worker) > point.tick)
    }

    /// Contributions in the sum of the tick that is being collected.
    public func foldedCount(block: Int) -> Int { folded[block] }

    /// The workers whose contribution `block` waits for.
    public func missing(block: Int) -> [Int] {
        guard let appliedTick = applied[block] else { return [] }
        return (0..<workerCount).filter {
            received[block * workerCount + $0] <= appliedTick
        }
    }

    private func leastReceived(block: Int) -> UInt64 {
        var least = UInt64.max
        for worker in 0..<workerCount {
            least = min(least, received[block * workerCount + worker])
        }
        return least
    }
}
