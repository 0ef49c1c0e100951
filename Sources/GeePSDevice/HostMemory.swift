import Glibc
import Synchronization

/// Where pinned memory comes from.
protocol PinnedMemorySource: Sendable {
    /// Lends `byteCount` zeroed bytes, aligned to 64 bytes.
    func lend(_ byteCount: Int, for purpose: MemoryPurpose) throws(DeviceError)
        -> UnsafeMutableRawPointer

    /// Takes back what was lent; on any thread.
    func takeBack(_ address: UnsafeMutableRawPointer)
}

/// The host memory that a device lends: pinned within a limit, pageable where that has run out.
final class HostMemory: Sendable {
    let pinnedRanges = PinnedRanges()
    let pinned: MemoryAccount
    let pageable: MemoryAccount
    private let deviceName: String
    private let pinnedSource: any PinnedMemorySource
    private let onWarning: @Sendable (String) -> Void
    private let hasWarned = Atomic(false)

    init(
        deviceName: String, pinnedLimitBytes: Int?, pinnedSource: any PinnedMemorySource,
        onWarning: @escaping @Sendable (String) -> Void
    ) {
        self.deviceName = deviceName
        self.pinnedSource = pinnedSource
        self.onWarning = onWarning
        pinned = MemoryAccount(name: "\(deviceName), pinned", limitBytes: pinnedLimitBytes)
        pageable = MemoryAccount(name: "\(deviceName), pageable", limitBytes: nil)
    }

    /// Allocates zeroed pinned memory.
    func allocatePinned(
        byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> HostBuffer {
        let size = try alignedSize(byteCount, deviceName: deviceName)
        try pinned.take(size, for: purpose)
        let address: UnsafeMutableRawPointer
        do throws(DeviceError) {
            address = try pinnedSource.lend(size, for: purpose)
        } catch {
            pinned.giveBack(size, of: purpose)
            throw error
        }
        pinnedRanges.insert(address, byteCount: size)
        return HostBuffer(address: address, byteCount: byteCount, isPinned: true) {
            [pinned, pinnedRanges, pinnedSource] address in
            // Forgotten first: once freed, another thread may be given the same address.
            pinnedRanges.remove(address)
            pinnedSource.takeBack(address)
            pinned.giveBack(size, of: purpose)
        }
    }

    /// Allocates zeroed host memory; pageable when pinned memory has run out, with one warning.
    func allocate(
        byteCount: Int, for purpose: MemoryPurpose, preferPinned: Bool
    ) throws(DeviceError) -> HostBuffer {
        if preferPinned {
            do throws(DeviceError) {
                return try allocatePinned(byteCount: byteCount, for: purpose)
            } catch {
                warnOnce("\(error.message); pageable memory takes its place, which copies slower")
            }
        }
        let size = try alignedSize(byteCount, deviceName: deviceName)
        try pageable.take(size, for: purpose)
        guard let address = zeroedSystemMemory(size) else {
            pageable.giveBack(size, of: purpose)
            throw noSystemMemory(size, for: purpose, deviceName: deviceName)
        }
        return HostBuffer(address: address, byteCount: byteCount, isPinned: false) {
            [pageable] address in
            Glibc.free(address)
            pageable.giveBack(size, of: purpose)
        }
    }

    private func warnOnce(_ message: String) {
        // Relaxed: only the exchange itself matters, nothing is handed over with it.
        if !hasWarned.exchange(true, ordering: .relaxed) { onWarning(message) }
    }
}

/// `byteCount` rounded up to the 64 bytes that memory is aligned to, at least 64.
func alignedSize(_ byteCount: Int, deviceName: String) throws(DeviceError) -> Int {
    precondition(byteCount >= 0, "asked for \(byteCount) bytes")
    guard byteCount <= Int.max - 63 else {
        throw DeviceError(.outOfMemory, "\(deviceName): no memory has \(byteCount) bytes")
    }
    return max(64, (byteCount + 63) / 64 * 64)
}

/// Zeroed memory of the system, on huge pages where they pay; `free` returns it.
func zeroedSystemMemory(_ size: Int) -> UnsafeMutableRawPointer? {
    let hugePage = 2 << 20
    var address: UnsafeMutableRawPointer?
    guard posix_memalign(&address, size >= hugePage ? hugePage : 64, size) == 0, let address
    else { return nil }
    if size >= hugePage { madvise(address, size, MADV_HUGEPAGE) }
    memset(address, 0, size)
    return address
}

func noSystemMemory(
    _ size: Int, for purpose: MemoryPurpose, deviceName: String
) -> DeviceError {
    DeviceError(
        .outOfMemory,
        "\(deviceName): the system has no \(size) bytes left for \(purpose.rawValue)")
}
