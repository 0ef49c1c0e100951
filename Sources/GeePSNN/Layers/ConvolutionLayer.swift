import CDNNL

/// Convolution with a square kernel and a bias; weights are OIHW where the job keeps them.
///
/// Activations are channels-last; oneDNN chooses the order of the weights for each pass, and a copy in
/// scratch brings them there. Where that would run the reference implementation, activations are copied too.
final class ConvolutionLayer: Layer {
    /// What order of activations a pass computes in.
    enum Order {
        /// The order they come in.
        case channelsLast
        /// What oneDNN likes best, blocks of channels mostly; activations are copied there and back.
        case library

        var tag: dnnl_format_tag_t { self == .channelsLast ? dnnl_nhwc : dnnl_format_tag_any }
    }

    let name: String
    let parameters: LayerParameters?
    let outputShape: Shape
    let outputLayout = Layout.channelsLast
    private(set) var traits: LayerTraits
    private let forwardKernel: DNNKernel
    private let dataKernel: DNNKernel?
    private let weightsKernel: DNNKernel?
    private let weightCount: Int

    var reports: [KernelReport] {
        [forwardKernel, dataKernel, weightsKernel].compactMap { $0?.report }
    }

    /// A convolution to `out` channels.
    ///
    /// - Parameter orders: orders of activations to compute in, the first one without a reference
    ///   implementation is taken; the first of all if there is none.
    init(
        _ site: LayerSite, out: Int, window: Window,
        orders: [Order] = [.channelsLast, .library]
    ) throws(NNError) {
        name = site.name
        let positions = try window.positions(over: site.input, layer: site.name)
        outputShape = Shape(channels: out, height: positions.height, width: positions.width)
        let parameters = LayerParameters(
            name: name, position: site.parameterPosition,
            weight: [out, site.input.channels, window.kernel, window.kernel], outputCount: out)
        self.parameters = parameters
        weightCount = parameters.weightCount
        var candidates: [ConvolutionKernels] = []
        for order in orders {
            let candidate = try ConvolutionKernels(site, outputShape, window, order: order)
            candidates.append(candidate)
            if !candidate.isReference { break }
        }
        let chosen = candidates.first { !$0.isReference } ?? candidates[0]
        forwardKernel = chosen.forward
        dataKernel = chosen.data
        weightsKernel = chosen.weights
        traits = LayerTraits(
            backwardReads: site.needsInputGradient ? [.input, .parameters] : .input,
            forwardScratchBytes: chosen.forward.scratchBytes,
            backwardScratchBytes: max(
                chosen.data?.scratchBytes ?? 0, chosen.weights?.scratchBytes ?? 0))
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        guard let values = context.parameters else {
            preconditionFailure("layer \(name) needs its parameters to compute forward")
        }
        try forwardKernel.run(
            context.input, values, values + weightCount, context.output, scratch: context.scratch)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        if let kernel = weightsKernel, let gradients = context.parameterGradients,
            let input = context.input
        {
            try kernel.run(
                input, context.outputGradient, gradients, gradients + weightCount,
                scratch: context.scratch)
        }
        if let kernel = dataKernel, let inputGradient = context.inputGradient,
            let values = context.parameters
        {
            try kernel.run(
                context.outputGradient, values, inputGradient, scratch: context.scratch)
        }
    }
}

/// The three passes of a convolution, computing in one order of activations.
private struct ConvolutionKernels {
    let forward: DNNKernel
    var data: DNNKernel?
    var weights: DNNKernel?

    var isReference: Bool {
        forward.isReference || data?.isReference == true || weights?.isReference == true
    }

    init(
        _ site: LayerSite, _ output: Shape, _ window: Window, order: ConvolutionLayer.Order
    ) throws(NNError) {
        let call = site.call("compute forward")
        let sourceShape = [
            site.batchSize, site.input.channels, site.input.height, site.input.width,
        ]
        let targetShape = [site.batchSize, output.channels, output.height, output.width]
        let weightShape = [output.channels, site.input.channels, window.kernel, window.kernel]
        // What the caller has, and what the primitive may choose from.
        let source = try DNNDescriptor.tensor(sourceShape, dnnl_nhwc, call)
        let target = try DNNDescriptor.tensor(targetShape, dnnl_nhwc, call)
        let weights = try DNNDescriptor.tensor(weightShape, dnnl_oihw, call)
        var bias = try DNNDescriptor.tensor([output.channels], dnnl_a, call)
        var innerSource = try DNNDescriptor.tensor(sourceShape, order.tag, call)
        var innerTarget = try DNNDescriptor.tensor(targetShape, order.tag, call)
        var innerWeights = try DNNDescriptor.tensor(weightShape, dnnl_format_tag_any, call)

        var operation = dnnl_convolution_desc_t()
        try call.check(
            dnnl_convolution_forward_desc_init(
                &operation, site.isTraining ? dnnl_forward_training : dnnl_forward_inference,
                dnnl_convolution_direct, &innerSource, &innerWeights, &bias, &innerTarget,
                window.strides, window.paddings, window.paddings))
        let hint = try DNNPrimitiveDescriptor.make(operation, engine: site.engine, call)
        forward = try DNNKernel(
            hint,
            [
                .input(DNNL_ARG_SRC_0, dnnl_query_src_md, source),
                .input(DNNL_ARG_WEIGHTS_0, dnnl_query_weights_md, weights),
                .input(DNNL_ARG_BIAS, dnnl_query_exec_arg_md, bias),
                .output(DNNL_ARG_DST_0, dnnl_query_dst_md, target),
            ], engine: site.engine, call)
        guard site.isTraining else { return }

        let weightsCall = site.call("compute the gradient of its parameters")
        try weightsCall.check(
            dnnl_convolution_backward_weights_desc_init(
                &operation, dnnl_convolution_direct, &innerSource, &innerWeights, &bias,
                &innerTarget, window.strides, window.paddings, window.paddings))
        self.weights = try DNNKernel(
            try DNNPrimitiveDescriptor.make(
                operation, engine: site.engine, forward: hint, weightsCall),
            [
                .input(DNNL_ARG_SRC_0, dnnl_query_src_md, source),
                .input(DNNL_ARG_DIFF_DST_0, dnnl_query_diff_dst_md, target),
                .output(DNNL_ARG_DIFF_WEIGHTS_0, dnnl_query_diff_weights_md, weights),
                .output(DNNL_ARG_DIFF_BIAS, dnnl_query_exec_arg_md, bias),
            ], engine: site.engine, weightsCall)
        guard site.needsInputGradient else { return }

        let dataCall = site.call("compute the gradient of its input")
        try dataCall.check(
            dnnl_convolution_backward_data_desc_init(
                &operation, dnnl_convolution_direct, &innerSource, &innerWeights, &innerTarget,
                window.strides, window.paddings, window.paddings))
        data = try DNNKernel(
            try DNNPrimitiveDescriptor.make(
                operation, engine: site.engine, forward: hint, dataCall),
            [
                .input(DNNL_ARG_DIFF_DST_0, dnnl_query_diff_dst_md, target),
                .input(DNNL_ARG_WEIGHTS_0, dnnl_query_weights_md, weights),
                .output(DNNL_ARG_DIFF_SRC_0, dnnl_query_diff_src_md, source),
            ], engine: site.engine, dataCall)
    }
}
