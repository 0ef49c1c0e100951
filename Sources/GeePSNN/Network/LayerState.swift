/// What a layer remembers from one mini-batch to the next beside its parameters: each worker's own, which no keeper
/// knows.
///
/// A batch normalisation's running statistics.
public struct LayerState: Hashable, Sendable {
    /// The layer's name.
    public var name: String
    /// PyTorch's buffers in the order of their offsets: `bn1.running_mean`, `bn1.running_var`.
    ///
    /// Each begins at a multiple of `LocalTensor.alignment`; what lies between is of no use.
    public var tensors: [ParameterTensor]

    /// Tensors in order; their names are prefixed by the layer's.
    init(name: String, tensors: [(name: String, shape: [Int], start: Float)]) {
        self.name = name
        self.tensors = []
        var offset = 0
        for tensor in tensors {
            let placed = ParameterTensor(
                name: "\(name).\(tensor.name)", shape: tensor.shape, offset: offset,
                start: .constant(tensor.start))
            self.tensors.append(placed)
            offset = Self.aligned(placed.range.upperBound)
        }
    }

    /// Values from the first to the last.
    public var valueCount: Int { tensors.last?.range.upperBound ?? 0 }

    /// Bytes of the local tensor that holds it.
    public var byteCount: Int { valueCount * MemoryLayout<Float>.stride }

    /// PyTorch's name of how many mini-batches went into it.
    public var batchCountName: String { "\(name).num_batches_tracked" }

    /// What it holds before training.
    var start: [Float] {
        var values = [Float](repeating: 0, count: valueCount)
        for tensor in tensors {
            guard case .constant(let value) = tensor.start else { continue }
            for index in tensor.range { values[index] = value }
        }
        return values
    }

    /// Values, rounded up to whole lines of `LocalTensor.alignment` bytes.
    static func aligned(_ count: Int) -> Int {
        let line = LocalTensor.alignment / MemoryLayout<Float>.stride
        return (count + line - 1) / line * line
    }
}

/// The values of `Network.states`, of one worker.
public struct NetworkStates: Hashable, Sendable {
    /// By state, in the order of the network: `LayerState.valueCount` values.
    public var values: [[Float]]
    /// By state: the mini-batches that went into it.
    public var batchCounts: [Int64]

    /// Values with what went into them.
    public init(values: [[Float]], batchCounts: [Int64]) {
        precondition(
            values.count == batchCounts.count,
            "\(values.count) states with \(batchCounts.count) counts of batches")
        self.values = values
        self.batchCounts = batchCounts
    }

    /// What `network` begins with.
    public init(startOf network: Network) {
        values = network.states.map(\.start)
        batchCounts = network.states.map { _ in 0 }
    }
}
