import Testing

@testable import GeePSNN

@Suite struct BatchNormalisationTests {
    struct Case: Sendable, CustomStringConvertible {
        var name: String
        var kind: LayerKind
        var description: String { name }

        static let all = [
            Case(name: "batch_norm", kind: .batchNormalisation(epsilon: 1e-3, momentum: 0.3)),
            Case(name: "batch_norm_flat", kind: .batchNormalisation()),
            Case(name: "batch_norm_plain", kind: .batchNormalisation(isAffine: false)),
        ]

        var shape: [Int] { Fixture.layers["\(name)/input"].shape }

        func bench(_ purpose: Network.Purpose, on target: ComputeTarget) throws -> Bench {
            let input =
                shape.count == 4
                ? Shape(channels: shape[1], height: shape[2], width: shape[3])
                : Shape(channels: shape[1])
            let bench = try Bench(
                [LayerConfiguration(name: "layer", kind: kind)], input: input, batchSize: shape[0],
                purpose: purpose, on: target, wantsInputGradient: purpose == .training)
            for tensor in bench.network.parameters.first?.tensors ?? [] {
                _ = bench.values(tensor, of: 0).update(
                    fromContentsOf: Fixture.layers["\(name)/\(tensor.name.dropFirst(6))"].values)
            }
            return bench
        }
    }

    private func runningStatistics(_ bench: Bench) -> [String: [Float]] {
        let values = bench.memory.stateValues[0]
        return Dictionary(
            uniqueKeysWithValues: bench.network.states[0].tensors.map {
                (String($0.name.dropFirst(6)), Array(values[$0.range]))
            })
    }

    @Test(arguments: Case.all, Bed.allCases)
    func threeBatchesAndAnEvaluationAreThoseOfPyTorch(_ test: Case, on bed: Bed) throws {
        try bed.run { try compare(test, on: $0) }
    }

    private func compare(_ test: Case, on target: ComputeTarget) throws {
        let fixture = Fixture.layers
        let bench = try test.bench(.training, on: target)
        for (name, values) in runningStatistics(bench) {
            #expect(values == fixture["\(test.name)/\(name)"].values)
        }
        for batch in ["input0", "input1", "input"] {
            bench.fill(fixture["\(test.name)/\(batch)"].values)
            try bench.forward()
        }
        let output = fixture["\(test.name)/output"].values
        #expect(relativeError(bench.memory.logits, output) < 1e-6)
        _ = bench.logitsGradient.update(
            fromContentsOf: fixture["\(test.name)/output_gradient"].values)
        try bench.backward()
        let inputGradient = fixture["\(test.name)/input_gradient"].values
        #expect(relativeError(bench.inputGradient, inputGradient) < 1e-6)
        for tensor in bench.network.parameters.first?.tensors ?? [] {
            let name = "\(test.name)/\(tensor.name.dropFirst(6)).gradient"
            let error = relativeError(bench.gradient(tensor, of: 0), fixture[name].values)
            #expect(error < 1e-6, "\(tensor.name)")
        }
        for (name, values) in runningStatistics(bench) {
            let error = relativeError(values, fixture["\(test.name)/\(name).after"].values)
            #expect(error < 1e-6, "\(name)")
        }
        let evaluation = try test.bench(.inference, on: target)
        evaluation.memory.write(
            NetworkStates(values: bench.memory.stateValues, batchCounts: [3]))
        evaluation.fill(fixture["\(test.name)/input"].values)
        try evaluation.forward()
        let evaluated = fixture["\(test.name)/evaluated"].values
        #expect(relativeError(evaluation.memory.logits, evaluated) < 1e-6)
        #expect(evaluation.memory.stateValues == bench.memory.stateValues)
    }

    /// Values far from zero beside their spread, in more rows than a block of sums has.
    @Test func manyValuesFarFromZeroAreNormalisedWell() throws {
        let input = Shape(channels: 3, height: 17, width: 19)
        let bench = try Bench(.batchNormalisation(momentum: 1), input: input, batchSize: 8)
        let values = randomValues(bench.memory.input.count, seed: 3).map { 1000 + $0 }
        bench.fill(values)
        try bench.forward()
        let plane = 17 * 19
        for channel in 0..<3 {
            let own = (0..<8).flatMap { sample in
                let start = (sample * 3 + channel) * plane
                return values[start..<(start + plane)].map(Double.init)
            }
            let mean = own.reduce(0, +) / Double(own.count)
            let variance = own.reduce(0) { $0 + ($1 - mean) * ($1 - mean) } / Double(own.count - 1)
            let state = bench.memory.stateValues[0]
            let offsets = bench.network.states[0].tensors.map(\.offset)
            #expect(abs(Double(state[offsets[0] + channel]) / mean - 1) < 1e-7)
            #expect(abs(Double(state[offsets[1] + channel]) / variance - 1) < 1e-5)
        }
    }

    @Test(arguments: Bed.allCases)
    func aValueThatIsNoNumberSpoilsItsChannelAlone(on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                .batchNormalisation(), input: Shape(channels: 2), batchSize: 3, on: target)
            bench.fill([.nan, 1, 2, 3, 4, 5])
            try bench.forward()
            let isNaN = bench.memory.logits.map(\.isNaN)
            #expect(isNaN == [true, false, true, false, true, false])
        }
    }

    /// A layer that runs again, and one whose gradients nobody below wants.
    @Test(arguments: Bed.allCases)
    func runningAgainChangesNoStatistics(on bed: Bed) throws {
        let layers = [
            LayerConfiguration(name: "bn0", kind: .batchNormalisation()),
            LayerConfiguration(name: "tanh", kind: .tanh),
            LayerConfiguration(name: "bn1", kind: .batchNormalisation(isAffine: false)),
            LayerConfiguration(name: "fc", kind: .linear(out: 3)),
        ]
        func run(_ target: ComputeTarget, again: Bool) throws -> [Float] {
            let bench = try Bench(
                layers, input: Shape(channels: 2, height: 3, width: 3), batchSize: 4, on: target,
                wantsInputGradient: false)
            bench.fill(randomValues(bench.memory.input.count, seed: 1))
            _ = bench.memory.labels.update(fromContentsOf: [0, 1, 2, 0])
            let units = again ? Set(bench.network.recomputeUnits.indices) : []
            let steps = bench.network.steps(recomputing: units)
            let names = steps.map(bench.network.name(of:))
            #expect(names.contains("bn0 forward again") == again)
            #expect(names.contains("bn1 forward again") == again)
            try bench.run(steps)
            return bench.memory.stateValues.flatMap { $0 }
                + bench.network.parameters.enumerated().flatMap { index, layer in
                    layer.tensors.flatMap { bench.gradient($0, of: index) }
                }
        }
        let expected = try run(.host, again: false)
        try bed.run { target in
            for again in [false, true] {
                let found = try run(target, again: again)
                #expect(relativeError(found, expected) < 1e-6)
            }
        }
    }

    @Test func oneValueAChannelIsRefusedInTrainingAlone() throws {
        let model = ModelConfiguration(layers: [
            LayerConfiguration(name: "bn", kind: .batchNormalisation())
        ])
        let error = #expect(throws: NNError.self) {
            try Network(model, input: Shape(channels: 5), batchSize: 1)
        }
        #expect(error?.code == .model)
        #expect(
            error?.message.hasPrefix(
                "layer bn: a batch has 1 value of each channel, expected at least 2") == true)
        _ = try Network(model, input: Shape(channels: 5), batchSize: 2)
        _ = try Network(model, input: Shape(channels: 5, height: 1, width: 2), batchSize: 1)
        _ = try Network(model, input: Shape(channels: 5), batchSize: 1, purpose: .inference)
    }

    /// What the layer remembers is neither a parameter nor part of a step that runs again.
    @Test func runningStatisticsAreStateOfTheWorker() throws {
        let network = try Network(
            ModelConfiguration(layers: [
                LayerConfiguration(
                    name: "conv", kind: .convolution(out: 3, kernel: 3, stride: 1, padding: 1)),
                LayerConfiguration(name: "bn", kind: .batchNormalisation()),
                LayerConfiguration(name: "fc", kind: .linear(out: 4)),
            ]), input: Shape(channels: 2, height: 4, width: 4), batchSize: 2)
        #expect(
            network.parameters.flatMap(\.tensors).map(\.name) == [
                "conv.weight", "conv.bias", "bn.weight", "bn.bias", "fc.weight", "fc.bias",
            ])
        let state = try #require(network.states.first)
        #expect(state.tensors.map(\.name) == ["bn.running_mean", "bn.running_var"])
        #expect(state.tensors.map(\.range) == [0..<3, 16..<19])
        #expect(state.batchCountName == "bn.num_batches_tracked")
        let tensor = network.stateTensors[0]
        #expect(network.tensors[tensor].role == .state)
        let users = network.steps.filter { $0.accesses.contains { $0.tensor == tensor } }
        #expect(users.map(network.name(of:)) == ["bn forward"])
        #expect(
            users[0].accesses.first { $0.tensor == tensor }
                == LocalAccess(tensor: tensor, fetch: true, keep: true, writes: true))
        let again = network.steps(recomputing: Set(network.recomputeUnits.indices)).filter {
            if case .recompute = $0.kind { true } else { false }
        }
        #expect(again.map(network.name(of:)).contains("bn forward again"))
        #expect(!again.contains { $0.accesses.contains { $0.tensor == tensor } })
    }
}
