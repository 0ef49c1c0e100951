import Testing

@testable import GeePSNN

struct LSTMCase: Sendable, CustomStringConvertible {
    var name: String
    var keeps: KeptSteps

    var description: String { "\(name), \(keeps)" }

    static let all = [
        "several", "wide", "one_step", "one_sample", "one_value", "saturated",
    ].flatMap { name in KeptSteps.allCases.map { LSTMCase(name: name, keeps: $0) } }

    /// As it is called in the fixture.
    var key: String { "\(name)_\(keeps)" }
}

/// The fixture made by Benchmarks/oracles/make_lstm_references.py.
private let fixture = Fixture(file: "lstm.ref")

private func lstm(_ out: Int, steps: Int, _ keeps: KeptSteps) -> LayerKind {
    .lstm(out: out, steps: steps, keeps: keeps)
}

extension Bench {
    /// Fills input and parameters from `key` of the fixture.
    fileprivate func take(_ key: String, prefix: (ParameterTensor) -> String) {
        fill(fixture["\(key)/input"].values)
        for (index, layer) in network.parameters.enumerated() {
            for tensor in layer.tensors {
                let reference = fixture["\(key)/\(prefix(tensor))"]
                #expect(reference.shape == tensor.shape)
                _ = values(tensor, of: index).update(fromContentsOf: reference.values)
            }
        }
    }

    /// Runs both passes from the fixture's gradient of the output, and compares with what PyTorch has.
    fileprivate func expect(
        _ key: String, within tolerance: Double, prefix: (ParameterTensor) -> String
    ) throws {
        try forward()
        #expect(relativeError(memory.logits, fixture["\(key)/output"].values) < tolerance)
        _ = logitsGradient.update(fromContentsOf: fixture["\(key)/output_gradient"].values)
        try backward()
        #expect(relativeError(inputGradient, fixture["\(key)/input_gradient"].values) < tolerance)
        for (index, layer) in network.parameters.enumerated() {
            for tensor in layer.tensors {
                let expected = fixture["\(key)/\(prefix(tensor)).gradient"].values
                let error = relativeError(gradient(tensor, of: index), expected)
                #expect(error < tolerance, "\(tensor.name)")
            }
        }
    }
}

@Suite struct LSTMLayerTests {
    @Test(arguments: LSTMCase.all, Bed.allCases)
    func equalsPyTorchForwardAndBackward(_ reference: LSTMCase, on bed: Bed) throws {
        try bed.run { target in
            let shape = fixture["\(reference.key)/input"].shape
            let width = fixture["\(reference.key)/weight_hh_l0"].shape[1]
            let bench = try Bench(
                lstm(width, steps: shape[1], reference.keeps),
                input: Shape(channels: shape[1] * shape[2]), batchSize: shape[0], on: target)
            let prefix = { (tensor: ParameterTensor) in
                String(tensor.name.dropFirst("layer.".count))
            }
            bench.take(reference.key, prefix: prefix)
            #expect(
                bench.network.parameters[0].tensors.map(\.name) == [
                    "layer.weight_ih_l0", "layer.weight_hh_l0", "layer.bias_ih_l0",
                    "layer.bias_hh_l0",
                ])
            try bench.expect(reference.key, within: 1e-6, prefix: prefix)
        }
    }

    /// Convolutions have their results channels last on the host.
    @Test(arguments: Bed.allCases)
    func readsAnImageInTheOrderOfChannelsRowsAndColumns(on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                [
                    LayerConfiguration(
                        name: "conv1", kind: .convolution(out: 4, kernel: 3, stride: 1, padding: 1)),
                    LayerConfiguration(name: "lstm1", kind: lstm(7, steps: 12, .all)),
                    LayerConfiguration(name: "fc1", kind: .linear(out: 5)),
                ], input: Shape(channels: 2, height: 6, width: 5), batchSize: 3, on: target)
            bench.take("network", prefix: \.name)
            try bench.expect("network", within: 2e-6, prefix: \.name)
        }
    }

    @Test(arguments: KeptSteps.allCases, [1, 5])
    func gradientsAgreeWithDifferences(_ keeps: KeptSteps, steps: Int) throws {
        let bench = try Bench(
            lstm(6, steps: steps, keeps), input: Shape(channels: 5, height: 3, width: 1),
            batchSize: 3)
        bench.fill(randomValues(bench.memory.input.count, seed: 3))
        let weights = randomValues(bench.memory.logits.count, seed: 5)
        try bench.forward()
        _ = bench.logitsGradient.update(fromContentsOf: weights)
        try bench.backward()
        let function = { () throws(NNError) -> Double in
            try bench.forward()
            return zip(bench.memory.logits, weights).reduce(0) { $0 + Double($1.0) * Double($1.1) }
        }
        let checker = GradientChecker(step: 1e-2, sampleCount: 60)
        let worst = try checker.worst(
            bench.memory.input, gradient: bench.inputGradient, floor: 5e-2, function)
        #expect(worst.error < 2e-3, "input: \(worst)")
        for tensor in bench.network.parameters[0].tensors {
            let worst = try checker.worst(
                bench.values(tensor, of: 0), gradient: bench.gradient(tensor, of: 0), floor: 5e-2,
                function)
            #expect(worst.error < 2e-3, "\(tensor.name): \(worst)")
        }
    }

    @Test(arguments: KeptSteps.allCases)
    func outputIsAStepAChannelOrTheLastStep(_ keeps: KeptSteps) throws {
        let network = try Network(
            ModelConfiguration(layers: [
                LayerConfiguration(name: "a", kind: lstm(3, steps: 4, keeps)),
                // Sees a row of three values in each of four channels, or three channels of one value.
                LayerConfiguration(
                    name: "b", kind: .convolution(out: 2, kernel: 1, stride: 1, padding: 0)),
            ]), input: Shape(channels: 8), batchSize: 2)
        let weight = network.parameters[1].tensors[0]
        #expect(weight.shape == [2, keeps == .all ? 4 : 3, 1, 1])
        #expect(network.classCount == (keeps == .all ? 2 * 3 : 2))
    }

    @Test func stepsMustDivideTheInput() throws {
        func network(_ steps: Int, out: Int = 2) throws -> Network {
            try Network(
                ModelConfiguration(layers: [
                    LayerConfiguration(name: "rnn", kind: lstm(out, steps: steps, .last))
                ]), input: Shape(channels: 2, height: 3, width: 5), batchSize: 1)
        }
        for steps in [1, 2, 15, 30] { _ = try network(steps) }
        for steps in [4, 31] {
            let error = #expect(throws: NNError.self) { try network(steps) }
            #expect(error?.code == .model)
            #expect(
                error?.message
                    == "layer rnn: found an input of 2 x 3 x 5 = 30 values for \(steps) steps, expected "
                    + "a multiple of \(steps)")
        }
        let error = #expect(throws: NNError.self) { try network(0) }
        #expect(error?.message == "layer rnn: found 0 steps, expected 1 to 1073741824")
        #expect(throws: NNError.self) { try network(2, out: 0) }
        #expect(throws: NNError.self) { try network(2, out: 1 << 30) }
    }

    @Test(arguments: KeptSteps.allCases, Bed.allCases)
    func inferenceGivesTheSameBits(_ keeps: KeptSteps, on bed: Bed) throws {
        try bed.run { target in
            let benches = try [Network.Purpose.training, .inference].map {
                let bench = try Bench(
                    lstm(9, steps: 4, keeps), input: Shape(channels: 20), batchSize: 3, purpose: $0,
                    on: target)
                bench.fill(randomValues(60, seed: 1))
                try bench.forward()
                return bench
            }
            #expect(Array(benches[0].memory.logits) == Array(benches[1].memory.logits))
            #expect(benches[1].network.tensors.allSatisfy { $0.role != .workspace })
        }
    }

    @Test(arguments: KeptSteps.allCases, Bed.allCases)
    func backwardLeavesWhatForwardLeft(_ keeps: KeptSteps, on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                lstm(9, steps: 4, keeps), input: Shape(channels: 20), batchSize: 3, on: target)
            bench.fill(randomValues(60, seed: 1))
            let parameters = (0..<bench.network.valueCount).map { bench.parameters[0][$0] }
            try bench.run()
            let count = bench.network.valueCount
            let gradients = (0..<count).map { bench.gradients[0][$0] }
            let inputGradient = bench.inputGradient
            // Neither is added to what is there, nor does a margin hold anything.
            try bench.backward()
            #expect((0..<count).map { bench.gradients[0][$0] } == gradients)
            #expect(bench.inputGradient == inputGradient)
            #expect(gradients.allSatisfy { $0 != -77 })
            #expect((count..<(count + Bench.margin)).allSatisfy { bench.gradients[0][$0] == -77 })
            #expect((0..<count).map { bench.parameters[0][$0] } == parameters)
        }
    }

    @Test func gatesAreAllThatLivesUntilTheBackwardPass() throws {
        let network = try Network(
            ModelConfiguration(layers: [
                LayerConfiguration(name: "rnn", kind: lstm(9, steps: 4, .last))
            ]), input: Shape(channels: 20), batchSize: 3)
        let workspaces = network.tensors.filter { $0.role == .workspace }
        #expect(workspaces.map(\.byteCount) == [3 * 4 * 4 * 9 * 4])
        let step = try #require(network.steps.first { $0.kind == .backward(layer: 0) })
        let read = step.accesses.filter(\.fetch).map { network.tensors[$0.tensor].name }
        #expect(read.sorted() == ["input", "rnn.output.gradient", "rnn.workspace"])
    }

    @Test func notANumberStaysOne() throws {
        let bench = try Bench(
            lstm(17, steps: 2, .all), input: Shape(channels: 4), batchSize: 2)
        // The second step of the first sample.
        bench.fill([1, 2, .nan, 4, 5, 6, 7, 8])
        try bench.forward()
        let isNaN = bench.memory.logits.map(\.isNaN)
        #expect(isNaN == (0..<68).map { 17..<34 ~= $0 })
    }

    @Test func weightsStartAsPyTorchStartsThem() throws {
        let bench = try Bench(lstm(64, steps: 2, .last), input: Shape(channels: 40), batchSize: 1)
        for tensor in bench.network.parameters[0].tensors {
            let largest = bench.values(tensor, of: 0).map(abs).max() ?? 0
            #expect(largest <= 0.125 && largest > 0.12, "\(tensor.name)")
        }
    }

    @Test func multiplyAddsAreThoseOfInputAndHiddenValues() {
        for keeps in KeptSteps.allCases {
            let model = ModelConfiguration(layers: [
                LayerConfiguration(name: "rnn", kind: lstm(7, steps: 5, keeps)),
                LayerConfiguration(name: "fc", kind: .linear(out: 3)),
            ])
            // Before the first step all hidden values are zero.
            let recurrent = 5 * 2 * 28 + 4 * 7 * 28
            let linear = (keeps == .all ? 35 : 7) * 3
            #expect(model.multiplyAdds(input: Shape(channels: 10)) == recurrent + linear)
        }
    }
}
