import Glibc

@testable import GeePSNN

/// Reference values made by Benchmarks/oracles/make_layer_references.py, which says the format.
struct Fixture: Sendable {
    struct Tensor: Sendable {
        var shape: [Int]
        var values: [Float]
    }

    private let tensors: [String: Tensor]

    static let layers = Fixture(file: "layers.ref")

    init(file: String) {
        let folder = "\(#filePath)".split(separator: "/").dropLast().joined(separator: "/")
        let handle = fopen("/\(folder)/Fixtures/\(file)", "rb")!
        defer { fclose(handle) }
        func word() -> Int? {
            var value: UInt32 = 0
            return fread(&value, 4, 1, handle) == 1 ? Int(UInt32(littleEndian: value)) : nil
        }
        var tensors: [String: Tensor] = [:]
        while let length = word() {
            var name = [UInt8](repeating: 0, count: length)
            fread(&name, 1, length, handle)
            let shape = (0..<word()!).map { _ in word()! }
            var values = [Float](repeating: 0, count: shape.reduce(1, *))
            precondition(fread(&values, 4, values.count, handle) == values.count)
            tensors[String(decoding: name, as: UTF8.self)] = Tensor(shape: shape, values: values)
        }
        self.tensors = tensors
    }

    subscript(name: String) -> Tensor { tensors[name]! }
}

/// Largest difference, relative to the largest expected magnitude.
func relativeError(_ found: some Collection<Float>, _ expected: [Float]) -> Double {
    guard found.count == expected.count else { return .infinity }
    var largest = 0.0
    var scale = 1e-12
    for (a, b) in zip(found, expected) {
        let difference = abs(Double(a) - Double(b))
        if !(difference <= largest) { largest = difference.isNaN ? .infinity : difference }
        scale = max(scale, abs(Double(b)))
    }
    return largest / scale
}

/// A network with its memory, parameters and gradients, run step by step.
///
/// Everything is in plain memory; a network on a GPU has a copy there while it runs.
final class Bench {
    let network: Network
    let memory: NetworkMemory
    var parameters: [UnsafeMutablePointer<Float>] = []
    var gradients: [UnsafeMutablePointer<Float>] = []
    var noise = NoiseKey(seed: 3)
    private let mirror: DeviceMirror?

    init(
        _ layers: [LayerConfiguration], input: Shape, batchSize: Int,
        purpose: Network.Purpose = .training, on target: ComputeTarget = .host,
        wantsInputGradient: Bool = true
    ) throws {
        // Tests run side by side; a pool of compute threads for each would only get in the others' way.
        ComputeThreads.set(1)
        network = try Network(
            ModelConfiguration(layers: layers), input: input, batchSize: batchSize,
            purpose: purpose, on: target, wantsInputGradient: wantsInputGradient)
        memory = NetworkMemory(network)
        if case .cuda(let compute) = target {
            mirror = try DeviceMirror(network, compute)
        } else {
            mirror = nil
        }
        for layer in network.parameters {
            // A margin that must stay as it is: nothing writes beyond a layer's values.
            let count = layer.valueCount + Self.margin
            parameters.append(.allocate(capacity: count))
            gradients.append(.allocate(capacity: count))
            parameters.last!.initialize(repeating: -77, count: count)
            gradients.last!.initialize(repeating: -77, count: count)
            Initializer.fill(parameters.last!, for: layer, seed: 11)
        }
    }

    static let margin = 37

    deinit {
        parameters.forEach { $0.deallocate() }
        gradients.forEach { $0.deallocate() }
    }

    convenience init(
        _ kind: LayerKind, input: Shape, batchSize: Int, purpose: Network.Purpose = .training,
        on target: ComputeTarget = .host
    ) throws {
        try self.init(
            [LayerConfiguration(name: "layer", kind: kind)], input: input, batchSize: batchSize,
            purpose: purpose, on: target)
    }

    /// Runs the steps whose kind `select` takes; returns the loss step's result.
    @discardableResult func run(
        where select: (NetworkStep.Kind) -> Bool = { _ in true }
    ) throws(NNError) -> BatchResult? {
        try run(network.steps.filter { select($0.kind) })
    }

    /// Runs `steps`; returns the loss step's result.
    @discardableResult func run(_ steps: [NetworkStep]) throws(NNError) -> BatchResult? {
        if let mirror { return try mirror.run(steps, of: self) }
        var result: BatchResult?
        for step in steps {
            var memory = StepMemory(tensors: memory.tensors, noise: noise)
            memory.parameters = step.parametersRead.map { UnsafePointer(parameters[$0]) }
            memory.parameterGradients = step.parametersUpdated.map { gradients[$0] }
            if let answer = try network.run(step, memory) { result = answer }
        }
        return result
    }

    func forward() throws(NNError) {
        try run { if case .forward = $0 { true } else { false } }
    }

    func backward() throws(NNError) {
        try run { if case .backward = $0 { true } else { false } }
    }

    func fill(_ values: [Float]) { _ = memory.input.update(fromContentsOf: values) }

    var logitsGradient: UnsafeMutableBufferPointer<Float> {
        memory.floats(network.logitsGradientTensor!)
    }

    var inputGradient: [Float] { Array(memory.floats(network.inputGradientTensor!)) }

    func values(_ tensor: ParameterTensor, of layer: Int) -> UnsafeMutableBufferPointer<Float> {
        UnsafeMutableBufferPointer(start: parameters[layer] + tensor.offset, count: tensor.count)
    }

    func gradient(_ tensor: ParameterTensor, of layer: Int) -> [Float] {
        Array(UnsafeBufferPointer(start: gradients[layer] + tensor.offset, count: tensor.count))
    }
}

/// Values of a seeded stream, uniform in -1 ..< 1.
func randomValues(_ count: Int, seed: UInt64) -> [Float] {
    var random = SplitMix64(key: seed)
    return (0..<count).map { _ in 2 * random.unit() - 1 }
}
