/// What a layer is; shapes are found when the network is built for an input.
public enum LayerKind: Hashable, Sendable {
    /// Fully connected; flattens its input in C, H, W order.
    case linear(out: Int)
    /// Square kernel; weights are OIHW.
    case convolution(out: Int, kernel: Int, stride: Int, padding: Int)
    /// Floor mode, padding with minus infinity, as PyTorch.
    case maxPooling(kernel: Int, stride: Int, padding: Int)
    /// Floor mode, padding counts as zeros in the mean, as PyTorch.
    case averagePooling(kernel: Int, stride: Int, padding: Int)
    case relu
    case tanh
    case sigmoid
    /// Each value is zeroed with this probability while training, the others scaled by 1 / (1 - p).
    case dropout(probability: Double)
    /// Each value is divided by a power of the squares of `size` channels around it, as PyTorch's
    /// `LocalResponseNorm`: `x / (k + alpha / size * sum) ^ beta`.
    case localResponseNormalisation(
        size: Int, alpha: Double = 1e-4, beta: Double = 0.75, k: Double = 1)
    /// Each channel gets mean 0 and variance 1, then a scale and a bias that are trained where `isAffine`, as
    /// PyTorch's `BatchNorm1d` and `BatchNorm2d`.
    ///
    /// Statistics are those of a worker's batch while training; evaluation takes running ones, into which each
    /// batch goes with weight `momentum`.
    case batchNormalisation(
        epsilon: Double = 1e-5, momentum: Double = 0.1, isAffine: Bool = true)
    case flatten
    /// Long short-term memory with `out` hidden values over `steps` steps, as PyTorch's `nn.LSTM`; reads its input in
    /// C, H, W order, a step after the other.
    case lstm(out: Int, steps: Int, keeps: KeptSteps)
}

/// Which steps' values a recurrent layer passes on.
public enum KeptSteps: String, Hashable, Sendable, CaseIterable {
    /// Those of the last, as a vector.
    case last
    /// Of all; a step is a channel.
    case all
}

/// A layer of a job's model.
public struct LayerConfiguration: Hashable, Sendable {
    /// Unique in the model; its parameters are `<name>.weight` and `<name>.bias`.
    public var name: String
    /// What it computes.
    public var kind: LayerKind

    /// A named layer.
    public init(name: String, kind: LayerKind) {
        self.name = name
        self.kind = kind
    }
}

/// A chain of layers; softmax cross-entropy (mean over the batch) closes it.
public struct ModelConfiguration: Hashable, Sendable {
    /// From the input to the logits.
    public var layers: [LayerConfiguration]

    /// A chain of layers.
    public init(layers: [LayerConfiguration]) { self.layers = layers }
}
