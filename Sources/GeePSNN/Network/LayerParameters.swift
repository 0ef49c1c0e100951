/// A named tensor inside a layer's values.
public struct ParameterTensor: Hashable, Sendable {
    /// What a tensor holds before training.
    public enum Start: Hashable, Sendable {
        /// Drawn from `[-bound, bound)`.
        case uniform(bound: Float)
        /// This everywhere.
        case constant(Float)
    }

    /// PyTorch's `state_dict` name: `conv1.weight`.
    public var name: String
    /// PyTorch's shape: `[out, in]` for a linear weight, `[out, in, height, width]` for a convolution's.
    public var shape: [Int]
    /// Where its first value is among the layer's values.
    public var offset: Int
    /// What it holds before training.
    public var start: Start

    /// Values.
    public var count: Int { shape.reduce(1, *) }

    /// Its values among the layer's.
    public var range: Range<Int> { offset..<(offset + count) }
}

/// The values of one layer that are trained, and their order: tensor after tensor, back to back, row-major.
///
/// One layer is one table. Gradients have the same order.
public struct LayerParameters: Hashable, Sendable {
    /// The layer's name, and the table's.
    public var name: String
    /// Position among the network's layers that have parameters.
    public var position: Int
    /// Weight and bias, for most kinds.
    public var tensors: [ParameterTensor]

    /// Values of all tensors.
    public var valueCount: Int { tensors.reduce(0) { $0 + $1.count } }

    /// Tensors in order; their names are prefixed by the layer's.
    init(
        name: String, position: Int,
        tensors: [(name: String, shape: [Int], start: ParameterTensor.Start)]
    ) {
        self.name = name
        self.position = position
        self.tensors = []
        for tensor in tensors {
            self.tensors.append(
                ParameterTensor(
                    name: "\(name).\(tensor.name)", shape: tensor.shape, offset: valueCount,
                    start: tensor.start))
        }
    }

    /// A weight and a bias of `outputCount` values, both started as PyTorch starts a linear layer's: within
    /// `1 / sqrt(inputs of one output value)`.
    init(name: String, position: Int, weight: [Int], outputCount: Int) {
        let bound = 1 / Float(weight.dropFirst().reduce(1, *)).squareRoot()
        self.init(
            name: name, position: position,
            tensors: [
                ("weight", weight, .uniform(bound: bound)),
                ("bias", [outputCount], .uniform(bound: bound)),
            ])
    }

    /// Values of the weight, which is also where the bias begins.
    var weightCount: Int { tensors[0].count }
}
