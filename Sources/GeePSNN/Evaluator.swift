import GeePSDevice

/// Measures a network on a data set, without the parameter server and without changing anything.
///
/// On a GPU it takes device memory beside what the device lends to training, and gives it back.
public struct Evaluator {
    private let model: ModelConfiguration
    private let dataset: any Dataset
    private let target: ComputeTarget

    /// Samples computed at once.
    public static let batchSize = 128

    /// An evaluator of `model` on `dataset`.
    public init(
        model: ModelConfiguration, dataset: any Dataset, on target: ComputeTarget = .host
    ) {
        self.model = model
        self.target = target
        self.dataset = dataset
    }

    /// Loss sum and correct count over `samples`.
    ///
    /// - Parameters:
    ///   - weights: by parameter of the network, in its order.
    ///   - states: what layers remember of training; nil for what it begins with.
    public func run(
        weights: [[Float]], states: NetworkStates? = nil, samples: Range<Int>
    ) throws(NNError) -> BatchResult {
        var total = BatchResult(lossSum: 0, correctCount: 0, sampleCount: 0)
        var start = samples.lowerBound
        // The last batch is smaller; kernels are made for one size.
        for size in [Self.batchSize, samples.count % Self.batchSize] where size > 0 {
            guard samples.upperBound - start >= size else { continue }
            let network = try Network(
                model, input: dataset.shape, batchSize: size, purpose: .inference, on: target)
            let bench = try bench(
                of: network, weights, states ?? NetworkStates(startOf: network))
            while samples.upperBound - start >= size {
                total.add(try bench.run(dataset, Array(start..<(start + size))))
                start += size
            }
        }
        return total
    }

    private func bench(
        of network: Network, _ weights: [[Float]], _ states: NetworkStates
    ) throws(NNError) -> any EvaluationBench {
        switch target {
        case .host: return HostBench(network, weights, states)
        case .cuda(let compute): return try StreamBench(network, weights, states, compute)
        }
    }
}

/// A network with weights, ready for batches.
private protocol EvaluationBench {
    func run(_ dataset: any Dataset, _ samples: [Int]) throws(NNError) -> BatchResult
}

private final class HostBench: EvaluationBench {
    private let memory: NetworkMemory
    private let weights: [UnsafeMutableBufferPointer<Float>]

    init(_ network: Network, _ weights: [[Float]], _ states: NetworkStates) {
        memory = NetworkMemory(network)
        memory.write(states)
        self.weights = weights.map { values in
            let copy = UnsafeMutableBufferPointer<Float>.allocate(capacity: values.count)
            _ = copy.initialize(from: values)
            return copy
        }
    }

    deinit { for copy in weights { copy.deallocate() } }

    func run(_ dataset: any Dataset, _ samples: [Int]) throws(NNError) -> BatchResult {
        guard let images = memory.input.baseAddress, let labels = memory.labels.baseAddress else {
            preconditionFailure("a batch has samples")
        }
        dataset.fill(samples, images: images, labels: labels)
        return try memory.runIteration(parameters: weights.compactMap(\.baseAddress))
    }
}

private final class StreamBench: EvaluationBench {
    private let memory: DeviceNetworkMemory
    private var images: [Float]
    private var labels: [Int32]

    init(
        _ network: Network, _ weights: [[Float]], _ states: NetworkStates, _ compute: CUDACompute
    ) throws(NNError) {
        images = Array(repeating: 0, count: network.batchSize * network.input.count)
        labels = Array(repeating: 0, count: network.batchSize)
        do {
            let device = try compute.stream.device.sibling(
                limitBytes: DeviceNetworkMemory.byteCount(of: network))
            memory = try DeviceNetworkMemory(network, on: device)
            try memory.write(parameters: weights)
            try memory.write(states)
        } catch {
            throw NNError(.kernel, "evaluation: \(error.message)")
        }
    }

    func run(_ dataset: any Dataset, _ samples: [Int]) throws(NNError) -> BatchResult {
        images.withUnsafeMutableBufferPointer { images in
            labels.withUnsafeMutableBufferPointer { labels in
                guard let image = images.baseAddress, let label = labels.baseAddress else { return }
                dataset.fill(samples, images: image, labels: label)
            }
        }
        do {
            return try memory.runIteration(images: images, labels: labels)
        } catch let error as NNError {
            throw error
        } catch {
            throw NNError(.kernel, "evaluation: \(error)")
        }
    }
}
