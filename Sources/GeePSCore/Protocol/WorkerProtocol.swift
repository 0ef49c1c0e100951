/// The rules of a worker towards one keeper's blocks: which pushes may leave and in which order, which
/// fresh rows are news, what was acknowledged and what must be sent again after a reconnect.
///
/// Without rows, time, threads or I/O; lanes and the simulator drive it alike. Blocks are numbered from
/// zero in the order given.
public struct WorkerProtocol: Sendable {
    /// What to do with rows that have just come in.
    public enum Verdict: Hashable, Sendable {
        /// Newer than what the cache has: store them, then call `stored`.
        case store
        /// Not newer; the cache stays, the acknowledgement counted.
        case stale
        /// Against the rules; the connection must be closed.
        case refused(Refusal)
    }

    /// Why rows are refused.
    public enum Refusal: Hashable, Sendable {
        case unknownBlock
        /// The keeper acknowledges a tick that was never pushed.
        case acknowledgesUnsent(pushed: UInt64)
        /// The keeper has less than it had sent or acknowledged before: it is not the one that it was.
        case wentBack(from: ResumePoint)
    }

    /// The table of each block.
    public let tableOfBlock: [TableIndex]
    /// The loosest staleness in use; it bounds how far pushes may run ahead of the slowest worker.
    public let staleness: Staleness

    // By block: age of the rows in the cache (nil: none yet), own last tick the keeper has, own last tick sent.
    private var age: [UInt64?]
    private var acknowledged: [UInt64]
    private var sent: [UInt64]
    // By table: own last tick whose updates are complete.
    private var committed: [UInt64]

    /// A worker that has nothing yet.
    ///
    /// `tableOfBlock[i]` is the table of block `i`.
    public init(tableOfBlock: [TableIndex], tableCount: Int, staleness: Staleness) {
        self.tableOfBlock = tableOfBlock
        self.staleness = staleness
        age = Array(repeating: nil, count: tableOfBlock.count)
        acknowledged = Array(repeating: 0, count: tableOfBlock.count)
        sent = acknowledged
        committed = Array(repeating: 0, count: tableCount)
    }

    /// A worker rolled back to a checkpoint of `tick`; its cache is empty.
    public init(
        tableOfBlock: [TableIndex], tableCount: Int, staleness: Staleness, restoredAt tick: UInt64
    ) {
        self.init(tableOfBlock: tableOfBlock, tableCount: tableCount, staleness: staleness)
        acknowledged = Array(repeating: tick, count: tableOfBlock.count)
        sent = acknowledged
        committed = Array(repeating: tick, count: tableCount)
    }

    /// Raises the clock of `table`: this worker's updates of the next tick are complete.
    ///
    /// - Returns: that tick.
    public mutating func commit(table: TableIndex) -> UInt64 {
        committed[table] += 1
        return committed[table]
    }

    /// The tick of `block` that may be pushed now, if any; it counts as sent from here on.
    ///
    /// A push of tick `t` waits for rows of age `t - 1 - staleness`. So no worker runs further ahead than
    /// the consistency allows whatever its application does, and what a keeper must hold is bounded.
    public mutating func nextPush(block: Int) -> UInt64? {
        guard sent[block] < committed[tableOfBlock[block]], let cached = age[block] else {
            return nil
        }
        let tick = sent[block] + 1
        if case .clocks(let lag) = staleness, tick > cached + 1 + lag { return nil }
        sent[block] = tick
        return tick
    }

    /// Takes the news that rows of `block` came, of age `age`, including this worker's pushes up to
    /// `acknowledging`.
    public mutating func offer(block: Int, age newAge: UInt64, acknowledging: UInt64) -> Verdict {
        guard age.indices.contains(block) else { return .refused(.unknownBlock) }
        guard acknowledging <= committed[tableOfBlock[block]] else {
            return .refused(.acknowledgesUnsent(pushed: committed[tableOfBlock[block]]))
        }
        // Asynchronous rows are news when they hold more of our own pushes, at whatever age.
        let hasMore = acknowledging > acknowledged[block]
        acknowledged[block] = max(acknowledged[block], acknowledging)
        sent[block] = max(sent[block], acknowledging)
        guard let cached = age[block] else { return .store }
        if newAge > cached { return .store }
        return staleness == .unbounded && hasMore && newAge == cached ? .store : .stale
    }

    /// The rows of the last `store` are in the cache.
    public mutating func stored(block: Int, age newAge: UInt64) {
        age[block] = max(age[block] ?? 0, newAge)
    }

    /// What this side says of `block` when a connection begins.
    public func resumePoint(block: Int) -> ResumePoint {
        ResumePoint(age: age[block], tick: acknowledged[block])
    }

    /// A connection begins, and the keeper has said what it has of `block`: what was lost with the one before is
    /// sent again, in order, before anything new (the simulator found that new pushes otherwise overtake).
    ///
    /// What the keeper has received but not acknowledged is not sent again, nor does it count as acknowledged before
    /// rows say so: asynchronous rows that hold it would else not be news.
    ///
    /// - Returns: why the connection must be closed, if it must.
    public mutating func resume(block: Int, keeper: ResumePoint) -> Refusal? {
        guard age.indices.contains(block) else { return .unknownBlock }
        guard keeper.tick <= committed[tableOfBlock[block]] else {
            return .acknowledgesUnsent(pushed: committed[tableOfBlock[block]])
        }
        let own = resumePoint(block: block)
        let hasLostRows = own.age.map { $0 > keeper.age ?? 0 || keeper.age == nil } ?? false
        guard keeper.tick >= own.tick, !hasLostRows else { return .wentBack(from: own) }
        sent[block] = keeper.tick
        return nil
    }

    /// Age of the cached rows of `block`; nil before the initial values.
    public func age(block: Int) -> UInt64? { age[block] }

    /// Own last tick of `block` that the keeper has; update logs up to it may be reused.
    public func acknowledged(block: Int) -> UInt64 { acknowledged[block] }

    /// Own last complete tick of `table`.
    public func committed(table: TableIndex) -> UInt64 { committed[table] }

    /// Whether a push of `block` is complete but not sent.
    public func hasUnsent(block: Int) -> Bool { sent[block] < committed[tableOfBlock[block]] }
}
