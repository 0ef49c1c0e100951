/// Copies a batch from one order of values to another; the network puts it where neighbours disagree.
final class LayoutLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout: Layout
    private(set) var traits = LayerTraits()
    private let forwardKernel: DNNKernel
    private let backwardKernel: DNNKernel?

    var reports: [KernelReport] { [forwardKernel, backwardKernel].compactMap { $0?.report } }

    /// A copy to `layout`; with `isFlat` the result is a vector.
    init(_ site: LayerSite, to layout: Layout, isFlat: Bool) throws(NNError) {
        name = site.name
        outputShape = isFlat ? site.input.flattened : site.input
        outputLayout = layout
        forwardKernel = try Self.makeKernel(
            site, from: site.layout, to: layout, site.call("copy to another layout"))
        backwardKernel =
            site.isTraining && site.needsInputGradient
            ? try Self.makeKernel(
                site, from: layout, to: site.layout, site.call("copy gradients to another layout"))
            : nil
    }

    private static func makeKernel(
        _ site: LayerSite, from source: Layout, to target: Layout, _ call: DNNCall
    ) throws(NNError) -> DNNKernel {
        try DNNKernel.copy(
            from: DNNDescriptor.batch(site.batchSize, site.input, source, call),
            to: DNNDescriptor.batch(site.batchSize, site.input, target, call),
            engine: site.engine, call)
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        try forwardKernel.run(context.input, context.output, scratch: context.scratch)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let kernel = backwardKernel, let inputGradient = context.inputGradient else { return }
        try kernel.run(context.outputGradient, inputGradient, scratch: context.scratch)
    }
}
