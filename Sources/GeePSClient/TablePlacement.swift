internal import GeePSDevice

/// Where the rows of tables are.
enum TablePlacement: Sendable {
    case device
    /// Host memory that the device copies from and to.
    case host(prefersPinned: Bool)

    var isHost: Bool {
        if case .host = self { return true }
        return false
    }

    /// Zeroed memory there.
    func allocate(
        byteCount: Int, for purpose: MemoryPurpose, on device: any Device
    ) throws(DeviceError) -> SharedBuffer {
        switch self {
        case .device:
            return SharedBuffer(try device.allocate(byteCount: byteCount, for: purpose))
        case .host(let prefersPinned):
            return SharedBuffer(
                try device.allocateHost(
                    byteCount: byteCount, for: purpose, preferPinned: prefersPinned))
        }
    }
}
