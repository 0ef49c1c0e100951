/// Measures a network on a data set, without the parameter server and without changing anything.
public struct Evaluator {
    private let model: ModelConfiguration
    private let dataset: any Dataset

    /// Samples computed at once.
    public static let batchSize = 128

    /// An evaluator of `model` on `dataset`.
    public init(model: ModelConfiguration, dataset: any Dataset) {
        self.model = model
        self.dataset = dataset
    }

    /// Loss sum and correct count over `samples`.
    ///
    /// - Parameter weights: by parameter of the network, in its order.
    public func run(weights: [[Float]], samples: Range<Int>) throws(NNError) -> BatchResult {
        var total = BatchResult(lossSum: 0, correctCount: 0, sampleCount: 0)
        let pointers = weights.map { values in
            let memory = UnsafeMutableBufferPointer<Float>.allocate(capacity: values.count)
            _ = memory.initialize(from: values)
            return memory
        }
        defer { for pointer in pointers { pointer.deallocate() } }
        var start = samples.lowerBound
        // The last batch is smaller; kernels are made for one size.
        for size in [Self.batchSize, samples.count % Self.batchSize] where size > 0 {
            guard samples.upperBound - start >= size else { continue }
            let network = try Network(
                model, input: dataset.shape, batchSize: size, purpose: .inference)
            let memory = NetworkMemory(network)
            while samples.upperBound - start >= size {
                let result = try evaluate(
                    network, memory, pointers.compactMap(\.baseAddress), start..<(start + size))
                total.lossSum += result.lossSum
                total.correctCount += result.correctCount
                total.sampleCount += result.sampleCount
                start += size
            }
        }
        return total
    }

    private func evaluate(
        _ network: Network, _ memory: NetworkMemory,
        _ parameters: [UnsafeMutablePointer<Float>], _ samples: Range<Int>
    ) throws(NNError) -> BatchResult {
        guard let images = memory.input.baseAddress, let labels = memory.labels.baseAddress else {
            preconditionFailure("a batch has samples")
        }
        dataset.fill(Array(samples), images: images, labels: labels)
        return try memory.runIteration(parameters: parameters)
    }
}
