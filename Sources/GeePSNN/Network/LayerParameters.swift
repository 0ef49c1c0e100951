/// A named tensor inside a layer's values.
public struct ParameterTensor: Hashable, Sendable {
    /// PyTorch's `state_dict` name: `conv1.weight`.
    public var name: String
    /// PyTorch's shape: `[out, in]` for a linear weight, `[out, in, height, width]` for a convolution's.
    public var shape: [Int]
    /// Where its first value is among the layer's values.
    public var offset: Int

    /// Values.
    public var count: Int { shape.reduce(1, *) }

    /// Its values among the layer's.
    public var range: Range<Int> { offset..<(offset + count) }
}

/// The values of one layer that are trained, and their order: weight, then bias, back to back, row-major.
///
/// One layer is one table. Gradients have the same order.
public struct LayerParameters: Hashable, Sendable {
    /// The layer's name, and the table's.
    public var name: String
    /// Position among the network's layers that have parameters.
    public var position: Int
    /// Weight, bias.
    public var tensors: [ParameterTensor]
    /// Inputs that one output value is computed from; initial values depend on it.
    public var fanIn: Int

    /// Values of all tensors.
    public var valueCount: Int { tensors.reduce(0) { $0 + $1.count } }

    /// A weight and a bias of `outputCount` values.
    init(name: String, position: Int, weight: [Int], outputCount: Int) {
        self.name = name
        self.position = position
        fanIn = weight.dropFirst().reduce(1, *)
        tensors = [
            ParameterTensor(name: "\(name).weight", shape: weight, offset: 0),
            ParameterTensor(
                name: "\(name).bias", shape: [outputCount], offset: weight.reduce(1, *)),
        ]
    }

    /// Values of the weight, which is also where the bias begins.
    var weightCount: Int { tensors[0].count }
}
