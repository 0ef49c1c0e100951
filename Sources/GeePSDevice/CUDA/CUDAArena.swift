import CGeePSShims
import Synchronization

/// All the device memory a device lends, from one allocation of the driver's.
///
/// So the driver is asked once, at the start: afterwards neither it nor other processes are in the way.
/// Accounting is to the 64 bytes, as the host device's; the arena itself is a little larger, for granules.
final class CUDAArena: Sendable {
    let limitBytes: Int
    let account: MemoryAccount
    private let context: CUDAContext
    private let base: geeps_cu_address
    private let free: Mutex<FreeStretches>

    /// What a device without a limit leaves alone of the memory that is free: libraries load their kernels
    /// late, and take workspaces of their own.
    ///
    /// 256 MiB and a thirty-second of the memory: 0.5 GiB of 8 GiB, 2.75 GiB of 80 GiB.
    static func reserveBytes(totalBytes: Int) -> Int { 256 << 20 + totalBytes / 32 }

    // Room for granules that are not filled, and what the driver rounds allocations to.
    private static let slackBytes = 64 << 10
    private static let pageBytes = 2 << 20

    /// - Throws: `.outOfMemory`, with what is free and what was asked for.
    init(context: CUDAContext, limitBytes: Int?) throws(DeviceError) {
        try context.makeCurrent()
        let memory = try Self.memory(of: context)
        let reserve = Self.reserveBytes(totalBytes: memory.total)
        let limit = limitBytes ?? max(0, memory.free - reserve)
        guard limitBytes != nil || limit >= Self.pageBytes else {
            throw DeviceError(
                .outOfMemory,
                "\(context.name): \(memory.free) of \(memory.total) bytes are free, expected more than "
                    + "the \(reserve) left to the libraries; end what else runs there, or set a limit"
            )
        }
        precondition(limit >= 0, "a limit is a number of bytes, got \(limit)")
        let pages = (limit + Self.slackBytes + Self.pageBytes - 1) / Self.pageBytes
        let size = limit == 0 ? 0 : pages * Self.pageBytes
        self.limitBytes = limit
        self.context = context
        base = try Self.allocate(size, limit: limit, memory, context)
        account = MemoryAccount(name: context.name, limitBytes: limit)
        free = Mutex(FreeStretches(byteCount: size))
    }

    deinit {
        guard base != 0, (try? context.makeCurrent()) != nil else { return }
        // Nobody is left to be told.
        _ = context.driver.functions.cuMemFree_v2(base)
    }

    /// Takes `byteCount` bytes, a multiple of 64; they are not zeroed.
    func take(
        _ byteCount: Int, for purpose: MemoryPurpose
    ) throws(DeviceError) -> UnsafeMutableRawPointer {
        try account.take(byteCount, for: purpose)
        let (offset, largest) = free.withLock { free in (free.take(byteCount), free.largest) }
        if let offset, let address = UnsafeMutableRawPointer(bitPattern: UInt(base) + UInt(offset))
        {
            return address
        }
        let inUse = account.current.total
        account.giveBack(byteCount, of: purpose)
        throw DeviceError(
            .outOfMemory,
            "\(context.name): \(byteCount) bytes for \(purpose.rawValue) on top of "
                + "\(inUse - byteCount) in use find no place: the largest free block is \(largest) "
                + "bytes of a limit of \(limitBytes)")
    }

    /// Gives back what `take` gave; on any thread, no function of the driver is called.
    func giveBack(
        _ address: UnsafeMutableRawPointer, byteCount: Int, of purpose: MemoryPurpose
    ) {
        let offset = Int(UInt(bitPattern: address) - UInt(base))
        free.withLock { $0.giveBack(offset, byteCount: byteCount) }
        account.giveBack(byteCount, of: purpose)
    }

    private static func memory(
        of context: CUDAContext
    ) throws(DeviceError) -> (free: Int, total: Int) {
        var (free, total) = (0, 0)
        try context.check(
            context.driver.functions.cuMemGetInfo_v2(&free, &total), "cuMemGetInfo_v2",
            "ask how much memory is free")
        return (free, total)
    }

    private static func allocate(
        _ size: Int, limit: Int, _ memory: (free: Int, total: Int), _ context: CUDAContext
    ) throws(DeviceError) -> geeps_cu_address {
        guard size > 0 else { return 0 }
        var base: geeps_cu_address = 0
        let status = context.driver.functions.cuMemAlloc_v2(&base, size)
        guard status == Int32(GEEPS_CU_OUT_OF_MEMORY) else {
            try context.check(status, "cuMemAlloc_v2", "allocate \(size) bytes")
            return base
        }
        throw DeviceError(
            .outOfMemory,
            "\(context.name): asked for \(limit) bytes of device memory, \(memory.free) of "
                + "\(memory.total) are free; a smaller limit would do, or another GPU")
    }
}
