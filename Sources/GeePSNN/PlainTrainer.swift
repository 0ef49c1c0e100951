import GeePSCore
public import GeePSDevice

/// Trains a network with all its memory in one place and without a parameter server: what the parameter server's
/// cost is measured against.
///
/// It takes the batches that a `Trainer` of one worker takes, runs the same layers on the same target, and hands
/// every layer's gradient to the caller's own update.
public final class PlainTrainer {
    /// Steps the values of one layer, in device memory where layers compute on a stream: it puts the work there.
    ///
    /// Parameters: position of the layer among those with parameters, values, gradients, how many, which step.
    public typealias Update = (
        _ layer: Int, _ values: UnsafeMutablePointer<Float>, _ gradients: UnsafePointer<Float>,
        _ count: Int, _ step: UInt64
    ) -> Void

    private let network: Network
    private let dataset: any Dataset
    private let seed: UInt64
    private let update: Update
    private let place: Place
    private var sampler: Sampler
    private var stepCount: UInt64 = 0

    private enum Place {
        case host(NetworkMemory, values: [SharedBuffer], gradients: [SharedBuffer])
        case stream(DeviceNetworkMemory, StreamPort)
    }

    /// A trainer from PyTorch's default initialisation.
    ///
    /// - Throws: `DeviceError` where `device` has too little memory for everything.
    public init(
        network: Network, dataset: any Dataset, device: any Device, seed: UInt64,
        isShuffled: Bool = true, update: @escaping Update
    ) throws {
        self.network = network
        self.dataset = dataset
        self.seed = seed
        self.update = update
        sampler = try Sampler(
            sampleCount: dataset.count, workerCount: 1, batchSize: network.batchSize,
            shuffleSeed: isShuffled ? seed : nil)
        let values = Self.initialValues(of: network, seed: seed)
        if let stream = network.target.stream {
            let memory = try DeviceNetworkMemory(network, on: device)
            try memory.write(parameters: values)
            let port = try StreamPort(
                network, device: device, stream: stream, batchesPerClock: 1,
                waitTimeout: .seconds(120))
            place = .stream(memory, port)
            return
        }
        let buffers = try values.map { values in
            let buffer = SharedBuffer(
                try device.allocate(byteCount: max(4, values.count * 4), for: .parameterCache))
            buffer.floats.update(from: values, count: values.count)
            return buffer
        }
        let gradients = try network.parameters.map {
            SharedBuffer(
                try device.allocate(byteCount: max(4, $0.valueCount * 4), for: .updateLog))
        }
        place = .host(NetworkMemory(network), values: buffers, gradients: gradients)
    }

    private static func initialValues(of network: Network, seed: UInt64) -> [[Float]] {
        network.parameters.map { parameters in
            var values = [Float](repeating: 0, count: parameters.valueCount)
            values.withUnsafeMutableBufferPointer { buffer in
                guard let start = buffer.baseAddress else { return }
                Initializer.fill(start, for: parameters, seed: seed)
            }
            return values
        }
    }

    /// One batch forward and backward, and the update.
    ///
    /// Where layers compute on a stream it returns with the loss, as `Trainer.step` does.
    public func step() throws -> BatchResult {
        let samples = sampler.indices(step: stepCount, rank: 0)
        let noise = NoiseKey(seed: seed, rank: 0, step: stepCount)
        stepCount += 1
        switch place {
        case .host(let memory, let values, let gradients):
            return try step(samples, noise, memory, values.map(\.floats), gradients.map(\.floats))
        case .stream(let memory, let port): return try step(samples, noise, memory, port)
        }
    }

    /// Waits until everything put on the stream is done.
    public func finish() throws(DeviceError) {
        try network.target.stream?.synchronise(deadline: .after(.seconds(120)))
    }

    private func step(
        _ samples: [Int], _ noise: NoiseKey, _ memory: NetworkMemory,
        _ values: [UnsafeMutablePointer<Float>], _ gradients: [UnsafeMutablePointer<Float>]
    ) throws(NNError) -> BatchResult {
        guard let images = memory.input.baseAddress, let labels = memory.labels.baseAddress else {
            preconditionFailure("a batch has samples")
        }
        dataset.fill(samples, images: images, labels: labels)
        let result = try memory.runIteration(
            parameters: values, gradients: gradients, noise: noise)
        for (layer, parameters) in network.parameters.enumerated() {
            update(layer, values[layer], gradients[layer], parameters.valueCount, stepCount)
        }
        return result
    }

    private func step(
        _ samples: [Int], _ noise: NoiseKey, _ memory: DeviceNetworkMemory, _ port: StreamPort
    ) throws -> BatchResult {
        guard let images = memory.address(ofTensor: network.inputTensor),
            let labels = memory.address(ofTensor: network.labelsTensor),
            let results = network.resultsTensor.flatMap(memory.address)
        else { preconditionFailure("a network on a stream has input, labels and results") }
        try port.load(images: images, labels: labels) {
            dataset.fill(samples, images: $0, labels: $1)
        }
        for step in network.steps where step.kind != .load {
            try memory.run(step, noise: noise)
            if step.kind == .loss { port.fetchResults(from: results, batch: 0) }
            guard let layer = step.parametersUpdated else { continue }
            update(
                layer, memory.parameters[layer], memory.gradients[layer],
                network.parameters[layer].valueCount, stepCount)
        }
        return try port.result(batch: 0)
    }
}
