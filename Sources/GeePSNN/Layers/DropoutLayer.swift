/// Zeroes each value with a probability and scales the others by 1 / (1 - p).
///
/// Training only.
///
/// The mask is never stored: both passes draw it from the same key, which costs a hash for two values and
/// saves a transfer of the mask.
final class DropoutLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout: Layout
    let traits = LayerTraits(isForwardInPlace: true, isBackwardInPlace: true)
    let reports: [KernelReport] = []
    private let draw: DropoutDraw
    private let count: Int

    /// Drops with `probability`, `0 ..< 1`.
    init(_ site: LayerSite, probability: Double) throws(NNError) {
        name = site.name
        outputShape = site.input
        outputLayout = site.layout
        draw = try DropoutDraw(probability: probability, layer: site.name)
        count = site.inputCount
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        drop(context.input, context.output, context.noise)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let inputGradient = context.inputGradient else { return }
        drop(context.outputGradient, inputGradient, context.noise)
    }

    private func drop(
        _ source: UnsafePointer<Float>, _ target: UnsafeMutablePointer<Float>, _ key: UInt64
    ) {
        let (threshold, scale) = (draw.threshold, draw.scale)
        for pair in 0..<(count / 2) {
            let bits = SplitMix64.value(key, UInt64(truncatingIfNeeded: pair))
            target[2 * pair] = bits & 0xFFFF_FFFF < threshold ? 0 : source[2 * pair] * scale
            target[2 * pair + 1] = bits >> 32 < threshold ? 0 : source[2 * pair + 1] * scale
        }
        if count % 2 == 1 {
            let bits = SplitMix64.value(key, UInt64(count / 2))
            target[count - 1] = bits & 0xFFFF_FFFF < threshold ? 0 : source[count - 1] * scale
        }
    }
}

/// How a value is dropped: when 32 random bits are below a threshold; the others are scaled.
struct DropoutDraw {
    let threshold: UInt64
    let scale: Float

    /// Drops with `probability`, `0 ..< 1`.
    init(probability: Double, layer: String) throws(NNError) {
        guard probability >= 0 && probability < 1 else {
            throw NNError(
                .model,
                "layer \(layer): probability is \(probability), expected 0 up to but not including 1"
            )
        }
        threshold = UInt64((probability * 0x1p32).rounded())
        scale = Float(1 / (1 - probability))
    }
}
