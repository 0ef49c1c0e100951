import GeePSDevice
import GeePSNN

extension SelfTest {
    /// Layers against the host's: loss, outcomes, every gradient and running statistics of small networks.
    static let layerCases: [Case] =
        networks.map { network in
            Case(suite: "layers", name: network.name) { bench in
                try compare(network, on: bench)
            }
        } + [
            Case(
                suite: "layers", name: "evaluation by running statistics is the host's within 1e-4",
                run: compareEvaluation)
        ]

    private struct SmallNetwork {
        var name: String
        var layers: [LayerKind]
        var input = Shape(channels: 3, height: 12, width: 10)
    }

    private static let networks = [
        SmallNetwork(name: "linear", layers: [.linear(out: 10)]),
        SmallNetwork(
            name: "linear, large", layers: [.linear(out: 512), .relu, .linear(out: 10)],
            input: Shape(channels: 768)),
        SmallNetwork(
            name: "convolution", layers: [.convolution(out: 8, kernel: 3, stride: 1, padding: 1)]),
        SmallNetwork(
            name: "convolution, stride 2, kernel 5",
            layers: [
                .convolution(out: 16, kernel: 5, stride: 2, padding: 2), .relu,
                .convolution(out: 8, kernel: 3, stride: 2, padding: 0),
            ]),
        SmallNetwork(
            name: "maximum pooling",
            layers: [
                .convolution(out: 4, kernel: 3, stride: 1, padding: 1),
                .maxPooling(kernel: 3, stride: 2, padding: 1),
            ]),
        SmallNetwork(
            name: "average pooling",
            layers: [
                .convolution(out: 4, kernel: 3, stride: 1, padding: 1),
                .averagePooling(kernel: 2, stride: 2, padding: 1),
            ]),
        SmallNetwork(
            name: "tanh and sigmoid",
            layers: [.linear(out: 24), .tanh, .linear(out: 12), .sigmoid]),
        SmallNetwork(
            name: "dropout", layers: [.linear(out: 40), .dropout(probability: 0.4)]),
        SmallNetwork(
            name: "local response normalisation",
            layers: [
                .convolution(out: 7, kernel: 3, stride: 1, padding: 1),
                .localResponseNormalisation(size: 5, alpha: 0.5),
            ]),
        SmallNetwork(
            name: "batch normalisation",
            layers: [
                .batchNormalisation(isAffine: false),
                .convolution(out: 7, kernel: 3, stride: 1, padding: 1), .batchNormalisation(),
                .relu, .linear(out: 9), .batchNormalisation(epsilon: 1e-3, momentum: 0.4), .tanh,
            ]),
        SmallNetwork(
            name: "LSTM, all steps then the last",
            layers: [
                .lstm(out: 24, steps: 12, keeps: .all), .lstm(out: 40, steps: 12, keeps: .last),
            ]),
        SmallNetwork(
            name: "LeNet", layers: ModelConfiguration.lenet().layers.map(\.kind),
            input: Shape(channels: 1, height: 28, width: 28)),
    ]

    /// Of the largest value: two orders of sums in float32.
    private static let tolerance = 1e-4

    private static func compare(_ small: SmallNetwork, on bench: SelfTestBench) throws {
        let batchSize = 8
        var layers = small.layers.enumerated().map {
            LayerConfiguration(name: "layer\($0.offset)", kind: $0.element)
        }
        layers.append(LayerConfiguration(name: "last", kind: .linear(out: 10)))
        let model = ModelConfiguration(layers: layers)
        let images = SelfTestBench.values(batchSize * small.input.count)
        let labels = (0..<batchSize).map { Int32($0 % 10) }
        let noise = NoiseKey(seed: 4)
        let host = try HostRun(model, small.input, batchSize, images, labels, noise)
        guard case .cuda = bench.target else {
            // On the host itself: the same bits twice.
            let again = try HostRun(model, small.input, batchSize, images, labels, noise)
            return try again.require(host, within: 0)
        }
        let network = try Network(
            model, input: small.input, batchSize: batchSize, on: bench.target)
        let device = try bench.device(limitBytes: DeviceNetworkMemory.byteCount(of: network))
        let memory = try DeviceNetworkMemory(network, on: device)
        try memory.write(parameters: host.parameters)
        let result = try memory.runIteration(images: images, labels: labels, noise: noise)
        try HostRun(
            parameters: host.parameters, gradients: try memory.readGradients(),
            states: try memory.readStates(), result: result
        ).require(host, within: tolerance)
    }

    private static func compareEvaluation(_ bench: SelfTestBench) throws {
        let data = SyntheticDataset(
            count: 200, shape: Shape(channels: 3, height: 6, width: 5), classCount: 10, seed: 2)
        let kinds: [LayerKind] = [
            .batchNormalisation(isAffine: false),
            .convolution(out: 7, kernel: 3, stride: 1, padding: 1), .batchNormalisation(), .relu,
            .localResponseNormalisation(size: 3, alpha: 0.5), .linear(out: 10),
        ]
        let model = ModelConfiguration(
            layers: kinds.enumerated().map {
                LayerConfiguration(name: "layer\($0.offset)", kind: $0.element)
            })
        let network = try Network(
            model, input: data.shape, batchSize: Evaluator.batchSize, purpose: .inference)
        let weights = network.parameters.map { SelfTestBench.values($0.valueCount) }
        var states = NetworkStates(startOf: network)
        for (index, state) in network.states.enumerated() {
            for (tensor, base) in zip(state.tensors, [Float(0), 1]) {
                for value in tensor.range {
                    states.values[index][value] = base + Float(value % 5) / 8
                }
            }
        }
        let results = try [.host, bench.target].map { target in
            try Evaluator(model: model, dataset: data, on: target).run(
                weights: weights, states: states, samples: 0..<data.count)
        }
        try SelfTestFailure.require(
            [Float(results[1].meanLoss)], equals: [Float(results[0].meanLoss)], within: tolerance,
            "loss")
    }

    /// An iteration's outcome.
    private struct HostRun {
        var parameters: [[Float]]
        var gradients: [[Float]]
        var states: [[Float]]
        var result: BatchResult

        init(
            parameters: [[Float]], gradients: [[Float]], states: [[Float]], result: BatchResult
        ) {
            self.parameters = parameters
            self.gradients = gradients
            self.states = states
            self.result = result
        }

        /// On the host.
        init(
            _ model: ModelConfiguration, _ input: Shape, _ batchSize: Int, _ images: [Float],
            _ labels: [Int32], _ noise: NoiseKey
        ) throws {
            let network = try Network(model, input: input, batchSize: batchSize)
            let memory = NetworkMemory(network)
            _ = memory.input.update(fromContentsOf: images)
            _ = memory.labels.update(fromContentsOf: labels)
            var values: [UnsafeMutablePointer<Float>] = []
            var gradients: [UnsafeMutablePointer<Float>] = []
            defer { for pointer in values + gradients { pointer.deallocate() } }
            for layer in network.parameters {
                let value = UnsafeMutablePointer<Float>.allocate(capacity: layer.valueCount)
                value.initialize(repeating: 0, count: layer.valueCount)
                Initializer.fill(value, for: layer, seed: 6)
                values.append(value)
                let gradient = UnsafeMutablePointer<Float>.allocate(capacity: layer.valueCount)
                gradient.initialize(repeating: 0, count: layer.valueCount)
                gradients.append(gradient)
            }
            result = try memory.runIteration(
                parameters: values, gradients: gradients, noise: noise)
            states = memory.stateValues
            parameters = zip(values, network.parameters).map {
                Array(UnsafeBufferPointer(start: $0, count: $1.valueCount))
            }
            self.gradients = zip(gradients, network.parameters).map {
                Array(UnsafeBufferPointer(start: $0, count: $1.valueCount))
            }
        }

        func require(_ other: HostRun, within tolerance: Double) throws(SelfTestFailure) {
            try SelfTestFailure.require(
                [Float(result.meanLoss)], equals: [Float(other.result.meanLoss)],
                within: tolerance, "loss")
            for (layer, (own, expected)) in zip(gradients, other.gradients).enumerated() {
                try SelfTestFailure.require(
                    own, equals: expected, within: tolerance,
                    "gradient of layer \(layer) with parameters")
            }
            for (layer, (own, expected)) in zip(states, other.states).enumerated() {
                try SelfTestFailure.require(
                    own, equals: expected, within: tolerance,
                    "running statistics of layer \(layer) with some")
            }
        }
    }
}
