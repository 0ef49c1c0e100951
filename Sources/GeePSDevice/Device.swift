/// What a stretch of device memory is for; the budget and its report are kept by purpose.
public enum MemoryPurpose: String, Sendable, CaseIterable {
    case parameterCache = "parameter cache"
    case updateLog = "update log"
    case accessBuffers = "access buffers"
    case localData = "local data"
    case indexes = "indexes"
    case workspaces = "workspaces"
}

/// Memory that computes: the host, or a GPU.
///
/// Rows are float32, row-major; addresses are the device's own. Kernels of one call may run on all of the
/// device's cores; they return when their result may be read.
public protocol Device: AnyObject, Sendable {
    /// For messages and reports: "host".
    var name: String { get }

    /// Allocates `byteCount` zeroed bytes, aligned to 64 bytes.
    ///
    /// - Throws: `.outOfMemory` when the device's limit or its memory does not allow it.
    func allocate(byteCount: Int, for purpose: MemoryPurpose) throws(DeviceError) -> DeviceBuffer

    /// Bytes in use now, by purpose, in the order of `MemoryPurpose.allCases`.
    var bytesInUse: [Int] { get }

    /// Most bytes ever in use at once.
    var bytesPeak: Int { get }

    /// Allocations since the start; unchanged over an iteration once the plan is made.
    var allocationCount: Int { get }

    /// `target[j] = source[indexes[j]]`, rows of `rowWidth` values.
    func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>)

    /// `target[indexes[j]] += source[j]`; an index may occur more than once.
    func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>)

    /// `target[i] += source[i]`.
    func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>)

    /// Copies `count` values; the stretches do not overlap.
    func copy(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>)

    /// Sets `count` values to zero.
    func zero(_ target: UnsafeMutablePointer<Float>, count: Int)
}

/// What went wrong on a device.
public struct DeviceError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Code: String, Sendable {
        /// The memory limit, or the memory itself, is used up.
        case outOfMemory
    }

    /// What kind of failure.
    public var code: Code
    /// What was being done and what answered, with the numbers.
    public var message: String

    /// A failure of kind `code`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}

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
