import CGeePSKernels

/// How channels are normalised.
struct BatchRule: Hashable, Sendable {
    var epsilon: Double
    var momentum: Double
    var isAffine: Bool

    /// - Throws: `.model` where a number is out of range.
    func check(layer: String) throws(NNError) {
        try checkNumber(
            epsilon > 0 && epsilon.isFinite, "eps", "\(epsilon)", "a number above 0", layer)
        try checkNumber(
            momentum >= 0 && momentum <= 1, "momentum", "\(momentum)", "a number from 0 to 1",
            layer)
    }

    /// The scale and the bias; nil without.
    func parameters(_ site: LayerSite) -> LayerParameters? {
        guard isAffine else { return nil }
        return LayerParameters(
            name: site.name, position: site.parameterPosition,
            tensors: [
                ("weight", [site.input.channels], .constant(1)),
                ("bias", [site.input.channels], .constant(0)),
            ])
    }

    /// The running statistics.
    func state(_ site: LayerSite) -> LayerState {
        LayerState(
            name: site.name,
            tensors: [
                ("running_mean", [site.input.channels], 0),
                ("running_var", [site.input.channels], 1),
            ])
    }

    /// - Throws: `.model` where a batch of training has no variance.
    static func checkBatch(_ site: LayerSite) throws(NNError) {
        guard !site.isTraining || site.valuesPerChannel > 1 else {
            throw NNError(
                .model,
                "layer \(site.name): a batch has \(site.valuesPerChannel) value of each channel, expected at "
                    + "least 2: one value has no variance to normalise by. A larger batch would do")
        }
    }
}

/// Batch normalisation of channels that lie side by side.
///
/// Training takes the statistics of its batch, inference the running ones. The backward pass looks at the input
/// again; mean and inverse deviation of the batch are in the workspace, the mean first.
final class BatchNormalisationLayer: Layer {
    let name: String
    let parameters: LayerParameters?
    let state: LayerState?
    let outputShape: Shape
    let outputLayout: Layout
    let traits: LayerTraits
    let reports: [KernelReport] = []
    private let kernels = geeps_kernels_best().pointee
    private let rule: BatchRule
    private let isTraining: Bool
    private let rows: Int
    private let channels: Int
    private let varianceOffset: Int

    /// For the input of `site`, whose channels lie side by side.
    init(_ site: LayerSite, _ rule: BatchRule) throws(NNError) {
        try BatchRule.checkBatch(site)
        name = site.name
        outputShape = site.input
        outputLayout = site.layout
        self.rule = rule
        isTraining = site.isTraining
        rows = site.valuesPerChannel
        channels = site.input.channels
        parameters = rule.parameters(site)
        let state = rule.state(site)
        self.state = state
        varianceOffset = state.tensors[1].offset
        let scratchBytes = Scratch.byteCount(channels: site.input.channels)
        traits = LayerTraits(
            backwardReads: site.needsInputGradient && rule.isAffine
                ? [.input, .parameters] : .input,
            isForwardInPlace: !site.isTraining, isBackwardInPlace: true,
            workspaceBytes: site.isTraining
                ? 2 * site.input.channels * MemoryLayout<Float>.stride : 0,
            forwardScratchBytes: scratchBytes,
            backwardScratchBytes: site.isTraining ? scratchBytes : 0)
    }

    /// Room for two doubles and four floats a channel.
    private struct Scratch {
        let sums: UnsafeMutablePointer<Double>
        let products: UnsafeMutablePointer<Double>
        let first: UnsafeMutablePointer<Float>
        let second: UnsafeMutablePointer<Float>
        /// Twice as long.
        let work: UnsafeMutablePointer<Float>

        static func byteCount(channels: Int) -> Int { channels * (2 * 8 + 4 * 4) }

        init(_ address: UnsafeMutableRawPointer?, channels: Int, layer: String) {
            guard let address else { preconditionFailure("layer \(layer) needs scratch") }
            sums = address.assumingMemoryBound(to: Double.self)
            products = sums + channels
            first = (address + 2 * channels * 8).assumingMemoryBound(to: Float.self)
            second = first + channels
            work = second + channels
        }
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        let scratch = Scratch(context.scratch, channels: channels, layer: name)
        let mean: UnsafePointer<Float>
        if isTraining {
            guard let saved = context.workspace?.assumingMemoryBound(to: Float.self) else {
                preconditionFailure("layer \(name) needs its workspace to compute forward")
            }
            measure(context.input, into: saved, scratch)
            if let state = context.state { update(state, scratch) }
            mean = UnsafePointer(saved)
            for channel in 0..<channels { scratch.first[channel] = saved[channels + channel] }
        } else {
            guard let state = context.state else {
                preconditionFailure("layer \(name) needs its running statistics")
            }
            mean = UnsafePointer(state)
            for channel in 0..<channels {
                let variance = Double(state[varianceOffset + channel])
                scratch.first[channel] = Float(1 / (variance + rule.epsilon).squareRoot())
            }
        }
        precondition(
            context.parameters != nil || !rule.isAffine,
            "layer \(name) needs its parameters to compute forward")
        for channel in 0..<channels {
            scratch.second[channel] = 0
            guard let values = context.parameters else { continue }
            scratch.first[channel] *= values[channel]
            scratch.second[channel] = values[channels + channel]
        }
        kernels.channel_normalise(
            context.output, context.input, Int64(rows), Int64(channels), mean, scratch.first,
            scratch.second)
    }

    /// Leaves means and sums of squares in scratch, means and inverse deviations in `saved`.
    private func measure(
        _ input: UnsafePointer<Float>, into saved: UnsafeMutablePointer<Float>, _ scratch: Scratch
    ) {
        kernels.channel_moments(
            input, Int64(rows), Int64(channels), scratch.sums, scratch.products, scratch.work)
        for channel in 0..<channels {
            let variance = scratch.products[channel] / Double(rows)
            saved[channel] = Float(scratch.sums[channel])
            saved[channels + channel] = Float(1 / (variance + rule.epsilon).squareRoot())
        }
    }

    /// Moves the running statistics towards those of the batch; the variance without bias, as PyTorch's.
    private func update(_ state: UnsafeMutablePointer<Float>, _ scratch: Scratch) {
        let variances = state + varianceOffset
        for channel in 0..<channels {
            let variance = scratch.products[channel] / Double(rows - 1)
            state[channel] = moved(state[channel], to: scratch.sums[channel])
            variances[channel] = moved(variances[channel], to: variance)
        }
    }

    private func moved(_ running: Float, to value: Double) -> Float {
        Float((1 - rule.momentum) * Double(running) + rule.momentum * value)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let input = context.input,
            let saved = context.workspace?.assumingMemoryBound(to: Float.self)
        else { preconditionFailure("layer \(name) needs input and workspace to compute backward") }
        let scratch = Scratch(context.scratch, channels: channels, layer: name)
        let mean = UnsafePointer(saved)
        let deviation = mean + channels
        kernels.channel_gradient_sums(
            input, context.outputGradient, Int64(rows), Int64(channels), mean, scratch.sums,
            scratch.products, scratch.work)
        if let gradients = context.parameterGradients {
            for channel in 0..<channels {
                gradients[channel] = Float(scratch.products[channel] * Double(deviation[channel]))
                gradients[channels + channel] = Float(scratch.sums[channel])
            }
        }
        guard let inputGradient = context.inputGradient else { return }
        // What a step of all values of a channel, and one along them, would do to mean and deviation.
        let shift = scratch.second
        let slope = scratch.work
        for channel in 0..<channels {
            let inverse = Double(deviation[channel])
            shift[channel] = Float(scratch.sums[channel] / Double(rows))
            slope[channel] = Float(
                scratch.products[channel] * inverse * inverse / Double(rows))
            scratch.first[channel] =
                deviation[channel] * (context.parameters.map { $0[channel] } ?? 1)
        }
        kernels.channel_normalise_backward(
            inputGradient, input, context.outputGradient, Int64(rows), Int64(channels), mean,
            scratch.first, shift, slope)
    }
}
