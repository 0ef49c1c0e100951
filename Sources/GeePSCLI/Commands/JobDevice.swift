import CGeePSShims
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSNN

/// Where CUDA comes from; tests put stand-ins here.
struct CUDASource: Sendable {
    /// Loads the driver.
    var driver: @Sendable () throws(DeviceError) -> CUDADriver
    /// Our kernels.
    var kernels: @Sendable () -> CUDAKernelSource
    /// Loads cuBLAS and cuDNN for layers on a stream.
    var compute: @Sendable (CUDAStream, ComputePrecision) throws(NNError) -> CUDACompute

    /// What this machine has.
    static let system = CUDASource(
        driver: { () throws(DeviceError) in try CUDADriver.load() }, kernels: { .standard },
        compute: { (stream, precision) throws(NNError) in
            try CUDACompute.load(stream: stream, precision: precision)
        })
}

/// The device of a worker: what it is, and what computes there.
///
/// Its memory is taken when it is known how much of it the job needs.
struct JobDevice: Sendable {
    /// What computes.
    let target: ComputeTarget
    /// Threads of each keeper of the process, unless the job says.
    let keeperThreads: Int
    private let gpu: CUDADevice?
    private let onWarning: @Sendable (String) -> Void

    /// Finds the device that `job` asks for.
    ///
    /// - Throws: `DeviceError`, `NNError` with what is missing and how to get it.
    init(
        _ job: Job, launch: Launch, source: CUDASource,
        onWarning: @escaping @Sendable (String) -> Void
    ) throws {
        self.onWarning = onWarning
        gpu = try Self.gpu(of: job, launch, source, onWarning)
        guard let gpu else {
            target = .host
            keeperThreads = 1
            return
        }
        keeperThreads = Self.keeperThreads(
            cores: Int(geeps_available_cores()),
            workers: min(launch.worldSize, max(1, try gpu.driver.initialise())))
        let stream = try gpu.makeCUDAStream(name: "compute")
        target = .cuda(try source.compute(stream, job.precision))
    }

    /// Cores of a GPU's worker are the keeper's and the pullers', which copy what it publishes, half each.
    ///
    /// Eight of each move rows at most as fast as a processor's memory does.
    static func keeperThreads(cores: Int, workers: Int) -> Int {
        max(1, min(8, cores / workers / 2))
    }

    private static func gpu(
        of job: Job, _ launch: Launch, _ source: CUDASource,
        _ onWarning: @escaping @Sendable (String) -> Void
    ) throws(DeviceError) -> CUDADevice? {
        let choice = job.memory?.device ?? .host
        if choice == .host { return nil }
        let driver: CUDADriver
        let count: Int
        do throws(DeviceError) {
            driver = try source.driver()
            count = try driver.initialise()
        } catch {
            if choice == .auto, error.code == .unavailable { return nil }
            throw error
        }
        guard let ordinal = choice.ordinal(localRank: launch.localRank, deviceCount: count) else {
            return nil
        }
        return try CUDADevice(
            driver: driver, ordinal: ordinal, pinnedLimitBytes: job.memory?.pinnedLimitBytes,
            kernels: source.kernels(), onWarning: onWarning)
    }

    /// The device with the memory that the job's plan takes.
    ///
    /// - Throws: `.outOfMemory` when a GPU has less than that.
    func ready(
        for preparation: TrainingPreparation, timeline: Timeline?
    ) throws(DeviceError) -> any Device {
        let memory = preparation.job.memory
        let budgetBytes = preparation.plan?.problem.budgetBytes
        if let gpu {
            gpu.timeline = timeline
            try gpu.reserve(
                byteCount: budgetBytes ?? preparation.plan?.placement.deviceBytes ?? 0)
            return gpu
        }
        return HostDevice(
            limitBytes: budgetBytes, pinnedLimitBytes: memory?.pinnedLimitBytes,
            link: memory?.linkBytesPerSecond.map { LinkEmulation(bytesPerSecond: $0) },
            timeline: timeline, onWarning: onWarning)
    }

    /// A device of its own for `network` with all its memory in one place, beside the job's.
    func beside(for network: Network) throws(DeviceError) -> any Device {
        guard let gpu else { return HostDevice() }
        // Room for the optimiser's states, which are at most two, and what alignment takes.
        let states = network.parameters.reduce(0) { $0 + $1.valueCount * 8 + 1024 }
        return try gpu.sibling(limitBytes: DeviceNetworkMemory.byteCount(of: network) + states)
    }

    /// "cuda:0, NVIDIA H200"; nil on the host.
    var description: String? { gpu.map { "\($0.name), \($0.properties.name)" } }
}
