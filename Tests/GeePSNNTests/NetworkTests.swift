import Testing

@testable import GeePSNN

private let relu = LayerConfiguration(name: "relu", kind: .relu)

private func linear(_ name: String, _ out: Int) -> LayerConfiguration {
    LayerConfiguration(name: name, kind: .linear(out: out))
}

private func convolution(
    _ name: String, _ out: Int, kernel: Int, stride: Int = 1, padding: Int = 0
) -> LayerConfiguration {
    LayerConfiguration(
        name: name,
        kind: .convolution(out: out, kernel: kernel, stride: stride, padding: padding))
}

@Suite struct NetworkTests {
    @Test(
        arguments: [
            ("lenet", ModelConfiguration.lenet(), Shape(channels: 1, height: 8, width: 8), 5),
            ("mlp", .mlp(hidden: [16, 12], classes: 5), Shape(channels: 20), 6),
        ], Bed.allCases)
    func equalsPyTorch(
        _ model: (name: String, layers: ModelConfiguration, input: Shape, batchSize: Int),
        on bed: Bed
    ) throws {
        try bed.run { target in
            let (fixture, name) = (Fixture.layers, model.name)
            let bench = try Bench(
                model.layers.layers, input: model.input, batchSize: model.batchSize, on: target)
            bench.fill(fixture["\(name)/input"].values)
            _ = bench.memory.labels.update(
                fromContentsOf: fixture["\(name)/labels"].values.map { Int32($0) })
            for (index, layer) in bench.network.parameters.enumerated() {
                for tensor in layer.tensors {
                    let reference = fixture["\(name)/\(tensor.name)"]
                    #expect(reference.shape == tensor.shape)
                    _ = bench.values(tensor, of: index).update(fromContentsOf: reference.values)
                }
            }
            let result = try #require(try bench.run())
            let loss = Double(fixture["\(name)/loss"].values[0])
            #expect(abs(result.meanLoss - loss) < 1e-6 * loss)
            #expect(relativeError(bench.memory.logits, fixture["\(name)/output"].values) < 1e-5)
            let inputGradient = fixture["\(name)/input_gradient"].values
            #expect(relativeError(bench.inputGradient, inputGradient) < 1e-5)
            for (index, layer) in bench.network.parameters.enumerated() {
                for tensor in layer.tensors {
                    let reference = fixture["\(name)/\(tensor.name).gradient"].values
                    let error = relativeError(bench.gradient(tensor, of: index), reference)
                    #expect(error < 1e-5, "\(tensor.name)")
                }
            }
        }
    }

    @Test(
        arguments: [
            ModelConfiguration(layers: [
                convolution("conv", 4, kernel: 3, padding: 1),
                LayerConfiguration(name: "sigmoid", kind: .sigmoid),
                LayerConfiguration(
                    name: "pool", kind: .averagePooling(kernel: 2, stride: 2, padding: 0)),
                LayerConfiguration(name: "tanh", kind: .tanh),
                LayerConfiguration(name: "drop", kind: .dropout(probability: 0.25)),
                linear("fc", 5),
            ]),
            ModelConfiguration(layers: [
                linear("a", 12), LayerConfiguration(name: "t", kind: .tanh),
                LayerConfiguration(name: "s", kind: .sigmoid), linear("b", 4),
            ]),
            // Ends in an image whose values must be flattened in C, H, W order.
            ModelConfiguration(layers: [convolution("conv", 3, kernel: 3, stride: 2)]),
        ], Bed.allCases)
    func wholeNetworkGradientsAgreeWithDifferences(_ model: ModelConfiguration, on bed: Bed) throws
    {
        try bed.run { target in
            let bench = try Bench(
                model.layers, input: Shape(channels: 2, height: 6, width: 6), batchSize: 4,
                on: target)
            bench.fill(randomValues(bench.memory.input.count, seed: 4))
            _ = bench.memory.labels.update(fromContentsOf: [0, 2, 1, 0])
            let input = Array(bench.memory.input)
            try bench.run()
            let function = { () throws(NNError) -> Double in
                guard
                    let result = try bench.run(where: {
                        if case .backward = $0 { false } else { true }
                    }
                    )
                else { return .nan }
                return result.meanLoss
            }
            let checker = GradientChecker(step: 1e-2, sampleCount: 40)
            let gradients = bench.network.parameters.indices.map { layer in
                bench.network.parameters[layer].tensors.map { bench.gradient($0, of: layer) }
            }
            let inputGradient = bench.inputGradient
            for (layer, parameters) in bench.network.parameters.enumerated() {
                for (index, tensor) in parameters.tensors.enumerated() {
                    let worst = try checker.worst(
                        bench.values(tensor, of: layer), gradient: gradients[layer][index],
                        floor: 1e-3, function)
                    #expect(worst.error < 5e-3, "\(tensor.name): \(worst)")
                }
            }
            let worst = try checker.worst(
                bench.memory.input, gradient: inputGradient, floor: 1e-3, function)
            #expect(worst.error < 5e-3, "input: \(worst)")
            #expect(Array(bench.memory.input) == input)
        }
    }

    @Test func namesShapesAndOrderOfParametersArePyTorchs() throws {
        let network = try Network(
            .lenet(), input: Shape(channels: 1, height: 28, width: 28), batchSize: 2)
        #expect(network.parameters.map(\.name) == ["conv1", "conv2", "fc1", "fc2", "fc3"])
        #expect(network.parameters.map(\.valueCount) == [156, 880, 94_200, 10_164, 850])
        let tensors = network.parameters[1].tensors
        #expect(tensors.map(\.name) == ["conv2.weight", "conv2.bias"])
        #expect(tensors.map(\.shape) == [[16, 6, 3, 3], [16]])
        #expect(tensors.map(\.offset) == [0, 864])
        #expect(network.classCount == 10)
        #expect(network.valueCount == 106_250)
    }

    @Test(arguments: Bed.allCases) func inferenceHasTheSameParametersAndLogits(on bed: Bed) throws {
        try bed.run { target in
            let input = Shape(channels: 1, height: 8, width: 8)
            let training = try Bench(
                ModelConfiguration.lenet().layers, input: input, batchSize: 3, on: target)
            let inference = try Bench(
                ModelConfiguration.lenet().layers, input: input, batchSize: 3, purpose: .inference,
                on: target)
            #expect(training.network.parameters == inference.network.parameters)
            let values = randomValues(3 * 64, seed: 8)
            for bench in [training, inference] {
                bench.fill(values)
                try bench.forward()
            }
            #expect(relativeError(inference.memory.logits, Array(training.memory.logits)) < 1e-6)
            #expect(inference.network.steps.allSatisfy { $0.parametersUpdated == nil })
            #expect(inference.memory.byteCount < training.memory.byteCount)
        }
    }

    @Test func noKernelIsTheReferenceImplementation() throws {
        let network = try Network(
            ModelConfiguration(layers: [
                convolution("conv1", 20, kernel: 5, stride: 2, padding: 2),
                LayerConfiguration(
                    name: "pool", kind: .maxPooling(kernel: 3, stride: 2, padding: 1)),
                LayerConfiguration(name: "tanh", kind: .tanh),
                convolution("conv2", 17, kernel: 1),
                linear("fc", 10),
            ]), input: Shape(channels: 3, height: 20, width: 20), batchSize: 2)
        let slow = network.implementations.filter(\.isReference)
        #expect(slow.isEmpty, "\(slow)")
        #expect(network.implementations.contains { $0.layer == "conv1" })
    }

    struct Refusal: Sendable, CustomStringConvertible {
        var description: String
        var layers: [LayerConfiguration]
        var says: [String]
    }

    static let refusals = [
        Refusal(description: "no layers", layers: [], says: ["no layers"]),
        Refusal(
            description: "name twice", layers: [linear("a", 3), linear("a", 3)],
            says: ["layer a", "twice"]),
        Refusal(description: "empty name", layers: [linear("", 3)], says: ["empty name"]),
        Refusal(
            description: "no outputs", layers: [linear("fc", 0)],
            says: ["layer fc", "found 0 outputs", "expected 1"]),
        Refusal(
            description: "kernel too large", layers: [convolution("c", 4, kernel: 7)],
            says: ["layer c", "found 7", "expected at most 6", "1 x 6 x 6"]),
        Refusal(
            description: "pool too large",
            layers: [
                LayerConfiguration(name: "p", kind: .maxPooling(kernel: 7, stride: 1, padding: 0))
            ],
            says: ["layer p", "found 7", "expected at most 6"]),
        Refusal(
            description: "stride 0", layers: [convolution("c", 4, kernel: 3, stride: 0)],
            says: ["layer c", "stride is 0"]),
        Refusal(
            description: "negative padding", layers: [convolution("c", 4, kernel: 3, padding: -1)],
            says: ["layer c", "padding is -1"]),
        Refusal(
            description: "pool padding over half",
            layers: [
                LayerConfiguration(name: "p", kind: .maxPooling(kernel: 3, stride: 1, padding: 2))
            ],
            says: ["layer p", "padding is 2", "at most half"]),
        Refusal(
            description: "kernel of a flat input",
            layers: [linear("fc", 9), convolution("c", 4, kernel: 3)],
            says: ["layer c", "9 x 1 x 1"]),
        Refusal(
            description: "probability 1",
            layers: [LayerConfiguration(name: "d", kind: .dropout(probability: 1))],
            says: ["layer d", "probability is 1.0"]),
        Refusal(
            description: "probability nan",
            layers: [LayerConfiguration(name: "d", kind: .dropout(probability: .nan))],
            says: ["layer d", "probability is nan"]),
        Refusal(
            description: "response to no channel",
            layers: [LayerConfiguration(name: "r", kind: .localResponseNormalisation(size: 0))],
            says: ["layer r", "size is 0", "expected 1 to"]),
        Refusal(
            description: "response of zero",
            layers: [
                LayerConfiguration(name: "r", kind: .localResponseNormalisation(size: 3, k: 0))
            ],
            says: ["layer r", "k is 0.0", "above 0"]),
        Refusal(
            description: "negative response",
            layers: [
                LayerConfiguration(
                    name: "r", kind: .localResponseNormalisation(size: 3, alpha: -1))
            ],
            says: ["layer r", "alpha is -1.0"]),
        Refusal(
            description: "response without a power",
            layers: [
                LayerConfiguration(
                    name: "r", kind: .localResponseNormalisation(size: 3, beta: .nan))
            ],
            says: ["layer r", "beta is nan"]),
        Refusal(
            description: "no epsilon",
            layers: [LayerConfiguration(name: "b", kind: .batchNormalisation(epsilon: 0))],
            says: ["layer b", "eps is 0.0", "above 0"]),
        Refusal(
            description: "momentum over 1",
            layers: [LayerConfiguration(name: "b", kind: .batchNormalisation(momentum: 1.5))],
            says: ["layer b", "momentum is 1.5", "0 to 1"]),
        Refusal(
            description: "too many values",
            layers: [linear("a", 1 << 30), linear("b", 1 << 30)],
            says: ["layer b", "expected at most"]),
        Refusal(
            description: "huge numbers",
            layers: [convolution("c", 4, kernel: .max, stride: 1, padding: .max)],
            says: ["layer c", "kernel is"]),
    ]

    @Test(arguments: refusals)
    func refusesAndSaysWhatWasFound(_ refusal: Refusal) {
        let error = #expect(throws: NNError.self) {
            try Network(
                ModelConfiguration(layers: refusal.layers),
                input: Shape(channels: 1, height: 6, width: 6), batchSize: 2)
        }
        #expect(error?.code == .model)
        for words in refusal.says { #expect(error?.message.contains(words) == true, "\(error!)") }
    }

    @Test func takesTheLargestKernelAndPaddingThatFit() throws {
        let input = Shape(channels: 1, height: 6, width: 6)
        let one = try Network(
            ModelConfiguration(layers: [convolution("c", 4, kernel: 6)]), input: input,
            batchSize: 1)
        #expect(one.classCount == 4)
        let padded = try Network(
            ModelConfiguration(layers: [
                LayerConfiguration(name: "p", kind: .maxPooling(kernel: 2, stride: 2, padding: 1))
            ]), input: input, batchSize: 1)
        #expect(padded.classCount == 16)
    }

    @Test(arguments: [0, -1]) func refusesABatchOf(_ size: Int) {
        #expect(throws: NNError.self) {
            try Network(.mlp(hidden: []), input: Shape(channels: 4), batchSize: size)
        }
    }

    @Test(arguments: Bed.allCases) func theLossRefusesALabelThatIsNoClass(on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                [linear("fc", 3)], input: Shape(channels: 2), batchSize: 2, on: target)
            for label: Int32 in [-1, 3] {
                _ = bench.memory.labels.update(fromContentsOf: [0, label])
                let error = #expect(throws: NNError.self) { try bench.run() }
                #expect(error?.code == .data)
                #expect(error?.message.contains("expected 0 to 2") == true)
            }
            _ = bench.memory.labels.update(fromContentsOf: [0, 2])
            try bench.run()
        }
    }

    @Test func theThreadCountOfKernelsIsWhatWasSet() {
        for count in [2, 1] {
            #expect(ComputeThreads.set(count) == count)
            #expect(ComputeThreads.current == count)
        }
    }
}
