import CUDAEmulator
import GeePSCore
import GeePSDevice
import Testing

@testable import GeePSNN

/// What a test's layers compute on.
enum Bed: CaseIterable, Sendable {
    case host
    /// The emulated driver, cuBLAS and cuDNN, which must have nothing to find.
    case cuda

    func run(_ body: (ComputeTarget) throws -> Void) throws {
        switch self {
        case .host: try body(.host)
        case .cuda:
            let findings = try Bed.findings { _, compute in try body(.cuda(compute)) }
            #expect(findings == [])
        }
    }

    /// Runs `body` with layers on an emulated GPU; what the emulator finds.
    static func findings(
        jitter: Jitter? = nil, precision: ComputePrecision = .float32,
        workspaceLimitBytes: Int = CUDACompute.workspaceLimitBytesDefault,
        _ body: (CUDAEmulator, CUDACompute) throws -> Void
    ) throws -> [String] {
        try CUDAEmulator.findings(.init(jitter: jitter)) { emulator in
            try withCompute(
                emulator, precision: precision, workspaceLimitBytes: workspaceLimitBytes
            ) { try body(emulator, $0) }
        }
    }

    /// Runs `body` with what computes layers on a stream of an emulated GPU.
    static func withCompute(
        _ emulator: CUDAEmulator, precision: ComputePrecision = .float32,
        workspaceLimitBytes: Int = CUDACompute.workspaceLimitBytesDefault,
        _ body: (CUDACompute) throws -> Void
    ) throws {
        let device = try emulator.makeDevice(limitBytes: 8 << 20)
        let stream = try device.makeCUDAStream(name: "compute")
        try body(
            CUDACompute(
                stream: stream, cublas: emulator.cublas, cudnn: emulator.cudnn,
                precision: precision, workspaceLimitBytes: workspaceLimitBytes))
    }
}

/// A copy in device memory of what a bench has in plain memory.
final class DeviceMirror {
    private let network: Network
    private let stream: CUDAStream
    let tensors: [SharedBuffer]
    private let parameters: [SharedBuffer]
    private let gradients: [SharedBuffer]
    private let table: UnsafeMutablePointer<UnsafeMutableRawPointer?>

    init(_ network: Network, _ compute: CUDACompute) throws {
        self.network = network
        stream = compute.stream
        let device = stream.device
        let allocate = { (bytes: Int) in
            SharedBuffer(try device.allocate(byteCount: max(1, bytes), for: .localData))
        }
        tensors = try network.tensors.map { try allocate($0.byteCount) }
        parameters = try network.parameters.map { try allocate(($0.valueCount + Bench.margin) * 4) }
        gradients = try network.parameters.map { try allocate(($0.valueCount + Bench.margin) * 4) }
        table = .allocate(capacity: tensors.count)
        for (index, tensor) in tensors.enumerated() {
            (table + index).initialize(to: tensor.address)
        }
    }

    deinit { table.deallocate() }

    /// Takes everything to the device, runs `steps` there, and takes everything back.
    func run(_ steps: [NetworkStep], of bench: Bench) throws(NNError) -> BatchResult? {
        copyAll(of: bench, .hostToDevice)
        for step in steps { try put(step, noise: bench.noise) }
        copyAll(of: bench, .deviceToHost)
        do {
            try stream.synchronise(deadline: .after(.seconds(60)))
        } catch {
            throw NNError(.kernel, error.message)
        }
        guard steps.contains(where: { $0.kind == .loss }), let results = network.resultsTensor,
            let values = bench.memory.tensors[results]
        else { return nil }
        return try network.batchResult(values)
    }

    /// Puts a step on the stream.
    func put(_ step: NetworkStep, noise: NoiseKey) throws(NNError) {
        var memory = StepMemory(tensors: UnsafePointer(table), noise: noise)
        memory.parameters = step.parametersRead.map { UnsafePointer(parameters[$0].floats) }
        memory.parameterGradients = step.parametersUpdated.map { gradients[$0].floats }
        try network.run(step, memory)
    }

    private func copyAll(of bench: Bench, _ direction: CopyDirection) {
        for (index, tensor) in network.tensors.enumerated() {
            copy(bench.memory.tensors[index], tensors[index], tensor.byteCount, direction)
        }
        for (index, layer) in network.parameters.enumerated() {
            let bytes = (layer.valueCount + Bench.margin) * 4
            copy(bench.parameters[index], parameters[index], bytes, direction)
            copy(bench.gradients[index], gradients[index], bytes, direction)
        }
    }

    private func copy(
        _ plain: UnsafeMutableRawPointer?, _ device: SharedBuffer, _ byteCount: Int,
        _ direction: CopyDirection
    ) {
        guard let plain else { return }
        let (source, target) =
            direction == .hostToDevice ? (plain, device.address) : (device.address, plain)
        stream.copy(
            from: source, to: target, byteCount: byteCount, direction: direction, label: "mirror")
    }
}
