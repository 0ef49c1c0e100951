public import CGeePSShims
import GeePSCore
import Glibc
import Synchronization

/// An NVIDIA GPU.
///
/// Device memory is lent from one arena that the driver gives at the first allocation, or at `reserve`; nothing is
/// asked of the driver afterwards. Several devices may be in use in a process, from any threads.
public final class CUDADevice: Device {
    /// "cuda:0".
    public let name: String
    /// False.
    public let isHostAddressable = false
    /// The driver.
    public let driver: CUDADriver
    /// What the driver tells of it.
    public let properties: CUDAProperties
    let context: CUDAContext
    let kernels: CUDAKernels
    private let hostMemory: HostMemory
    private let counter = CopyCounter()
    private let memory: Mutex<Memory>
    // For set-up and kernels on the caller's thread; one caller at a time.
    private let ownQueue: CUDAQueue
    private let ownQueueLock = Signal()
    private let traced = Mutex<Timeline?>(nil)
    // A hint, looked at for every piece of work of a stream.
    private let isTraced = Atomic(false)

    private struct Memory {
        var limitBytes: Int?
        var arena: CUDAArena?
    }

    /// GPU number `ordinal` of those the driver shows.
    ///
    /// - Parameters:
    ///   - limitBytes: how much device memory it lends at most; nil: what is free at the first allocation, less
    ///     `256 MiB` and a thirty-second of all, which are left to libraries.
    ///   - pinnedLimitBytes: how much pinned host memory it lends at most; nil: what the host has.
    ///   - kernels: where its kernels come from.
    ///   - onWarning: is told once when pinned memory has run out.
    /// - Throws: `.unavailable`: no such GPU, an old driver, no compiler for kernels; `.failed`.
    public init(
        driver: CUDADriver, ordinal: Int = 0, limitBytes: Int? = nil, pinnedLimitBytes: Int? = nil,
        kernels: CUDAKernelSource = .standard,
        onWarning: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(DeviceError) {
        properties = try CUDAProperties(driver: driver, ordinal: ordinal)
        let context = try CUDAContext(driver: driver, ordinal: ordinal)
        self.driver = driver
        self.context = context
        name = context.name
        let loaded = try CUDAKernels(kernels, context: context, properties: properties)
        self.kernels = loaded
        hostMemory = HostMemory(
            deviceName: context.name, pinnedLimitBytes: pinnedLimitBytes,
            pinnedSource: CUDAPinnedMemory(context: context), onWarning: onWarning)
        memory = Mutex(Memory(limitBytes: limitBytes))
        ownQueue = CUDAQueue(
            context: context, kernels: loaded, handle: try context.makeStreamHandle())
    }

    private init(_ other: CUDADevice, limitBytes: Int) throws(DeviceError) {
        name = other.name
        driver = other.driver
        properties = other.properties
        context = other.context
        kernels = other.kernels
        hostMemory = other.hostMemory
        memory = Mutex(Memory(limitBytes: limitBytes))
        ownQueue = CUDAQueue(
            context: context, kernels: kernels, handle: try context.makeStreamHandle())
    }

    /// The same GPU with device memory of its own, `limitBytes` of it, beside this one's.
    ///
    /// Addresses and events of either may be used on streams of both.
    public func sibling(limitBytes: Int) throws(DeviceError) -> CUDADevice {
        try CUDADevice(self, limitBytes: limitBytes)
    }

    deinit {
        guard (try? context.makeCurrent()) != nil else { return }
        _ = driver.functions.cuStreamDestroy_v2(ownQueue.handle)
    }

    /// Makes the device's context current for the calling thread; quick when it is.
    public func makeCurrent() throws(DeviceError) { try context.makeCurrent() }

    /// Runs `body` on a thread of other code that uses CUDA, with the device's context current; what was current before
    /// is again afterwards.
    public func onForeignThread<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        try context.onForeignThread(body)
    }

    /// Where streams leave spans, those made before too; set before there is work to be seen.
    public var timeline: Timeline? {
        get { isTraced.load(ordering: .acquiring) ? traced.withLock { $0 } : nil }
        set {
            traced.withLock { $0 = newValue }
            isTraced.store(newValue != nil, ordering: .releasing)
        }
    }

    // MARK: Memory

    /// Takes `byteCount` bytes from the driver now, to be lent from here on.
    ///
    /// - Throws: `.outOfMemory`, with what is free.
    public func reserve(byteCount: Int) throws(DeviceError) {
        try memory.withLock { memory throws(DeviceError) in
            precondition(memory.arena == nil, "\(name) has lent memory already")
            memory.limitBytes = byteCount
            memory.arena = try CUDAArena(context: context, limitBytes: byteCount)
        }
    }

    /// Device memory that nobody has, other programs included.
    public func freeBytes() throws(DeviceError) -> Int {
        try context.makeCurrent()
        var (free, total) = (0, 0)
        try context.check(
            driver.functions.cuMemGetInfo_v2(&free, &total), "cuMemGetInfo_v2",
            "ask how much memory is free")
        return free
    }

    private func arena() throws(DeviceError) -> CUDAArena {
        try memory.withLock { memory throws(DeviceError) in
            if let arena = memory.arena { return arena }
            let arena = try CUDAArena(context: context, limitBytes: memory.limitBytes)
            memory.arena = arena
            return arena
        }
    }

    private var usage: MemoryAccount.Usage? { memory.withLock { $0.arena?.account.current } }

    /// Allocates zeroed device memory, aligned to 512 bytes.
    public func allocate(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> DeviceBuffer {
        let size = try alignedSize(byteCount, deviceName: name)
        let arena = try arena()
        context.freeLeftovers()
        let address = try arena.take(size, for: purpose)
        do throws(DeviceError) {
            try onOwnQueue { queue throws(DeviceError) in try queue.zero(address, byteCount: size) }
        } catch {
            arena.giveBack(address, byteCount: size, of: purpose)
            throw error
        }
        return DeviceBuffer(address: address, byteCount: byteCount) { [arena] address in
            arena.giveBack(address, byteCount: size, of: purpose)
        }
    }

    /// Allocates zeroed pinned host memory, for all contexts of the process.
    public func allocatePinned(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> HostBuffer {
        context.freeLeftovers()
        return try hostMemory.allocatePinned(byteCount: byteCount, for: purpose)
    }

    /// Allocates zeroed host memory; pageable when pinned memory has run out, with one warning.
    public func allocateHost(
        byteCount: Int, for purpose: MemoryPurpose, preferPinned: Bool
    ) throws(DeviceError) -> HostBuffer {
        try hostMemory.allocate(
            byteCount: byteCount, for: purpose, preferPinned: preferPinned)
    }

    /// Bytes in use now, by purpose.
    public var bytesInUse: [Int] {
        usage?.byPurpose ?? MemoryPurpose.allCases.map { _ in 0 }
    }
    /// Most bytes ever in use at once.
    public var bytesPeak: Int { usage?.peak ?? 0 }
    /// Bytes of pinned host memory in use now, by purpose.
    public var pinnedBytesInUse: [Int] { hostMemory.pinned.current.byPurpose }
    /// Most bytes of pinned host memory ever in use at once.
    public var pinnedBytesPeak: Int { hostMemory.pinned.current.peak }
    /// Allocations of device and pinned memory since the start.
    public var allocationCount: Int {
        (usage?.allocations ?? 0) + hostMemory.pinned.current.allocations
    }

    // MARK: Streams

    /// Makes a stream.
    public func makeStream(name: String) throws(DeviceError) -> any DeviceStream {
        try makeCUDAStream(name: name)
    }

    /// Makes a stream that libraries can be bound to.
    public func makeCUDAStream(name: String) throws(DeviceError) -> CUDAStream {
        try CUDAStream(name: name, device: self)
    }

    /// A stream that somebody else has made in the device's primary context, such as torch's current one.
    ///
    /// - Parameter handle: alive as long as it is followed; nil is the default stream.
    public func adoptStream(_ handle: geeps_cu_stream?, name: String) -> CUDAStream {
        CUDAStream(adopting: handle, name: name, device: self)
    }

    /// Makes an event.
    public func makeEvent() throws(DeviceError) -> any DeviceEvent { try CUDAEvent(context) }

    /// What streams have copied since the start.
    public var traffic: CopyTraffic { counter.traffic }

    func countCopy(
        from source: UnsafeRawPointer, to target: UnsafeRawPointer, byteCount: Int,
        direction: CopyDirection
    ) {
        let isPageable =
            switch direction {
            case .hostToDevice: !hostMemory.pinnedRanges.contains(source, byteCount: byteCount)
            case .deviceToHost: !hostMemory.pinnedRanges.contains(target, byteCount: byteCount)
            case .deviceToDevice: false
            }
        counter.add(byteCount, direction: direction, isPageable: isPageable)
    }
}

/// Pinned memory of the driver's.
private struct CUDAPinnedMemory: PinnedMemorySource {
    let context: CUDAContext

    func lend(
        _ byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> UnsafeMutableRawPointer {
        try context.makeCurrent()
        var address: UnsafeMutableRawPointer?
        try context.check(
            context.driver.functions.cuMemHostAlloc(
                &address, byteCount, UInt32(GEEPS_CU_HOST_ALLOC_PORTABLE)),
            "cuMemHostAlloc", "pin \(byteCount) bytes of host memory for \(purpose.rawValue)")
        guard let address else {
            throw DeviceError(.failed, "\(context.name): cuMemHostAlloc gave no memory")
        }
        memset(address, 0, byteCount)
        return address
    }

    func takeBack(_ address: UnsafeMutableRawPointer) { context.free(.pinned(address)) }
}

/// Work on the caller's thread: put on a stream of the device's own and waited for.
///
/// It is ordered with nothing else: for set-up, when no stream uses the memory.
extension CUDADevice {
    private func onOwnQueue(
        _ body: (CUDAQueue) throws(DeviceError) -> Void
    ) throws(DeviceError) {
        try context.makeCurrent()
        try ownQueueLock.withLock { () throws(DeviceError) in
            try body(ownQueue)
            try ownQueue.synchronise()
        }
    }

    /// What has no way to say that it failed: the device is broken, and streams and allocations will say so.
    private func attempt(_ body: (CUDAQueue) throws(DeviceError) -> Void) { try? onOwnQueue(body) }

    /// Copies bytes of host memory to the device.
    public func write(
        _ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int
    ) {
        attempt { queue throws(DeviceError) in
            try queue.copy(
                from: source, to: target, byteCount: byteCount, direction: .hostToDevice)
        }
    }

    /// `target[j] = source[indexes[j]]`.
    public func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) {
        attempt { queue throws(DeviceError) in
            try queue.gatherRows(
                source, indexes: indexes, count: count, rowWidth: rowWidth, into: target)
        }
    }

    /// `target[indexes[j]] += source[j]`.
    public func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) {
        attempt { queue throws(DeviceError) in
            try queue.scatterAddRows(
                source, indexes: indexes, count: count, rowWidth: rowWidth, into: target)
        }
    }

    /// `target += source`.
    public func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        attempt { queue throws(DeviceError) in
            try queue.add(source, count: count, into: target)
        }
    }

    /// `target = source`, in device memory.
    public func copy(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        attempt { queue throws(DeviceError) in
            try queue.copy(
                from: source, to: target, byteCount: count * MemoryLayout<Float>.stride,
                direction: .deviceToDevice)
        }
    }

    /// `target = 0`.
    public func zero(_ target: UnsafeMutablePointer<Float>, count: Int) {
        attempt { queue throws(DeviceError) in
            try queue.zero(target, byteCount: count * MemoryLayout<Float>.stride)
        }
    }
}
