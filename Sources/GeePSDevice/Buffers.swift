/// Device memory with one owner; freed when dropped.
public struct DeviceBuffer: ~Copyable, @unchecked Sendable {
    // Sendable: the address is a value; who may touch the memory is the owner's business.

    /// Start, aligned to 64 bytes.
    public let address: UnsafeMutableRawPointer
    /// Bytes.
    public let byteCount: Int
    private let free: @Sendable (UnsafeMutableRawPointer) -> Void

    /// Made by devices only; `free` is called once, with the address.
    public init(
        address: UnsafeMutableRawPointer, byteCount: Int,
        free: @escaping @Sendable (UnsafeMutableRawPointer) -> Void
    ) {
        self.address = address
        self.byteCount = byteCount
        self.free = free
    }

    deinit { free(address) }

    /// The memory as float32 values.
    public var floats: UnsafeMutablePointer<Float> {
        address.assumingMemoryBound(to: Float.self)
    }
}

/// Host memory with one owner that a device copies from and to; freed when dropped.
public struct HostBuffer: ~Copyable, @unchecked Sendable {
    // Sendable: the address is a value; who may touch the memory is the owner's business.

    /// Start, aligned to 64 bytes.
    public let address: UnsafeMutableRawPointer
    /// Bytes.
    public let byteCount: Int
    /// Whether copies run asynchronously at the link's full speed; false: pageable memory.
    public let isPinned: Bool
    private let free: @Sendable (UnsafeMutableRawPointer) -> Void

    /// Made by devices only; `free` is called once, with the address.
    public init(
        address: UnsafeMutableRawPointer, byteCount: Int, isPinned: Bool,
        free: @escaping @Sendable (UnsafeMutableRawPointer) -> Void
    ) {
        self.address = address
        self.byteCount = byteCount
        self.isPinned = isPinned
        self.free = free
    }

    deinit { free(address) }

    /// The memory as float32 values.
    public var floats: UnsafeMutablePointer<Float> {
        address.assumingMemoryBound(to: Float.self)
    }
}

/// Device or host memory in a form that collections and closures can hold; freed when nobody does any more.
public final class SharedBuffer: @unchecked Sendable {
    // Sendable: constant after init; who may touch the memory is the holders' business.

    /// Start, aligned to 64 bytes.
    public let address: UnsafeMutableRawPointer
    /// Bytes.
    public let byteCount: Int
    private let device: DeviceBuffer?
    private let host: HostBuffer?

    /// Shares device memory.
    public init(_ buffer: consuming DeviceBuffer) {
        address = buffer.address
        byteCount = buffer.byteCount
        device = consume buffer
        host = nil
    }

    /// Shares host memory.
    public init(_ buffer: consuming HostBuffer) {
        address = buffer.address
        byteCount = buffer.byteCount
        device = nil
        host = consume buffer
    }

    /// The memory as float32 values.
    public var floats: UnsafeMutablePointer<Float> {
        address.assumingMemoryBound(to: Float.self)
    }
}
