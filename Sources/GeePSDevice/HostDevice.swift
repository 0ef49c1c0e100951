import Glibc
import Synchronization

/// The host's memory as a device: limits that are enforced, streams that run on threads of their own.
///
/// On request it pretends to sit behind a link, delays the work of its streams at random, and fails an
/// allocation, so that programs for a GPU can be tested without one.
public final class HostDevice: Device {
    /// "host".
    public let name = "host"
    /// True.
    public let isHostAddressable = true
    /// Most bytes in use at once; nil: what the host has.
    public let limitBytes: Int?
    /// Most bytes of pinned host memory in use at once; nil: what the host has.
    public let pinnedLimitBytes: Int?
    /// The link copies go over; nil: none, copies run as fast as memory.
    public let link: LinkEmulation?

    let jitter: Jitter?
    let timeline: Timeline?
    let streamCapacity: Int
    let toDevice = CopyEngine()
    let toHost = CopyEngine()
    private let memory: MemoryAccount
    private let hostMemory: HostMemory
    private let faults = AllocationFaults()
    private let counter = CopyCounter()

    /// A host device.
    ///
    /// - Parameters:
    ///   - limitBytes: how much it lends at most.
    ///   - pinnedLimitBytes: how much pinned host memory it lends at most; a matter of accounting here.
    ///   - streamCapacity: operations a stream queues before its callers wait.
    ///   - timeline: where streams leave spans.
    ///   - onWarning: is told once when pinned memory has run out.
    public init(
        limitBytes: Int? = nil, pinnedLimitBytes: Int? = nil, link: LinkEmulation? = nil,
        jitter: Jitter? = nil, timeline: Timeline? = nil, streamCapacity: Int = 1024,
        onWarning: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.limitBytes = limitBytes
        self.pinnedLimitBytes = pinnedLimitBytes
        self.link = link
        self.jitter = jitter
        self.timeline = timeline
        self.streamCapacity = streamCapacity
        memory = MemoryAccount(name: name, limitBytes: limitBytes)
        hostMemory = HostMemory(
            deviceName: name, pinnedLimitBytes: pinnedLimitBytes,
            pinnedSource: SystemPinnedMemory(faults: faults), onWarning: onWarning)
    }

    // MARK: Memory

    /// Allocates zeroed memory, within the limit; huge pages where they pay.
    public func allocate(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> DeviceBuffer {
        let size = try alignedSize(byteCount, deviceName: name)
        try faults.failWhereAsked(size, for: purpose)
        try memory.take(size, for: purpose)
        guard let address = zeroedSystemMemory(size) else {
            memory.giveBack(size, of: purpose)
            throw noSystemMemory(size, for: purpose, deviceName: name)
        }
        return DeviceBuffer(address: address, byteCount: byteCount) { [memory] address in
            Glibc.free(address)
            memory.giveBack(size, of: purpose)
        }
    }

    /// Allocates zeroed memory that counts as pinned.
    public func allocatePinned(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> HostBuffer {
        try hostMemory.allocatePinned(byteCount: byteCount, for: purpose)
    }

    /// Allocates zeroed host memory; pageable when pinned memory has run out, with one warning.
    public func allocateHost(
        byteCount: Int, for purpose: MemoryPurpose, preferPinned: Bool
    ) throws(DeviceError) -> HostBuffer {
        try hostMemory.allocate(byteCount: byteCount, for: purpose, preferPinned: preferPinned)
    }

    /// Lets the allocation number `number` from now, counted from one, of device or pinned memory fail.
    public func failAllocation(number: Int) {
        faults.fail(number: number)
    }

    /// Bytes in use now, by purpose.
    public var bytesInUse: [Int] { memory.current.byPurpose }
    /// Most bytes ever in use at once.
    public var bytesPeak: Int { memory.current.peak }
    /// Bytes of pinned host memory in use now, by purpose.
    public var pinnedBytesInUse: [Int] { hostMemory.pinned.current.byPurpose }
    /// Most bytes of pinned host memory ever in use at once.
    public var pinnedBytesPeak: Int { hostMemory.pinned.current.peak }
    /// Bytes of pageable host memory in use now, by purpose.
    public var pageableBytesInUse: [Int] { hostMemory.pageable.current.byPurpose }
    /// Allocations of device and pinned memory since the start.
    public var allocationCount: Int {
        memory.current.allocations + hostMemory.pinned.current.allocations
    }

    // MARK: Streams

    /// Makes a stream with a thread of its own.
    public func makeStream(name: String) throws(DeviceError) -> any DeviceStream {
        HostStream(name: name, device: self)
    }

    /// Makes an event.
    public func makeEvent() throws(DeviceError) -> any DeviceEvent { HostEvent() }

    /// What streams have copied since the start.
    public var traffic: CopyTraffic { counter.traffic }

    func countCopy(_ byteCount: Int, direction: CopyDirection, isPageable: Bool) {
        counter.add(byteCount, direction: direction, isPageable: isPageable)
    }

    /// Whether all of the stretch is pinned host memory.
    func isPinned(_ address: UnsafeRawPointer, byteCount: Int) -> Bool {
        hostMemory.pinnedRanges.contains(address, byteCount: byteCount)
    }
}

/// The system's memory, lent as if it were pinned.
private struct SystemPinnedMemory: PinnedMemorySource {
    let faults: AllocationFaults

    func lend(_ byteCount: Int, for purpose: MemoryPurpose) throws(DeviceError)
        -> UnsafeMutableRawPointer
    {
        try faults.failWhereAsked(byteCount, for: purpose)
        guard let address = zeroedSystemMemory(byteCount) else {
            throw noSystemMemory(byteCount, for: purpose, deviceName: "host")
        }
        return address
    }

    func takeBack(_ address: UnsafeMutableRawPointer) { Glibc.free(address) }
}

/// Lets one allocation fail.
private final class AllocationFaults: Sendable {
    // Allocations until the one that fails; nil: none fails.
    private let untilFailure = Mutex<Int?>(nil)

    func fail(number: Int) {
        precondition(number > 0, "allocations are counted from one, got \(number)")
        untilFailure.withLock { $0 = number }
    }

    func failWhereAsked(_ size: Int, for purpose: MemoryPurpose) throws(DeviceError) {
        let mustFail = untilFailure.withLock { left -> Bool in
            guard let count = left else { return false }
            left = count > 1 ? count - 1 : nil
            return count == 1
        }
        guard mustFail else { return }
        throw DeviceError(
            .outOfMemory, "host: \(size) bytes for \(purpose.rawValue): made to fail, as asked")
    }
}
