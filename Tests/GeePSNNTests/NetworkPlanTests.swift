import GeePSMemory
import Testing

@testable import GeePSNN

@Suite struct NetworkPlanTests {
    /// Convolutions of large activations and few parameters.
    private func network() throws -> Network {
        var layers: [LayerConfiguration] = []
        for index in 1...8 {
            layers.append(
                LayerConfiguration(
                    name: "conv\(index)",
                    kind: .convolution(out: 8, kernel: 3, stride: 1, padding: 1)))
            layers.append(LayerConfiguration(name: "relu\(index)", kind: .relu))
        }
        layers.append(LayerConfiguration(name: "fc", kind: .linear(out: 10)))
        return try Network(
            ModelConfiguration(layers: layers), input: Shape(channels: 1, height: 16, width: 16),
            batchSize: 8)
    }

    /// 64 KiB an activation: 66 microseconds a copy at 1 GB/s.
    private func options(
        _ network: Network, bytesPerSecond: Double, stepNanoseconds: UInt64 = 20_000
    ) throws -> NetworkPlanOptions {
        var options = NetworkPlanOptions()
        let full = try network.plan(options)
        options.budget = .bytes(full.leastBytes + (full.fullBytes - full.leastBytes) / 4)
        options.stepNanoseconds = network.steps.map { _ in stepNanoseconds }
        options.link = PlanLink(
            bytesPerSecondIn: bytesPerSecond, bytesPerSecondOut: bytesPerSecond)
        return options
    }

    private func without(_ options: NetworkPlanOptions) -> NetworkPlanOptions {
        var options = options
        options.mayRecompute = false
        return options
    }

    @Test func aSlowLinkMakesLayersRunAgainAndTheForecastShorter() throws {
        let network = try network()
        let options = try options(network, bytesPerSecond: 2e8)
        let plan = try network.plan(options)
        let plain = try network.plan(without(options))
        #expect(!plan.recomputedLayers.isEmpty)
        #expect(plain.recomputedLayers.isEmpty)
        let lengths = try [plan, plain].map {
            try #require($0.placement.forecast).iterationNanoseconds
        }
        #expect(lengths[0] < lengths[1])
        #expect(plan.placement.bytesOfLocalData < plain.placement.bytesOfLocalData)
        #expect(plan.fullBytes == plain.fullBytes && plan.leastBytes == plain.leastBytes)
    }

    @Test func aFastLinkMovesEverything() throws {
        let network = try network()
        let plan = try network.plan(options(network, bytesPerSecond: 1e12))
        #expect(plan.recomputedLayers.isEmpty)
        #expect(plan.placement.bytesOfLocalData > 0)
    }

    @Test func withoutTimesOrLinkNothingIsRecomputed() throws {
        let network = try network()
        var untimed = try options(network, bytesPerSecond: 1e6)
        untimed.stepNanoseconds = []
        var unlinked = try options(network, bytesPerSecond: 1e6)
        unlinked.link = nil
        var paper = try options(network, bytesPerSecond: 1e6)
        paper.policy = .paper
        for options in [untimed, unlinked, paper] {
            let plan = try network.plan(options)
            #expect(plan.recomputedLayers.isEmpty)
            #expect(plan.steps == network.steps)
        }
    }

    @Test func underStalenessNoLayerWithParametersRunsAgain() throws {
        let network = try network()
        var options = try options(network, bytesPerSecond: 1e7)
        options.readsInPlace = false
        let names = try Set(network.plan(options).recomputedLayers)
        #expect(names.isDisjoint(with: network.parameters.map(\.name)))
        #expect(try network.plan(options).problem.batches.allSatisfy { !$0.isRun })
    }

    @Test(arguments: [1, 3]) func theProblemIsThatOfTheSteps(_ batchesPerClock: Int) throws {
        let network = try network()
        var options = try options(network, bytesPerSecond: 2e8)
        options.batchesPerClock = batchesPerClock
        let plan = try network.plan(options)
        #expect(!plan.recomputedLayers.isEmpty)
        let accesses = Network.accesses(
            of: plan.steps, rowBatches: Array(network.parameters.indices),
            localBatches: Array(network.tensors.indices))
        #expect(plan.problem.accesses == accesses)
        #expect(plan.problem.phaseCount == plan.steps.count)
        #expect(plan.problem.phaseNames.count == plan.steps.count)
        #expect(plan.problem.phaseNanoseconds.count == plan.steps.count)
        #expect(plan.placement.stayOfAccess.count == accesses.count)
        #expect(plan.steps.count { $0.kind == .load } == batchesPerClock)
    }

    @Test func budgetsAreBytesOrSharesOfTheFullNeed() throws {
        let network = try network()
        var options = NetworkPlanOptions()
        let full = try network.plan(options)
        #expect(full.placement.bytesOfLocalData == 0)
        options.budget = .share(0.7)
        let share = try network.plan(options)
        options.budget = .bytes(Int((Double(full.fullBytes) * 0.7).rounded(.up)))
        #expect(try network.plan(options).placement == share.placement)
        options.budget = .bytes(full.leastBytes)
        #expect(throws: Never.self) { _ = try network.plan(options) }
        options.budget = .bytes(full.leastBytes - 1)
        let refusal = #expect(throws: PlanRefusal.self) { _ = try network.plan(options) }
        #expect(refusal?.leastBytes == full.leastBytes)
    }

    @Test(arguments: 0..<12) func noForecastIsLongerThanWithoutRecomputation(slice: Int) throws {
        for seed in (slice * 10)..<(slice * 10 + 10) {
            var random = SplitMix64(key: UInt64(seed))
            let network = try Self.randomNetwork(&random)
            var options = NetworkPlanOptions()
            options.stepNanoseconds = network.steps.map { _ in UInt64(random.unit() * 40_000) }
            let speed = 2e7 * Double(1 + random.unit() * 20)
            options.link = PlanLink(bytesPerSecondIn: speed, bytesPerSecondOut: speed)
            let full = try network.plan(options)
            let room =
                Double(random.unit()) * Double(random.unit())
                * Double(full.fullBytes - full.leastBytes)
            options.budget = .bytes(full.leastBytes + Int(room))
            options.batchesPerClock = random.unit() < 0.3 ? 2 : 1
            let plan = try network.plan(options)
            let plain = try network.plan(without(options))
            let lengths = try [plan, plain].map {
                try #require($0.placement.forecast).iterationNanoseconds
            }
            #expect(lengths[0] <= lengths[1], "seed \(seed)")
            #expect(plan.recomputedLayers.isEmpty || lengths[0] < lengths[1], "seed \(seed)")
            let budget = options.budget
            guard case .bytes(let bytes) = budget else { continue }
            #expect(plan.placement.deviceBytes <= bytes, "seed \(seed)")
        }
    }

    private static func randomNetwork(_ random: inout SplitMix64) throws -> Network {
        var layers: [LayerConfiguration] = []
        for index in 0..<(3 + Int(random.unit() * 9)) {
            let kinds: [LayerKind] = [
                .convolution(
                    out: 1 + Int(random.unit() * 8), kernel: 3, stride: 1, padding: 1),
                .relu, .tanh, .dropout(probability: 0.2),
                .maxPooling(kernel: 2, stride: 1, padding: 0),
            ]
            let kind = kinds[Int(random.unit() * Float(kinds.count))]
            layers.append(LayerConfiguration(name: "layer\(index)", kind: kind))
        }
        layers.append(LayerConfiguration(name: "fc", kind: .linear(out: 5)))
        return try Network(
            ModelConfiguration(layers: layers), input: Shape(channels: 2, height: 12, width: 12),
            batchSize: 1 + Int(random.unit() * 4))
    }
}
