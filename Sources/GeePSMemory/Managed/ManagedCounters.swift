/// What managed memory counts.
public struct ManagedCounters: Sendable, Hashable {
    /// Bytes copied to the device, rows that arrive for caches there included.
    public var bytesIn: UInt64 = 0
    /// Bytes copied from the device.
    public var bytesOut: UInt64 = 0
    /// Waits of the application for memory that something else still had, or for rows.
    public var bufferWaits: UInt64 = 0
    /// Nanoseconds of these.
    public var bufferWaitNanoseconds: UInt64 = 0
    /// Waits of the application for a copy under way.
    public var copyWaits: UInt64 = 0
    /// Nanoseconds of these.
    public var copyWaitNanoseconds: UInt64 = 0
    /// Accesses served one by one, outside a placement.
    public var onDemand: UInt64 = 0
    /// Placements given up because the application did something else.
    public var abandoned: UInt64 = 0
    /// Placements followed.
    public var placements: UInt64 = 0
    /// Highest end of a stay that was used.
    public var highWaterBytes = 0

    /// Nothing counted.
    public init() {}

    mutating func add(_ other: ManagedCounters) {
        bytesIn += other.bytesIn
        bytesOut += other.bytesOut
        bufferWaits += other.bufferWaits
        bufferWaitNanoseconds += other.bufferWaitNanoseconds
        copyWaits += other.copyWaits
        copyWaitNanoseconds += other.copyWaitNanoseconds
    }
}
