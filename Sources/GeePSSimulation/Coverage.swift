/// How often things happened in one or many runs; a zero says that the fault model has a hole.
public struct Coverage: Hashable, Sendable {
    /// Connections lost.
    public var resets: UInt64 = 0
    /// Connections that stood still for a while.
    public var clogs: UInt64 = 0
    /// Groups of workers cut off from groups of keepers.
    public var partitions: UInt64 = 0
    /// Keepers that stood still for a while.
    public var slowKeepers: UInt64 = 0
    /// Workers that stood still for a while.
    public var pauses: UInt64 = 0
    /// Rollbacks of the whole job after a process died.
    public var restarts: UInt64 = 0
    /// Rollbacks that found a complete checkpoint.
    public var restores: UInt64 = 0
    /// Frames lost with their connection.
    public var framesLost: UInt64 = 0
    /// Frames of a lost connection that came late.
    public var framesLate: UInt64 = 0
    /// Frames of an earlier generation that were dropped.
    public var framesOfOldGeneration: UInt64 = 0
    /// Pushes sent again.
    public var replays: UInt64 = 0
    /// Pushes that a keeper had seen before.
    public var duplicatesDropped: UInt64 = 0
    /// Pushes that had to wait for their turn.
    public var holds: UInt64 = 0
    /// Rows that were not news.
    public var staleRows: UInt64 = 0
    /// Initial values sent again.
    public var initialValuesResent: UInt64 = 0
    /// Reads that had to wait.
    public var readsWaited: UInt64 = 0
    /// Updates that had to wait for space in the update log.
    public var updatesWaited: UInt64 = 0
    /// Commits whose push had to wait for fresher rows or for a connection.
    public var pushesWaited: UInt64 = 0
    /// Reads that were checked.
    public var readsChecked: UInt64 = 0

    /// Nothing happened yet.
    public init() {}

    /// The counters by name, in the order of declaration.
    public var counters: [(name: String, count: UInt64)] {
        [
            ("resets", resets), ("clogs", clogs), ("partitions", partitions),
            ("slow keepers", slowKeepers), ("pauses", pauses), ("restarts", restarts),
            ("restores", restores), ("frames lost", framesLost), ("frames late", framesLate),
            ("frames of an old generation", framesOfOldGeneration), ("replays", replays),
            ("duplicates dropped", duplicatesDropped), ("holds", holds),
            ("stale rows", staleRows), ("initial values resent", initialValuesResent),
            ("reads waited", readsWaited), ("updates waited", updatesWaited),
            ("pushes waited", pushesWaited), ("reads checked", readsChecked),
        ]
    }

    /// Adds the counts of another run.
    public mutating func add(_ other: Coverage) {
        resets += other.resets
        clogs += other.clogs
        partitions += other.partitions
        slowKeepers += other.slowKeepers
        pauses += other.pauses
        restarts += other.restarts
        restores += other.restores
        framesLost += other.framesLost
        framesLate += other.framesLate
        framesOfOldGeneration += other.framesOfOldGeneration
        replays += other.replays
        duplicatesDropped += other.duplicatesDropped
        holds += other.holds
        staleRows += other.staleRows
        initialValuesResent += other.initialValuesResent
        readsWaited += other.readsWaited
        updatesWaited += other.updatesWaited
        pushesWaited += other.pushesWaited
        readsChecked += other.readsChecked
    }
}
