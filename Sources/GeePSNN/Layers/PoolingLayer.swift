import CDNNL

/// Maximum or mean of a sliding window, as PyTorch: floor mode; padding is minus infinity for the
/// maximum and counts as zeros for the mean.
///
/// The maximum remembers in its workspace where it was found.
final class PoolingLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout = Layout.channelsLast
    private(set) var traits = LayerTraits()
    private let forwardKernel: DNNKernel
    private let backwardKernel: DNNKernel?

    var reports: [KernelReport] { [forwardKernel, backwardKernel].compactMap { $0?.report } }

    /// A pooling of the channels-last input of `site`.
    init(_ site: LayerSite, _ kind: PoolingKind, window: Window) throws(NNError) {
        name = site.name
        let positions = try window.positions(over: site.input, layer: site.name)
        try window.checkPoolingPadding(layer: site.name)
        outputShape = Shape(
            channels: site.input.channels, height: positions.height, width: positions.width)
        let call = site.call("compute forward")
        let algorithm =
            kind == .maximum ? dnnl_pooling_max : dnnl_pooling_avg_include_padding
        var source = try DNNDescriptor.batch(site.batchSize, site.input, .channelsLast, call)
        var target = try DNNDescriptor.batch(site.batchSize, outputShape, .channelsLast, call)
        var operation = dnnl_pooling_desc_t()
        try call.check(
            dnnl_pooling_forward_desc_init(
                &operation, site.isTraining ? dnnl_forward_training : dnnl_forward_inference,
                algorithm, &source, &target, window.strides, window.kernels, window.paddings,
                window.paddings))
        let hint = try DNNPrimitiveDescriptor.make(operation, engine: site.engine, call)
        var arguments: [DNNArgument] = [
            .input(DNNL_ARG_SRC_0, dnnl_query_src_md, source),
            .output(DNNL_ARG_DST_0, dnnl_query_dst_md, target),
        ]
        let workspace = hint.descriptor(dnnl_query_workspace_md)
        if var workspace {
            traits.workspaceBytes = dnnl_memory_desc_get_size(&workspace)
            arguments.append(.output(DNNL_ARG_WORKSPACE, dnnl_query_workspace_md, workspace))
        }
        forwardKernel = try DNNKernel(hint, arguments, engine: site.engine, call)
        traits.forwardScratchBytes = forwardKernel.scratchBytes
        guard site.isTraining && site.needsInputGradient else {
            backwardKernel = nil
            return
        }

        let backwardCall = site.call("compute the gradient of its input")
        try backwardCall.check(
            dnnl_pooling_backward_desc_init(
                &operation, algorithm, &source, &target, window.strides, window.kernels,
                window.paddings, window.paddings))
        arguments = [
            .input(DNNL_ARG_DIFF_DST_0, dnnl_query_diff_dst_md, target),
            .output(DNNL_ARG_DIFF_SRC_0, dnnl_query_diff_src_md, source),
        ]
        if let workspace {
            arguments.append(.input(DNNL_ARG_WORKSPACE, dnnl_query_workspace_md, workspace))
        }
        let kernel = try DNNKernel(
            try DNNPrimitiveDescriptor.make(
                operation, engine: site.engine, forward: hint, backwardCall),
            arguments, engine: site.engine, backwardCall)
        traits.backwardScratchBytes = kernel.scratchBytes
        backwardKernel = kernel
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        try forwardKernel.run(
            context.input, context.output, context.workspace, scratch: context.scratch)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let kernel = backwardKernel, let inputGradient = context.inputGradient else { return }
        try kernel.run(
            context.outputGradient, inputGradient, context.workspace, scratch: context.scratch)
    }
}
