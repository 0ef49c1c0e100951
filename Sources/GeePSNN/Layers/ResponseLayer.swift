import CGeePSKernels

/// How values are divided by the squares of their neighbours among the channels.
struct ResponseRule: Hashable, Sendable {
    var size: Int
    var alpha: Double
    var beta: Double
    var k: Double

    /// - Throws: `.model` where a number is out of range.
    func check(layer: String) throws(NNError) {
        try checkNumber(
            1...Self.sizeMaximum ~= size, "size", "\(size)", "1 to \(Self.sizeMaximum)", layer)
        try checkNumber(
            alpha >= 0 && alpha.isFinite, "alpha", "\(alpha)", "a number of 0 or more", layer)
        try checkNumber(
            beta >= 0 && beta.isFinite, "beta", "\(beta)", "a number of 0 or more", layer)
        try checkNumber(k > 0 && k.isFinite, "k", "\(k)", "a number above 0", layer)
    }

    /// Channels before a value's own that count; an even size takes one more before than after, as in PyTorch.
    var before: Int { size / 2 }
    /// Channels after a value's own that count.
    var after: Int { (size - 1) / 2 }

    /// Larger windows are a mistake in a job file.
    private static let sizeMaximum = 1 << 20
}

/// - Throws: `.model` unless `isValid`.
func checkNumber(
    _ isValid: Bool, _ what: String, _ found: String, _ expected: String, _ layer: String
) throws(NNError) {
    guard isValid else {
        throw NNError(.model, "layer \(layer): \(what) is \(found), expected \(expected)")
    }
}

/// Local response normalisation across the channels, which lie side by side.
///
/// Nothing is kept for the backward pass: the sums of squares are cheaper to add up again than to store.
final class ResponseLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout: Layout
    let traits: LayerTraits
    let reports: [KernelReport] = []
    private let kernels = geeps_kernels_best().pointee
    private let rule: geeps_response
    private let rows: Int64
    private let channels: Int64

    /// For the input of `site`, whose channels lie side by side.
    init(_ site: LayerSite, _ rule: ResponseRule) {
        name = site.name
        outputShape = site.input
        outputLayout = site.layout
        rows = Int64(site.valuesPerChannel)
        channels = Int64(site.input.channels)
        // No neighbour is further away than the other end.
        let furthest = site.input.channels - 1
        self.rule = geeps_response(
            before: Int64(min(rule.before, furthest)), after: Int64(min(rule.after, furthest)),
            factor: Float(rule.alpha / Double(rule.size)), beta: Float(rule.beta), k: Float(rule.k))
        let padding = Int(self.rule.before + self.rule.after)
        let bytes = MemoryLayout<Float>.stride
        traits = LayerTraits(
            backwardReads: .input, isForwardInPlace: !site.isTraining, isBackwardInPlace: true,
            forwardScratchBytes: (3 * site.input.channels + padding) * bytes,
            backwardScratchBytes: site.isTraining
                ? (4 * site.input.channels + 2 * padding) * bytes : 0)
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        kernels.response_normalise(
            context.output, context.input, rows, channels, rule, floats(context.scratch))
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let inputGradient = context.inputGradient, let input = context.input else { return }
        kernels.response_normalise_backward(
            inputGradient, input, context.outputGradient, rows, channels, rule,
            floats(context.scratch))
    }

    private func floats(_ scratch: UnsafeMutableRawPointer?) -> UnsafeMutablePointer<Float> {
        guard let scratch else { preconditionFailure("layer \(name) needs scratch") }
        return scratch.assumingMemoryBound(to: Float.self)
    }
}
