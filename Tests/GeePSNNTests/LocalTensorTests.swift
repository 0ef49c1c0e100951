import Testing

@testable import GeePSNN

@Suite struct LocalTensorTests {
    private static let models: [ModelConfiguration] = [
        .lenet(), .mlp(hidden: [12, 9]),
        ModelConfiguration(layers: [
            LayerConfiguration(name: "drop0", kind: .dropout(probability: 0.2)),
            LayerConfiguration(
                name: "conv", kind: .convolution(out: 5, kernel: 3, stride: 1, padding: 1)),
            LayerConfiguration(name: "tanh", kind: .tanh),
            LayerConfiguration(name: "drop", kind: .dropout(probability: 0.2)),
            LayerConfiguration(name: "relu", kind: .relu),
            LayerConfiguration(name: "pool", kind: .maxPooling(kernel: 2, stride: 2, padding: 0)),
            LayerConfiguration(name: "flat", kind: .flatten),
            LayerConfiguration(name: "fc", kind: .linear(out: 10)),
        ]),
        ModelConfiguration(layers: [
            LayerConfiguration(name: "bn0", kind: .batchNormalisation(isAffine: false)),
            LayerConfiguration(
                name: "conv", kind: .convolution(out: 5, kernel: 3, stride: 1, padding: 1)),
            LayerConfiguration(name: "bn1", kind: .batchNormalisation()),
            LayerConfiguration(name: "relu", kind: .relu),
            LayerConfiguration(name: "lrn", kind: .localResponseNormalisation(size: 3)),
            LayerConfiguration(name: "fc1", kind: .linear(out: 9)),
            LayerConfiguration(name: "bn2", kind: .batchNormalisation()),
            LayerConfiguration(name: "fc2", kind: .linear(out: 10)),
        ]),
    ]

    private func name(_ network: Network, _ access: LocalAccess) -> String {
        network.tensors[access.tensor].name + (access.fetch ? " fetch" : "")
            + (access.keep ? " keep" : "") + (access.writes ? " write" : "")
    }

    @Test func aReluAfterALinearLayerTakesNoMemoryOfItsOwn() throws {
        let network = try Network(
            .mlp(hidden: [6], classes: 3), input: Shape(channels: 4), batchSize: 2)
        #expect(
            network.tensors.filter { $0.role != .scratch }.map(\.name) == [
                "input", "labels", "fc1.output", "fc1.output.gradient", "fc2.output",
                "fc2.output.gradient",
            ])
        #expect(network.tensors[2].byteCount == 48)
        let steps = network.steps.map { step in
            step.accesses.filter { network.tensors[$0.tensor].role != .scratch }
                .map { name(network, $0) }
        }
        #expect(
            steps == [
                ["input keep write", "labels keep write"],
                ["input fetch keep", "fc1.output keep write"],
                ["fc1.output fetch keep write"],
                ["fc1.output fetch keep", "fc2.output keep write"],
                ["labels fetch", "fc2.output fetch", "fc2.output.gradient keep write"],
                [
                    "fc1.output fetch keep", "fc1.output.gradient keep write",
                    "fc2.output.gradient fetch",
                ],
                ["fc1.output fetch", "fc1.output.gradient fetch keep write"],
                ["input fetch", "fc1.output.gradient fetch"],
            ])
        // The lowest layer computes no gradient of its input, so it does not read its weights again.
        #expect(network.steps.map(\.parametersRead) == [nil, 0, nil, 1, nil, 1, nil, nil])
        #expect(network.steps.map(\.parametersUpdated) == [nil, nil, nil, nil, nil, 1, nil, 0])
    }

    @Test func aLayerWhoseBackwardPassNeedsItsOutputIsNotOverwritten() throws {
        let network = try Network(
            ModelConfiguration(layers: [
                LayerConfiguration(name: "fc", kind: .linear(out: 4)),
                LayerConfiguration(name: "tanh", kind: .tanh),
                LayerConfiguration(name: "relu", kind: .relu),
            ]), input: Shape(channels: 4), batchSize: 1)
        #expect(
            network.tensors.filter { $0.role == .activation }.map(\.name) == [
                "fc.output", "relu.output",
            ])
    }

    /// What a memory budget does to local tensors: a tensor that is not kept is lost, one that is not
    /// fetched arrives with nonsense, and each step sees its own tensors only.
    @Test(arguments: models, [Network.Purpose.training, .inference])
    func everyResultIsTheSameWhenOnlyWhatTheFlagsSayIsKept(
        _ model: ModelConfiguration, _ purpose: Network.Purpose
    ) throws {
        let bench = try Bench(
            model.layers, input: Shape(channels: 2, height: 8, width: 8), batchSize: 3,
            purpose: purpose, wantsInputGradient: false)
        let network = bench.network
        let input = randomValues(bench.memory.input.count, seed: 2)
        bench.fill(input)
        _ = bench.memory.labels.update(fromContentsOf: [1, 0, 2])
        let states = bench.memory.stateValues
        let expected = try #require(try bench.run())
        let expectedGradients = gradients(bench)
        let expectedLogits = Array(bench.memory.logits)
        for (layer, pointer) in bench.gradients.enumerated() where purpose == .training {
            pointer.update(repeating: 5, count: network.parameters[layer].valueCount)
        }

        var store = network.tensors.map { [UInt8](repeating: 0x7F, count: $0.byteCount) }
        for (values, tensor) in zip(states, network.stateTensors) {
            store[tensor] = values.withUnsafeBytes { Array($0) }
        }
        let found = try runMoving(bench, store, input)
        #expect(found.result == expected)
        #expect(found.states == bench.memory.stateValues)
        let isEqual = gradients(bench) == expectedGradients
        #expect(isEqual)
        if purpose == .inference {
            #expect(found.logits == expectedLogits)
        }
    }

    private func gradients(_ bench: Bench) -> [[Float]] {
        bench.network.parameters.enumerated().map { layer, parameters in
            parameters.tensors.flatMap { bench.gradient($0, of: layer) }
        }
    }

    private func runMoving(
        _ bench: Bench, _ initial: [[UInt8]], _ input: [Float]
    ) throws -> (result: BatchResult?, logits: [Float], states: [[Float]]) {
        let network = bench.network
        var store = initial
        var result: BatchResult?
        for step in network.steps {
            // NaN everywhere: what is not fetched must not be read.
            let pointers = UnsafeMutablePointer<UnsafeMutableRawPointer?>.allocate(
                capacity: network.tensors.count)
            pointers.initialize(repeating: nil, count: network.tensors.count)
            defer { pointers.deallocate() }
            for access in step.accesses {
                let bytes = network.tensors[access.tensor].byteCount
                let memory = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
                memory.initializeMemory(as: UInt8.self, repeating: 0xFF, count: bytes)
                if access.fetch {
                    memory.copyMemory(from: store[access.tensor], byteCount: bytes)
                }
                pointers[access.tensor] = memory
            }
            if step.kind == .load {
                pointers[network.inputTensor]!.copyMemory(from: input, byteCount: input.count * 4)
                pointers[network.labelsTensor]!.copyMemory(
                    from: [Int32(1), 0, 2], byteCount: 12)
            }
            var memory = StepMemory(tensors: pointers, noise: bench.noise)
            memory.parameters = step.parametersRead.map { UnsafePointer(bench.parameters[$0]) }
            memory.parameterGradients = step.parametersUpdated.map { bench.gradients[$0] }
            if let answer = try network.run(step, memory) { result = answer }
            for access in step.accesses {
                let pointer = pointers[access.tensor]!
                let bytes = UnsafeRawBufferPointer(
                    start: pointer, count: network.tensors[access.tensor].byteCount)
                if !access.writes && access.fetch {
                    #expect(Array(bytes) == store[access.tensor], "\(name(network, access))")
                }
                store[access.tensor] =
                    access.keep ? Array(bytes) : [UInt8](repeating: 0xFF, count: bytes.count)
                pointer.deallocate()
            }
        }
        func floats(_ tensor: Int) -> [Float] {
            store[tensor].withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        }
        return (result, floats(network.logitsTensor), network.stateTensors.map(floats))
    }
}
