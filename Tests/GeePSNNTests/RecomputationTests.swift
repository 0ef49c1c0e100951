import GeePSMemory
import Testing

@testable import GeePSNN

/// Steps that run a layer forward again, over memory that forgets what is not kept.
@Suite struct RecomputationTests {
    struct Model: Sendable, CustomStringConvertible {
        var description: String
        var layers: [LayerConfiguration]
    }

    static let models = [
        Model(
            description: "convolutions",
            layers: [
                layer("conv1", .convolution(out: 4, kernel: 3, stride: 1, padding: 1)),
                layer("relu1", .relu),
                layer("pool1", .maxPooling(kernel: 2, stride: 2, padding: 0)),
                layer("drop1", .dropout(probability: 0.3)),
                layer("conv2", .convolution(out: 5, kernel: 3, stride: 1, padding: 1)),
                layer("tanh2", .tanh), layer("drop2", .dropout(probability: 0.4)),
                layer("relu2", .relu),
                layer("pool2", .averagePooling(kernel: 2, stride: 2, padding: 0)),
                layer("fc", .linear(out: 7)),
            ]),
        Model(
            description: "perceptron",
            layers: [
                layer("drop0", .dropout(probability: 0.2)), layer("fc1", .linear(out: 12)),
                layer("relu1", .relu), layer("drop1", .dropout(probability: 0.5)),
                layer("fc2", .linear(out: 9)), layer("sigmoid2", .sigmoid),
                layer("fc3", .linear(out: 4)),
            ]),
        Model(
            description: "normalisations",
            layers: [
                layer("conv1", .convolution(out: 4, kernel: 3, stride: 1, padding: 1)),
                layer("bn1", .batchNormalisation()), layer("relu1", .relu),
                layer("lrn1", .localResponseNormalisation(size: 3, alpha: 0.5)),
                layer("bn2", .batchNormalisation(isAffine: false)),
                layer("fc1", .linear(out: 9)), layer("bn3", .batchNormalisation()),
                layer("fc2", .linear(out: 4)),
            ]),
        Model(description: "lenet", layers: ModelConfiguration.lenet().layers),
    ]

    private static func layer(_ name: String, _ kind: LayerKind) -> LayerConfiguration {
        LayerConfiguration(name: name, kind: kind)
    }

    private func bench(_ model: Model, on target: ComputeTarget = .host) throws -> Bench {
        let bench = try Bench(
            model.layers, input: Shape(channels: 2, height: 8, width: 8), batchSize: 3, on: target)
        bench.fill(randomValues(bench.memory.input.count, seed: 2))
        _ = bench.memory.labels.update(fromContentsOf: [1, 0, 2])
        return bench
    }

    /// Runs `steps`; what a step gives back without keeping it becomes NaN.
    private func run(
        _ steps: [NetworkStep], _ model: Model, on target: ComputeTarget = .host
    ) throws -> [UInt32] {
        let bench = try bench(model, on: target)
        var bits: [UInt32] = []
        for step in steps {
            if let result = try bench.run([step]) {
                let halves = result.meanLoss.bitPattern
                bits += [UInt32(truncatingIfNeeded: halves), UInt32(halves >> 32)]
            }
            for access in step.accesses where !access.keep {
                let bytes = UnsafeMutableRawBufferPointer(
                    start: bench.memory.tensors[access.tensor],
                    count: bench.network.tensors[access.tensor].byteCount)
                for index in bytes.indices { bytes[index] = 0xFF }
            }
        }
        for (index, parameters) in bench.network.parameters.enumerated() {
            for tensor in parameters.tensors {
                bits += bench.gradient(tensor, of: index).map(\.bitPattern)
            }
        }
        for state in bench.memory.stateValues { bits += state.map(\.bitPattern) }
        return bits + bench.inputGradient.map(\.bitPattern)
    }

    @Test(arguments: models) func droppingNothingChangesNoStep(_ model: Model) throws {
        let network = try bench(model).network
        #expect(network.steps(recomputing: []) == network.steps)
    }

    @Test(arguments: models) func everyChoiceOfLayersGivesTheSameBits(_ model: Model) throws {
        let network = try bench(model).network
        let expected = try run(network.steps, model)
        #expect(expected.count { $0 == 0xFFFF_FFFF } == 0)
        let count = network.recomputeUnits.count
        for choice in 1..<(1 << count) {
            let units = Set((0..<count).filter { choice >> $0 & 1 == 1 })
            let steps = network.steps(recomputing: units)
            let isEqual = try run(steps, model) == expected
            #expect(isEqual, "units \(units.sorted())")
        }
    }

    @Test(arguments: models) func recomputingGivesTheSameBitsOnAGPU(_ model: Model) throws {
        try Bed.cuda.run { target in
            let network = try bench(model, on: target).network
            let expected = try run(network.steps, model, on: target)
            #expect(expected.count { $0 == 0xFFFF_FFFF } == 0)
            let all = network.recomputeUnits.indices
            for units in all.map({ [$0] }) + [Array(all)] {
                let steps = network.steps(recomputing: Set(units))
                let isEqual = try run(steps, model, on: target) == expected
                #expect(isEqual, "units \(units)")
            }
        }
    }

    @Test(arguments: models) func whatIsRecomputedIsDroppedInTheForwardPass(_ model: Model) throws {
        let network = try bench(model).network
        let read = network.tensorsReadBackward
        for (index, unit) in network.recomputeUnits.enumerated() {
            let steps = network.steps(recomputing: [index])
            let again = steps.indices.filter {
                if case .recompute(let layer) = steps[$0].kind {
                    return unit.layers.contains(layer)
                }
                return false
            }
            #expect(again.isEmpty == read.isDisjoint(with: unit.tensors))
            guard let first = again.first else { continue }
            // In order, once each, and directly before the step that needs them.
            #expect(again.count == unit.layers.count)
            #expect(Array(again) == Array(first..<(first + again.count)))
            let next = steps[first + again.count]
            #expect(next.accesses.contains { $0.fetch && unit.tensors.contains($0.tensor) })
            for tensor in unit.tensors {
                let last = steps[..<first].last { $0.accesses.contains { $0.tensor == tensor } }
                let access = last?.accesses.first { $0.tensor == tensor }
                #expect(access?.keep == false, "\(network.tensors[tensor].name)")
            }
        }
    }

    @Test func aLayerInPlaceIsMadeAgainWithTheLayerItOverwrote() throws {
        let network = try bench(Self.models[3]).network
        let unit = try #require(network.recomputeUnits.firstIndex { $0.layers.count == 2 })
        let names = network.steps(recomputing: [unit]).map(network.name(of:))
        let first = try #require(names.firstIndex(of: "conv1 forward again"))
        #expect(names[first + 1] == "relu1 forward again")
        #expect(names[first + 2] == "relu1 backward")
    }
}
