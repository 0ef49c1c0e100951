internal import GeePSDevice

/// Memory for the rows of one table, on the device or on the host.
final class TableMemory: @unchecked Sendable {
    // Sendable: the address is a value; who may touch the memory is `TableCopy`'s business.

    /// Where it is.
    enum Kind: Sendable {
        case device
        /// Host memory that the device copies from and to.
        case host(prefersPinned: Bool)

        var isHost: Bool {
            if case .host = self { return true }
            return false
        }
    }

    private let deviceBuffer: DeviceBuffer?
    private let hostBuffer: HostBuffer?
    /// First value.
    let floats: UnsafeMutablePointer<Float>

    init(
        byteCount: Int, for purpose: MemoryPurpose, _ kind: Kind, on device: any Device
    ) throws(DeviceError) {
        switch kind {
        case .device:
            let buffer = try device.allocate(byteCount: byteCount, for: purpose)
            floats = buffer.floats
            deviceBuffer = consume buffer
            hostBuffer = nil
        case .host(let prefersPinned):
            let buffer = try device.allocateHost(
                byteCount: byteCount, for: purpose, preferPinned: prefersPinned)
            floats = buffer.floats
            hostBuffer = consume buffer
            deviceBuffer = nil
        }
    }
}
