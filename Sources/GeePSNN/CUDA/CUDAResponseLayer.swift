import CGeePSShims
import GeePSDevice

/// Local response normalisation across the channels.
final class CUDAResponseLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout = Layout.channelsFirst
    // cuDNN's backward pass takes both.
    let traits = LayerTraits(backwardReads: [.input, .output])
    private let compute: CUDACompute
    private let response: CUDNNResponse
    private let values: CUDNNTensor

    var reports: [KernelReport] {
        [
            KernelReport(
                layer: name, operation: "compute forward", implementation: "cudnn:lrn",
                isReference: false)
        ]
    }

    init(_ site: LayerSite, _ compute: CUDACompute, _ rule: ResponseRule) throws(NNError) {
        try Self.check(rule, layer: site.name)
        name = site.name
        outputShape = site.input
        self.compute = compute
        let call = CUDALibraryCall.cudnn("describe a response normalisation", layer: site.name)
        response = try CUDNNResponse(rule, compute, call)
        values = try CUDNNTensor(site.batchSize, site.input, compute, call)
    }

    /// What cuDNN's header allows: `CUDNN_LRN_MIN_N`, `MAX_N`, `MIN_K`, `MIN_BETA`.
    ///
    /// Of an even size it takes one more channel after a value than before, PyTorch the other way round.
    private static func check(_ rule: ResponseRule, layer: String) throws(NNError) {
        try checkNumber(
            rule.size % 2 == 1 && rule.size <= 16, "size", "\(rule.size)",
            "an odd number from 1 to 15 on a GPU", layer)
        try checkNumber(
            rule.beta >= 0.01, "beta", "\(rule.beta)", "at least 0.01 on a GPU", layer)
        try checkNumber(rule.k >= 1e-5, "k", "\(rule.k)", "at least 0.00001 on a GPU", layer)
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        compute.put(.cudnn("compute forward", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnLRNCrossChannelForward(
                handle, response.handle, Int32(GEEPS_CUDNN_LRN_CROSS_CHANNEL), &one, values.handle,
                context.input, &zero, values.handle, context.output)
        }
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let inputGradient = context.inputGradient, let input = context.input,
            let output = context.output
        else { return }
        compute.put(.cudnn("compute the gradient of its input", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnLRNCrossChannelBackward(
                handle, response.handle, Int32(GEEPS_CUDNN_LRN_CROSS_CHANNEL), &one, values.handle,
                output, values.handle, context.outputGradient, values.handle, input, &zero,
                values.handle, inputGradient)
        }
    }
}
