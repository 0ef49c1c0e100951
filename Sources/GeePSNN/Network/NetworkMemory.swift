/// All local tensors of a network in plain memory: for evaluation, tests and networks that surely fit.
public final class NetworkMemory {
    private let network: Network
    private let base: UnsafeMutableRawPointer
    private let table: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    /// Bytes of all tensors, each rounded up to `LocalTensor.alignment`.
    public let byteCount: Int

    /// Zeroed memory for every tensor of `network`; states hold what training begins with.
    public init(_ network: Network) {
        self.network = network
        var offsets: [Int] = []
        var bytes = 0
        for tensor in network.tensors {
            offsets.append(bytes)
            let mask = LocalTensor.alignment - 1
            bytes += (tensor.byteCount + mask) & ~mask
        }
        byteCount = bytes
        base = .allocate(byteCount: max(1, bytes), alignment: LocalTensor.alignment)
        base.initializeMemory(as: UInt8.self, repeating: 0, count: max(1, bytes))
        table = .allocate(capacity: network.tensors.count)
        for (index, offset) in offsets.enumerated() {
            (table + index).initialize(to: base + offset)
        }
        write(NetworkStates(startOf: network))
    }

    deinit {
        base.deallocate()
        table.deallocate()
    }

    /// Where each tensor is, for `StepMemory`; valid while this object lives.
    public var tensors: UnsafePointer<UnsafeMutableRawPointer?> { UnsafePointer(table) }

    /// The values of tensor `index` as float32; valid while this object lives.
    public func floats(_ index: Int) -> UnsafeMutableBufferPointer<Float> {
        let bytes = network.tensors[index].byteCount
        return UnsafeMutableRawBufferPointer(start: table[index], count: bytes)
            .assumingMemoryBound(to: Float.self)
    }

    /// Puts the values of `states` there.
    public func write(_ states: NetworkStates) {
        for (values, tensor) in zip(states.values, network.stateTensors) {
            _ = floats(tensor).update(fromContentsOf: values)
        }
    }

    /// The values of `Network.states`.
    public var stateValues: [[Float]] { network.stateTensors.map { Array(floats($0)) } }

    /// The batch, `[B, C, H, W]`, to be written before an iteration.
    public var input: UnsafeMutableBufferPointer<Float> { floats(network.inputTensor) }

    /// The batch's labels, `[B]`, to be written before an iteration.
    public var labels: UnsafeMutableBufferPointer<Int32> {
        UnsafeMutableRawBufferPointer(
            start: table[network.labelsTensor], count: network.batchSize * 4
        ).assumingMemoryBound(to: Int32.self)
    }

    /// The last iteration's logits, `[B, classCount]`.
    public var logits: UnsafeMutableBufferPointer<Float> { floats(network.logitsTensor) }

    /// Runs a whole iteration on parameters and gradients that lie in plain memory.
    ///
    /// - Parameters:
    ///   - parameters: one pointer a layer of `Network.parameters`.
    ///   - gradients: the same, overwritten; empty for a network for inference.
    public func runIteration(
        parameters: [UnsafeMutablePointer<Float>], gradients: [UnsafeMutablePointer<Float>] = [],
        noise: NoiseKey = NoiseKey(seed: 0)
    ) throws(NNError) -> BatchResult {
        var result: BatchResult?
        for step in network.steps {
            var memory = StepMemory(tensors: tensors, noise: noise)
            memory.parameters = step.parametersRead.map { UnsafePointer(parameters[$0]) }
            memory.parameterGradients = step.parametersUpdated.map { gradients[$0] }
            if let answer = try network.run(step, memory) { result = answer }
        }
        guard let result else { preconditionFailure("an iteration has a loss step") }
        return result
    }
}
