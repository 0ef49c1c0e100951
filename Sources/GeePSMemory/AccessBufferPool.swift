internal import GeePSCore
internal import GeePSDevice

/// A piece of pool memory that is in use.
struct PooledMemory: @unchecked Sendable {
    // Sendable: one holder at a time, see `Lease`.
    let address: UnsafeMutablePointer<Float>
    fileprivate let sizeClass: Int
}

/// Memory for access buffers, reused by size: after the first iterations nothing is allocated.
final class AccessBufferPool: @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`.
    private let device: any Device
    private let signal = Signal()
    private var sizes: [Int] = []
    private var free: [[UnsafeMutablePointer<Float>]] = []
    private var pieces: [SharedBuffer] = []

    private let isOnHost: Bool

    /// A pool of device memory, or of host memory.
    init(device: any Device, isOnHost: Bool = false) {
        self.device = device
        self.isOnHost = isOnHost
    }

    /// Memory for `valueCount` values; its content is undefined.
    func take(valueCount: Int) throws(AccessError) -> PooledMemory {
        signal.lock()
        defer { signal.unlock() }
        let sizeClass = index(of: valueCount)
        if let address = free[sizeClass].popLast() {
            return PooledMemory(address: address, sizeClass: sizeClass)
        }
        do {
            let piece = try newPiece(byteCount: valueCount * MemoryLayout<Float>.stride)
            pieces.append(piece)
            return PooledMemory(address: piece.floats, sizeClass: sizeClass)
        } catch {
            throw AccessError(
                .outOfMemory, "access buffer of \(valueCount * 4) bytes: \(error.message)")
        }
    }

    /// Gives memory back; the next taker of its size gets it.
    func giveBack(_ memory: PooledMemory) {
        signal.withLock { free[memory.sizeClass].append(memory.address) }
    }

    private func newPiece(byteCount: Int) throws(DeviceError) -> SharedBuffer {
        if isOnHost {
            return SharedBuffer(
                try device.allocateHost(
                    byteCount: byteCount, for: .accessBuffers, preferPinned: false))
        }
        return SharedBuffer(try device.allocate(byteCount: byteCount, for: .accessBuffers))
    }

    private func index(of valueCount: Int) -> Int {
        if let known = sizes.firstIndex(of: valueCount) { return known }
        sizes.append(valueCount)
        free.append([])
        return sizes.count - 1
    }
}
