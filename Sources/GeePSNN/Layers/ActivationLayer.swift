import CDNNL

/// A function of each value whose derivative is a function of its result: relu, tanh or sigmoid.
///
/// The backward pass needs the output only, and both passes may work in place.
final class ActivationLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout: Layout
    private(set) var traits = LayerTraits(
        backwardReads: .output, isForwardInPlace: true, isBackwardInPlace: true)
    private let function: ActivationFunction
    private let kernel: DNNKernel?
    private let count: Int

    var reports: [KernelReport] { [kernel].compactMap { $0?.report } }

    /// `function` of every value of the input of `site`.
    init(_ site: LayerSite, _ function: ActivationFunction) throws(NNError) {
        name = site.name
        outputShape = site.input
        outputLayout = site.layout
        self.function = function
        count = site.inputCount
        switch function {
        case .relu: kernel = nil
        case .tanh: kernel = try Self.makeKernel(site, dnnl_eltwise_tanh)
        case .sigmoid: kernel = try Self.makeKernel(site, dnnl_eltwise_logistic)
        }
        traits.forwardScratchBytes = kernel?.scratchBytes ?? 0
    }

    private static func makeKernel(
        _ site: LayerSite, _ algorithm: dnnl_alg_kind_t
    ) throws(NNError) -> DNNKernel {
        let call = site.call("compute forward")
        var values = try DNNDescriptor.tensor([site.inputCount], dnnl_a, call)
        var operation = dnnl_eltwise_desc_t()
        try call.check(
            dnnl_eltwise_forward_desc_init(
                &operation, dnnl_forward_inference, algorithm, &values, 0, 0))
        return try DNNKernel(
            try DNNPrimitiveDescriptor.make(operation, engine: site.engine, call),
            [
                .input(DNNL_ARG_SRC_0, dnnl_query_src_md, values),
                .output(DNNL_ARG_DST_0, dnnl_query_dst_md, values),
            ], engine: site.engine, call)
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        if let kernel {
            try kernel.run(context.input, context.output, scratch: context.scratch)
        } else {
            relu(context.input, context.output, count)
        }
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let inputGradient = context.inputGradient, let output = context.output else { return }
        let gradient = context.outputGradient
        switch function {
        case .relu: reluBackward(output, gradient, inputGradient, count)
        case .tanh: tanhBackward(output, gradient, inputGradient, count)
        case .sigmoid: sigmoidBackward(output, gradient, inputGradient, count)
        }
    }
}

// Plain loops that the compiler vectorises. Comparisons are written so that a NaN stays one, as in PyTorch.

private func relu(_ x: UnsafePointer<Float>, _ y: UnsafeMutablePointer<Float>, _ count: Int) {
    for i in 0..<count { y[i] = x[i] < 0 ? 0 : x[i] }
}

private func reluBackward(
    _ y: UnsafePointer<Float>, _ dy: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>,
    _ count: Int
) {
    for i in 0..<count {
        // Read whatever comes of it: a conditional read keeps the loop from being vectorised (10x).
        let gradient = dy[i]
        dx[i] = y[i] <= 0 ? 0 : gradient
    }
}

private func tanhBackward(
    _ y: UnsafePointer<Float>, _ dy: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>,
    _ count: Int
) {
    for i in 0..<count { dx[i] = dy[i] * (1 - y[i] * y[i]) }
}

private func sigmoidBackward(
    _ y: UnsafePointer<Float>, _ dy: UnsafePointer<Float>, _ dx: UnsafeMutablePointer<Float>,
    _ count: Int
) {
    for i in 0..<count { dx[i] = dy[i] * (1 - y[i]) * y[i] }
}
