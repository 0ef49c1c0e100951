import CGeePSShims
import GeePSDevice

/// Batch normalisation of channels, by cuDNN's plain algorithm.
///
/// Its "persistent" one is faster on some batches, but mishandles values that are not numbers. The workspace has the
/// batch's mean and, a line of memory further on, its inverse deviation. Where channels have no scale and bias of
/// their own, scratch has ones and zeros for them, since cuDNN wants some.
final class CUDABatchNormalisationLayer: Layer {
    let name: String
    let parameters: LayerParameters?
    let state: LayerState?
    let outputShape: Shape
    let outputLayout = Layout.channelsFirst
    let traits: LayerTraits
    private let compute: CUDACompute
    private let rule: BatchRule
    private let isTraining: Bool
    private let channels: Int
    /// Values of a channel each, rounded up to a line of memory.
    private let stride: Int
    private let values: CUDNNTensor
    private let perChannel: CUDNNTensor

    private static let mode = Int32(GEEPS_CUDNN_BATCH_NORM_SPATIAL)

    var reports: [KernelReport] {
        [
            KernelReport(
                layer: name, operation: "compute forward",
                implementation: "cudnn:batch_norm_spatial", isReference: false)
        ]
    }

    init(_ site: LayerSite, _ compute: CUDACompute, _ rule: BatchRule) throws(NNError) {
        try BatchRule.checkBatch(site)
        try checkNumber(
            site.batchSize <= Self.batchSizeMaximum, "the batch", "\(site.batchSize) samples",
            "at most \(Self.batchSizeMaximum) on a GPU", site.name)
        name = site.name
        outputShape = site.input
        self.compute = compute
        self.rule = rule
        isTraining = site.isTraining
        channels = site.input.channels
        stride = LayerState.aligned(site.input.channels)
        parameters = rule.parameters(site)
        state = rule.state(site)
        let call = CUDALibraryCall.cudnn("describe a batch normalisation", layer: site.name)
        values = try CUDNNTensor(site.batchSize, site.input, compute, call)
        perChannel = try CUDNNTensor(
            1, Shape(channels: site.input.channels), compute, call)
        let line = stride * MemoryLayout<Float>.stride
        let inputBytes = site.inputCount * MemoryLayout<Float>.stride
        traits = LayerTraits(
            backwardReads: rule.isAffine ? [.input, .parameters] : .input,
            workspaceBytes: site.isTraining ? 2 * line : 0,
            forwardScratchBytes: rule.isAffine ? 0 : 2 * line,
            // Gradients that nobody asked for need a place too.
            backwardScratchBytes: site.isTraining
                ? (rule.isAffine ? 0 : 3 * line) + (site.needsInputGradient ? 0 : inputBytes) : 0)
    }

    /// Above it cuDNN refuses (PyTorch has the number too, and takes kernels of its own there).
    private static let batchSizeMaximum = 65_535

    func forward(_ context: ForwardContext) throws(NNError) {
        let (scale, bias) = scaleAndBias(context.parameters, context.scratch)
        guard isTraining else { return infer(context, scale, bias) }
        let (mean, deviation) = saved(context.workspace)
        // Without state the statistics are not updated: the batch is in them already.
        let runningMean = context.state
        let runningVariance = runningMean.map { $0 + stride }
        compute.put(.cudnn("compute forward", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnBatchNormalizationForwardTraining(
                handle, Self.mode, &one, &zero, values.handle, context.input, values.handle,
                context.output, perChannel.handle, scale, bias, rule.momentum, runningMean,
                runningVariance, rule.epsilon, mean, deviation)
        }
    }

    private func infer(
        _ context: ForwardContext, _ scale: UnsafePointer<Float>, _ bias: UnsafePointer<Float>
    ) {
        guard let state = context.state else {
            preconditionFailure("layer \(name) needs its running statistics")
        }
        compute.put(.cudnn("compute forward", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnBatchNormalizationForwardInference(
                handle, Self.mode, &one, &zero, values.handle, context.input, values.handle,
                context.output, perChannel.handle, scale, bias, state, state + stride, rule.epsilon)
        }
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let input = context.input else {
            preconditionFailure("layer \(name) needs its input to compute backward")
        }
        let (mean, deviation) = saved(context.workspace)
        let places = gradients(context)
        compute.put(.cudnn("compute its gradients", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnBatchNormalizationBackward(
                handle, Self.mode, &one, &zero, &one, &zero, values.handle, input, values.handle,
                context.outputGradient, values.handle, places.input, perChannel.handle,
                places.scaleValues, places.scale, places.bias, rule.epsilon, mean, deviation)
        }
    }

    /// Of the batch, in the workspace.
    private func saved(
        _ workspace: UnsafeMutableRawPointer?
    ) -> (mean: UnsafeMutablePointer<Float>, deviation: UnsafeMutablePointer<Float>) {
        guard let mean = workspace?.assumingMemoryBound(to: Float.self) else {
            preconditionFailure("layer \(name) needs its workspace")
        }
        return (mean, mean + stride)
    }

    private func scaleAndBias(
        _ parameters: UnsafePointer<Float>?, _ scratch: UnsafeMutableRawPointer?
    ) -> (scale: UnsafePointer<Float>, bias: UnsafePointer<Float>) {
        if rule.isAffine {
            guard let parameters else {
                preconditionFailure("layer \(name) needs its parameters to compute forward")
            }
            return (parameters, parameters + channels)
        }
        let ones = self.ones(scratch)
        compute.stream.zero(ones + stride, byteCount: channels * 4, label: name)
        return (UnsafePointer(ones), UnsafePointer(ones + stride))
    }

    /// Ones at the beginning of scratch.
    private func ones(_ scratch: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<Float> {
        guard let ones = scratch?.assumingMemoryBound(to: Float.self) else {
            preconditionFailure("layer \(name) needs scratch")
        }
        compute.stream.fill(ones, with: 1, count: channels, label: name)
        return ones
    }

    /// Where gradients go, in scratch where nobody asked for them, and the scale.
    private func gradients(_ context: BackwardContext) -> (
        input: UnsafeMutablePointer<Float>?, scaleValues: UnsafePointer<Float>,
        scale: UnsafeMutablePointer<Float>, bias: UnsafeMutablePointer<Float>
    ) {
        let scratch = context.scratch?.assumingMemoryBound(to: Float.self)
        if rule.isAffine {
            guard let parameters = context.parameters, let gradients = context.parameterGradients
            else {
                preconditionFailure("layer \(name) needs its parameters to compute backward")
            }
            return (
                context.inputGradient ?? scratch, parameters, gradients, gradients + channels
            )
        }
        let ones = self.ones(context.scratch)
        return (
            context.inputGradient ?? ones + 3 * stride, UnsafePointer(ones), ones + stride,
            ones + 2 * stride
        )
    }
}
