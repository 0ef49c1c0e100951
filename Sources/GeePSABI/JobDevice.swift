internal import CGeePS
internal import GeePS
import Synchronization

/// Where a job's device memory is, and on which of the caller's streams its kernels run.
enum JobDevice {
    case host
    case cuda(CUDADevice, stream: CUDAStream)

    /// Where CUDA comes from; tests put a stand-in here.
    struct Source: Sendable {
        var driver: @Sendable () throws(DeviceError) -> CUDADriver
        var kernels: @Sendable () -> CUDAKernelSource

        /// What this machine has.
        static let system = Source(
            driver: { () throws(DeviceError) in try CUDADriver.load() }, kernels: { .standard })
    }

    static let source = Mutex(Source.system)

    var isHost: Bool {
        if case .host = self { return true }
        return false
    }

    /// Finds the device; its memory is taken at `reserve`.
    ///
    /// - Throws: what is missing and how to get it.
    init(_ choice: DeviceChoice) throws(ABIError) {
        guard case .cuda(let ordinal?) = choice else {
            self = .host
            return
        }
        let source = Self.source.withLock { $0 }
        do throws(DeviceError) {
            let driver = try source.driver()
            try driver.initialise()
            let device = try driver.preservingContext { () throws(DeviceError) in
                try CUDADevice(driver: driver, ordinal: ordinal, kernels: source.kernels())
            }
            self = .cuda(device, stream: device.adoptStream(nil, name: "caller"))
        } catch {
            throw ABIError(
                error.code == .invalid ? GEEPS_ARGUMENT : GEEPS_DEVICE_FAILED, error.message)
        }
    }

    /// What the client allocates from.
    var device: any Device {
        switch self {
        case .host: HostDevice()
        case .cuda(let device, _): device
        }
    }

    /// Takes what the job needs of a GPU's memory, which other code has the rest of.
    ///
    /// - Parameters:
    ///   - tableBytes: of each table.
    ///   - budgetBytes: the managed memory's; nil where everything stays at hand.
    func reserve(tableBytes: [Int], budgetBytes: Int?) throws(ABIError) {
        guard case .cuda(let device, _) = self else { return }
        do throws(DeviceError) {
            try device.reserve(
                byteCount: budgetBytes ?? Self.residentBytes(tableBytes: tableBytes))
        } catch {
            throw ABIError(GEEPS_OUT_OF_MEMORY, error.message)
        }
    }

    /// Rows and an update of every table at once, with what alignment takes.
    private static func residentBytes(tableBytes: [Int]) -> Int {
        let alignment = 4096
        return tableBytes.reduce(alignment) { total, bytes in
            total + 2 * ((bytes + alignment - 1) / alignment * alignment)
        }
    }

    /// Runs `body` on the caller's thread, whose context may be any.
    func perform(_ body: () throws(ABIError) -> Void) throws(ABIError) {
        switch self {
        case .host: try body()
        case .cuda(let device, _): try device.onForeignThread(body)
        }
    }

    /// A GPU's driver.
    var driver: CUDADriver? {
        guard case .cuda(let device, _) = self else { return nil }
        return device.driver
    }

    /// Copies `byteCount` bytes to memory of the device, in the order of the caller's work.
    func copy(_ source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int) {
        switch self {
        case .host: target.copyMemory(from: source, byteCount: byteCount)
        case .cuda(_, let stream):
            stream.copy(
                from: source, to: target, byteCount: byteCount, direction: .deviceToDevice)
        }
    }

    /// Sets bytes to zero, in the same order.
    func zero(_ target: UnsafeMutableRawPointer, byteCount: Int) {
        guard byteCount > 0 else { return }
        switch self {
        case .host: target.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
        case .cuda(_, let stream): stream.zero(target, byteCount: byteCount)
        }
    }
}

/// Runs `body`, which may free all that a job has on a GPU, on the caller's thread.
func preservingContext(of driver: CUDADriver?, _ body: () -> Void) {
    if let driver { driver.preservingContext(body) } else { body() }
}
