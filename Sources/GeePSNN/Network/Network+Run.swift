/// What a caller lends to one step.
public struct StepMemory {
    /// One entry a tensor of `Network.tensors`; those of the step's accesses are not nil, and aligned to
    /// `LocalTensor.alignment`.
    public var tensors: UnsafePointer<UnsafeMutableRawPointer?>
    /// Values of `NetworkStep.parametersRead`, in the order of `LayerParameters`.
    public var parameters: UnsafePointer<Float>?
    /// Room for the gradient of `NetworkStep.parametersUpdated`, overwritten.
    public var parameterGradients: UnsafeMutablePointer<Float>?
    /// What dropout draws from.
    public var noise: NoiseKey

    /// Memory for a step.
    public init(
        tensors: UnsafePointer<UnsafeMutableRawPointer?>, parameters: UnsafePointer<Float>? = nil,
        parameterGradients: UnsafeMutablePointer<Float>? = nil, noise: NoiseKey = NoiseKey(seed: 0)
    ) {
        self.tensors = tensors
        self.parameters = parameters
        self.parameterGradients = parameterGradients
        self.noise = noise
    }
}

extension Network {
    /// Runs one step of the iteration.
    ///
    /// Where the network's target is a stream, all memory is that device's and the step is only put on the
    /// stream; what fails there is thrown by who waits for it.
    ///
    /// - Returns: the batch's result from `.loss` on the host; nil else.
    /// - Throws: `.kernel` when oneDNN fails; `.data` when a label is not below `classCount`.
    @discardableResult public func run(
        _ step: NetworkStep, _ memory: StepMemory
    ) throws(NNError) -> BatchResult? {
        switch step.kind {
        case .load: break
        case .forward(let layer): try forward(placements[layer], memory, isFirst: true)
        case .recompute(let layer): try forward(placements[layer], memory, isFirst: false)
        case .backward(let layer): try backward(placements[layer], memory)
        case .loss: return try loss(memory)
        }
        return nil
    }

    /// - Parameter isFirst: what the batch changes in the layer's state it changes now.
    private func forward(
        _ placement: LayerPlacement, _ memory: StepMemory, isFirst: Bool
    ) throws(NNError) {
        let scratchBytes = placement.layer.traits.forwardScratchBytes
        try placement.layer.forward(
            ForwardContext(
                parameters: memory.parameters,
                input: UnsafePointer(floats(placement.input, memory)),
                output: floats(placement.output, memory),
                workspace: placement.workspace.map { raw($0, memory) },
                state: isFirst ? placement.state.map { floats($0, memory) } : nil,
                scratch: scratchBytes > 0 ? scratchTensor.map { raw($0, memory) } : nil,
                noise: memory.noise.stream(layer: placement.noiseStream)))
    }

    private func backward(
        _ placement: LayerPlacement, _ memory: StepMemory
    ) throws(NNError) {
        let traits = placement.layer.traits
        guard let outputGradient = placement.outputGradient else { return }
        precondition(
            placement.parameterIndex == nil || memory.parameterGradients != nil,
            "layer \(placement.layer.name) needs room for its parameters' gradient")
        precondition(
            !traits.backwardReads.contains(.parameters) || memory.parameters != nil,
            "layer \(placement.layer.name) needs its parameters to compute backward")
        try placement.layer.backward(
            BackwardContext(
                parameters: memory.parameters, parameterGradients: memory.parameterGradients,
                input: traits.backwardReads.contains(.input)
                    ? UnsafePointer(floats(placement.input, memory)) : nil,
                output: traits.backwardReads.contains(.output)
                    ? UnsafePointer(floats(placement.output, memory)) : nil,
                outputGradient: UnsafePointer(floats(outputGradient, memory)),
                inputGradient: placement.inputGradient.map { floats($0, memory) },
                workspace: placement.workspace.map { raw($0, memory) },
                scratch: traits.backwardScratchBytes > 0
                    ? scratchTensor.map { raw($0, memory) } : nil,
                noise: memory.noise.stream(layer: placement.noiseStream)))
    }

    private func loss(_ memory: StepMemory) throws(NNError) -> BatchResult? {
        if let lossOnStream, let resultsTensor {
            lossOnStream.run(
                logits: UnsafePointer(floats(logitsTensor, memory)),
                labels: UnsafePointer(
                    raw(labelsTensor, memory).assumingMemoryBound(to: Int32.self)),
                gradient: logitsGradientTensor.map { floats($0, memory) },
                logProbabilities: floats(
                    logitsGradientTensor ?? scratchTensor ?? logitsTensor, memory),
                results: raw(resultsTensor, memory))
            return nil
        }
        return try SoftmaxCrossEntropy.run(
            logits: UnsafePointer(floats(logitsTensor, memory)),
            labels: UnsafePointer(
                raw(labelsTensor, memory).assumingMemoryBound(to: Int32.self)),
            batchSize: batchSize, classes: classCount,
            gradient: logitsGradientTensor.map { floats($0, memory) })
    }

    private func raw(_ tensor: Int, _ memory: StepMemory) -> UnsafeMutableRawPointer {
        guard let pointer = memory.tensors[tensor] else {
            preconditionFailure(
                "tensor \(tensors[tensor].name) was not lent to a step that uses it")
        }
        return pointer
    }

    private func floats(_ tensor: Int, _ memory: StepMemory) -> UnsafeMutablePointer<Float> {
        raw(tensor, memory).assumingMemoryBound(to: Float.self)
    }
}
