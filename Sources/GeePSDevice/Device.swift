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
/// Rows are float32, row-major; addresses are the device's own. Kernels called here return when their
/// result may be read, and may run on all of the device's cores; kernels and copies that run beside the
/// caller are put on a stream.
public protocol Device: AnyObject, Sendable {
    /// For messages and reports: "host", "cuda:0".
    var name: String { get }

    /// Whether the host may read and write device memory by its address.
    var isHostAddressable: Bool { get }

    /// Allocates `byteCount` zeroed bytes, aligned to 64 bytes.
    ///
    /// - Throws: `.outOfMemory` when the device's limit or its memory does not allow it.
    func allocate(byteCount: Int, for purpose: MemoryPurpose) throws(DeviceError) -> DeviceBuffer

    /// Allocates `byteCount` zeroed bytes of pinned host memory, aligned to 64 bytes.
    ///
    /// - Throws: `.outOfMemory` when the limit for pinned memory or the system does not allow it.
    func allocatePinned(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> HostBuffer

    /// Allocates `byteCount` zeroed bytes of host memory, aligned to 64 bytes.
    ///
    /// - Parameter preferPinned: pinned memory if there is some, pageable memory when it has run out;
    ///   the first time that happens on a device it says so, once.
    /// - Throws: `.outOfMemory` when the system has none.
    func allocateHost(
        byteCount: Int, for purpose: MemoryPurpose, preferPinned: Bool
    ) throws(DeviceError) -> HostBuffer

    /// Makes a stream; its work runs beside the caller's.
    func makeStream(name: String) throws(DeviceError) -> any DeviceStream

    /// Makes an event, not yet recorded.
    func makeEvent() throws(DeviceError) -> any DeviceEvent

    /// Bytes in use now, by purpose, in the order of `MemoryPurpose.allCases`.
    var bytesInUse: [Int] { get }

    /// Most bytes ever in use at once.
    var bytesPeak: Int { get }

    /// Bytes of pinned host memory in use now, by purpose, in the order of `MemoryPurpose.allCases`.
    var pinnedBytesInUse: [Int] { get }

    /// Most bytes of pinned host memory ever in use at once.
    var pinnedBytesPeak: Int { get }

    /// What streams have copied since the start.
    var traffic: CopyTraffic { get }

    /// Allocations of device and pinned memory since the start; unchanged over an iteration once the plan
    /// is made.
    var allocationCount: Int { get }

    /// Copies `byteCount` bytes of host memory to device memory, and returns when they are there.
    ///
    /// For set-up: nothing else runs meanwhile.
    func write(
        _ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int)

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
