public import GeePSCore

/// Rows lent for reading; given back when dropped.
///
/// `[rowCount, rowWidth]` values in the order of the batch. Nothing that arrives meanwhile changes them.
public struct ReadBuffer: ~Copyable {
    /// First value; valid until the buffer is dropped.
    public let values: UnsafePointer<Float>
    /// Values.
    public let count: Int
    /// Every worker's updates up to this tick are in.
    public let age: Tick
    let lease: Lease
    let manager: AccessManager

    deinit { manager.endRead(lease) }
}

/// Room for an update; handed over by `finish()`, discarded when dropped without.
public struct UpdateBuffer: ~Copyable {
    /// First value; `[rowCount, rowWidth]` in the order of the batch.
    public let values: UnsafeMutablePointer<Float>
    /// Values.
    public let count: Int
    let lease: Lease
    let manager: AccessManager
    private var isComplete = false

    init(
        values: UnsafeMutablePointer<Float>, count: Int, lease: Lease, manager: AccessManager
    ) {
        self.values = values
        self.count = count
        self.lease = lease
        self.manager = manager
    }

    /// Hands the update over; it is summed with this iteration's other updates and sent in the background.
    public consuming func finish() {
        isComplete = true
    }

    deinit { manager.endUpdate(lease, isComplete: isComplete) }
}

/// Local data lent to the application; given back, and kept, when dropped.
public struct LocalBuffer: ~Copyable {
    /// Start, aligned to 64 bytes.
    public let address: UnsafeMutableRawPointer
    /// Bytes.
    public let byteCount: Int
    let lease: Lease
    let manager: AccessManager
    private var keepsContent = true

    init(
        address: UnsafeMutableRawPointer, byteCount: Int, lease: Lease, manager: AccessManager
    ) {
        self.address = address
        self.byteCount = byteCount
        self.lease = lease
        self.manager = manager
    }

    /// The memory as float32 values.
    public var floats: UnsafeMutablePointer<Float> {
        address.assumingMemoryBound(to: Float.self)
    }

    /// Gives the buffer back; without `keep` its content is undefined at the next access.
    public consuming func release(keep: Bool) {
        keepsContent = keep
    }

    deinit { manager.endLocal(lease, keep: keepsContent) }
}

/// What a buffer is made of; plain data, owned by the buffer that carries it.
struct Lease: Sendable {
    /// What must be given back.
    enum Memory: Sendable {
        /// Nothing: it is the store's own, or the manager's.
        case none
        case pooled(PooledMemory)
        /// Managed memory, and where it is.
        case managed(ManagedMemory.Loan, HostAddress)
    }

    let batch: Int
    let memory: Memory
    /// The access is part of the traced iteration.
    let isTraced: Bool
    /// Updates: the tick they belong to.
    var tick = Tick.zero
    /// Updates in managed memory: where they are added to.
    var log: HostAddress?
}
