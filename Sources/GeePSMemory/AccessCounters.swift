/// What an access manager counts.
public struct AccessCounters: Sendable, Hashable {
    /// Reads lent from the parameter cache without a copy.
    public var readsInPlace: UInt64 = 0
    /// Reads lent as copies.
    public var readsCopied: UInt64 = 0
    /// Copies made while the application waited, because no plan foresaw them.
    public var readsOnDemand: UInt64 = 0
    /// Prepared copies that were gathered again because fresher rows had come.
    public var refreshes: UInt64 = 0
    /// Updates handed over.
    public var updates: UInt64 = 0
    /// Update buffers dropped without `finish()`.
    public var updatesDiscarded: UInt64 = 0
    /// Accesses that were not where the plan has them.
    public var planDeviations: UInt64 = 0
    /// Plans replaced by what an iteration did.
    public var replans: UInt64 = 0

    /// Nothing counted.
    public init() {}
}
