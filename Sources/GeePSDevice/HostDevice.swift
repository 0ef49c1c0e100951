internal import GeePSCore
import Glibc
import Synchronization

/// The host's memory as a device: limits that are enforced, streams that run on threads of their own.
///
/// On request it pretends to sit behind a link, delays the work of its streams at random, and fails an
/// allocation, so that programs for a GPU can be tested without one.
public final class HostDevice: Device {
    /// "host".
    public let name = "host"
    /// Most bytes in use at once; nil: what the host has.
    public let limitBytes: Int?
    /// Most bytes of pinned host memory in use at once; nil: what the host has.
    public let pinnedLimitBytes: Int?
    /// The link copies go over; nil: none, copies run as fast as memory.
    public let link: LinkEmulation?

    let jitter: Jitter?
    let timeline: Timeline?
    let streamCapacity: Int
    let pinnedRanges = PinnedRanges()
    let toDevice = CopyEngine()
    let toHost = CopyEngine()
    private let onWarning: @Sendable (String) -> Void
    private let hasWarned = Atomic(false)
    private let memory: MemoryAccount
    private let pinned: MemoryAccount
    private let pageable = MemoryAccount(name: "host, pageable", limitBytes: nil)
    // Allocations until the one that fails; nil: none fails.
    private let allocationsUntilFailure = Mutex<Int?>(nil)
    // Guarded by `copiedLock`: a pthread mutex, which the thread sanitizer knows.
    private nonisolated(unsafe) var copied = CopyTraffic()
    private let copiedLock = Signal()

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
        self.onWarning = onWarning
        memory = MemoryAccount(name: "host", limitBytes: limitBytes)
        pinned = MemoryAccount(name: "host, pinned", limitBytes: pinnedLimitBytes)
    }

    // MARK: Memory

    /// Allocates zeroed memory, within the limit; huge pages where they pay.
    public func allocate(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> DeviceBuffer {
        let size = try alignedSize(byteCount)
        try failWhereAsked(size, for: purpose)
        let address = try zeroedMemory(size, for: purpose, from: memory)
        return DeviceBuffer(address: address, byteCount: byteCount) { [memory] address in
            Glibc.free(address)
            memory.giveBack(size, of: purpose)
        }
    }

    /// Allocates zeroed memory that counts as pinned.
    public func allocatePinned(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> HostBuffer {
        let size = try alignedSize(byteCount)
        try failWhereAsked(size, for: purpose)
        let address = try zeroedMemory(size, for: purpose, from: pinned)
        pinnedRanges.insert(address, byteCount: size)
        return HostBuffer(address: address, byteCount: byteCount, isPinned: true) {
            [pinned, pinnedRanges] address in
            // Forgotten first: once freed, another thread may be given the same address.
            pinnedRanges.remove(address)
            Glibc.free(address)
            pinned.giveBack(size, of: purpose)
        }
    }

    /// Allocates zeroed host memory; pageable when pinned memory has run out, with one warning.
    public func allocateHost(
        byteCount: Int, for purpose: MemoryPurpose, preferPinned: Bool
    ) throws(DeviceError) -> HostBuffer {
        if preferPinned {
            do throws(DeviceError) {
                return try allocatePinned(byteCount: byteCount, for: purpose)
            } catch {
                warnOnce("\(error.message); pageable memory takes its place, which copies slower")
            }
        }
        let size = try alignedSize(byteCount)
        let address = try zeroedMemory(size, for: purpose, from: pageable)
        return HostBuffer(address: address, byteCount: byteCount, isPinned: false) {
            [pageable] address in
            Glibc.free(address)
            pageable.giveBack(size, of: purpose)
        }
    }

    /// Lets the allocation number `number` from now, counted from one, of device or pinned memory fail.
    public func failAllocation(number: Int) {
        precondition(number > 0, "allocations are counted from one, got \(number)")
        allocationsUntilFailure.withLock { $0 = number }
    }

    /// Bytes in use now, by purpose.
    public var bytesInUse: [Int] { memory.current.byPurpose }
    /// Most bytes ever in use at once.
    public var bytesPeak: Int { memory.current.peak }
    /// Bytes of pinned host memory in use now, by purpose.
    public var pinnedBytesInUse: [Int] { pinned.current.byPurpose }
    /// Most bytes of pinned host memory ever in use at once.
    public var pinnedBytesPeak: Int { pinned.current.peak }
    /// Bytes of pageable host memory in use now, by purpose.
    public var pageableBytesInUse: [Int] { pageable.current.byPurpose }
    /// Allocations of device and pinned memory since the start.
    public var allocationCount: Int { memory.current.allocations + pinned.current.allocations }

    // MARK: Streams

    /// Makes a stream with a thread of its own.
    public func makeStream(name: String) throws(DeviceError) -> any DeviceStream {
        HostStream(name: name, device: self)
    }

    /// Makes an event.
    public func makeEvent() throws(DeviceError) -> any DeviceEvent { HostEvent() }

    /// What streams have copied since the start.
    public var traffic: CopyTraffic { copiedLock.withLock { copied } }

    func countCopy(_ byteCount: Int, direction: CopyDirection, isPageable: Bool) {
        copiedLock.withLock {
            copied.add(byteCount, direction: direction, isPageable: isPageable)
        }
    }

    // MARK: Inside

    private func alignedSize(_ byteCount: Int) throws(DeviceError) -> Int {
        precondition(byteCount >= 0, "asked for \(byteCount) bytes")
        guard byteCount <= Int.max - 63 else {
            throw DeviceError(.outOfMemory, "host: no memory has \(byteCount) bytes")
        }
        return max(64, (byteCount + 63) / 64 * 64)
    }

    private func failWhereAsked(_ size: Int, for purpose: MemoryPurpose) throws(DeviceError) {
        let mustFail = allocationsUntilFailure.withLock { left -> Bool in
            guard let count = left else { return false }
            left = count > 1 ? count - 1 : nil
            return count == 1
        }
        guard mustFail else { return }
        throw DeviceError(
            .outOfMemory, "host: \(size) bytes for \(purpose.rawValue): made to fail, as asked")
    }

    private func zeroedMemory(
        _ size: Int, for purpose: MemoryPurpose, from account: MemoryAccount
    ) throws(DeviceError) -> UnsafeMutableRawPointer {
        try account.take(size, for: purpose)
        let hugePage = 2 << 20
        var address: UnsafeMutableRawPointer?
        guard posix_memalign(&address, size >= hugePage ? hugePage : 64, size) == 0, let address
        else {
            account.giveBack(size, of: purpose)
            throw DeviceError(
                .outOfMemory, "host: the system has no \(size) bytes left for \(purpose.rawValue)")
        }
        if size >= hugePage { madvise(address, size, MADV_HUGEPAGE) }
        memset(address, 0, size)
        return address
    }

    private func warnOnce(_ message: String) {
        // Relaxed: only the exchange itself matters, nothing is handed over with it.
        if !hasWarned.exchange(true, ordering: .relaxed) { onWarning(message) }
    }
}
