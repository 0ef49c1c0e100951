import Glibc
import Synchronization

/// The host's memory as a device, with a limit that is enforced.
public final class HostDevice: Device {
    /// "host".
    public let name = "host"
    /// Most bytes in use at once; nil: what the host has.
    public let limitBytes: Int?
    private let usage = Mutex(Usage())

    private struct Usage {
        var byPurpose = [Int](repeating: 0, count: MemoryPurpose.allCases.count)
        var total = 0
        var peak = 0
        var allocations = 0
    }

    /// A host device that lends at most `limitBytes`.
    public init(limitBytes: Int? = nil) { self.limitBytes = limitBytes }

    /// Allocates zeroed memory, within the limit; huge pages where they pay.
    public func allocate(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> DeviceBuffer {
        let size = max(64, (byteCount + 63) / 64 * 64)
        try reserve(size, for: purpose)
        var address: UnsafeMutableRawPointer?
        guard posix_memalign(&address, size >= 2 << 20 ? 2 << 20 : 64, size) == 0, let address
        else {
            giveBack(size, of: purpose)
            throw DeviceError(
                .outOfMemory, "host: the system has no \(size) bytes left for \(purpose.rawValue)")
        }
        if size >= 2 << 20 { madvise(address, size, MADV_HUGEPAGE) }
        memset(address, 0, size)
        return DeviceBuffer(address: address, byteCount: byteCount) { [self] address in
            Glibc.free(address)
            giveBack(size, of: purpose)
        }
    }

    /// Bytes in use now, by purpose.
    public var bytesInUse: [Int] { usage.withLock { $0.byPurpose } }
    /// Most bytes ever in use at once.
    public var bytesPeak: Int { usage.withLock { $0.peak } }
    /// Allocations since the start.
    public var allocationCount: Int { usage.withLock { $0.allocations } }

    private func reserve(_ size: Int, for purpose: MemoryPurpose) throws(DeviceError) {
        let inUse: Int? = usage.withLock { usage in
            if let limitBytes, usage.total + size > limitBytes { return usage.total }
            usage.total += size
            usage.peak = max(usage.peak, usage.total)
            usage.byPurpose[purpose.index] += size
            usage.allocations += 1
            return nil
        }
        guard let inUse else { return }
        throw DeviceError(
            .outOfMemory,
            "host: \(size) bytes for \(purpose.rawValue) on top of \(inUse) in use exceed the limit of "
                + "\(limitBytes ?? 0) bytes")
    }

    private func giveBack(_ size: Int, of purpose: MemoryPurpose) {
        usage.withLock { usage in
            usage.total -= size
            usage.byPurpose[purpose.index] -= size
        }
    }
}

extension MemoryPurpose {
    var index: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

extension HostDevice {
    /// `target[j] = source[indexes[j]]`.
    public func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.gatherRows(target, from: source, at: indexes, rowCount: count, rowWidth: rowWidth)
    }

    /// `target[indexes[j]] += source[j]`.
    public func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.scatterAddRows(source, to: target, at: indexes, rowCount: count, rowWidth: rowWidth)
    }

    /// `target += source`.
    public func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.add(source, to: target, count: count)
    }

    /// `target = source`.
    public func copy(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) {
        Kernels.copy(source, to: target, count: count)
    }

    /// `target = 0`.
    public func zero(_ target: UnsafeMutablePointer<Float>, count: Int) {
        Kernels.fill(target, with: 0, count: count)
    }
}
