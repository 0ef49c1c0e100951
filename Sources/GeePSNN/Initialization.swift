/// Initial values, in distribution those of PyTorch's layers: a linear layer's and a convolution's are
/// `kaiming_uniform(a = sqrt(5))` for weights, `uniform` for biases, which both come to `uniform(-b, b)` with
/// `b = 1 / sqrt(inputs of one output value)`.
///
/// The numbers are those of SplitMix64, one stream a tensor: equal for equal (seed, position of the layer,
/// tensor), so every worker can make them, and they are not the numbers PyTorch would draw.
public enum Initializer {
    /// Writes the initial values of one layer.
    ///
    /// - Parameters:
    ///   - values: at least `parameters.valueCount`; those beyond are left alone.
    ///   - seed: the job's seed.
    public static func fill(
        _ values: UnsafeMutablePointer<Float>, for parameters: LayerParameters, seed: UInt64
    ) {
        for (index, tensor) in parameters.tensors.enumerated() {
            switch tensor.start {
            case .constant(let value):
                for offset in tensor.range { values[offset] = value }
            case .uniform(let bound):
                var random = SplitMix64(
                    key: SplitMix64.key(seed, UInt64(parameters.position), UInt64(index)))
                for offset in tensor.range { values[offset] = (2 * random.unit() - 1) * bound }
            }
        }
    }
}
