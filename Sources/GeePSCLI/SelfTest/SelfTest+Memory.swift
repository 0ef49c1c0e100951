import GeePS
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSNN
import GeePSServer

extension SelfTest {
    /// Training through the parameter server, with memory managed.
    static let memoryCases: [Case] = [
        Case(
            suite: "memory", name: "ten clocks of training are the host's within 1e-3",
            run: trainsAsTheHost),
        Case(suite: "memory", name: "any budget trains the same bits", run: budgets),
        Case(suite: "memory", name: "four mini-batches a clock train as under a full budget") {
            try budgets($0, batchesPerClock: 4)
        },
    ]

    /// Deep for its width, so that a small budget is more than a layer needs.
    private static let model = ModelConfiguration(
        layers: (0..<6).flatMap(block) + [
            LayerConfiguration(name: "pool", kind: .maxPooling(kernel: 2, stride: 2, padding: 0)),
            LayerConfiguration(name: "f1", kind: .linear(out: 32)),
            // Behind a flat layer: the draws of a map's values follow their order in memory, which is the target's.
            LayerConfiguration(name: "drop", kind: .dropout(probability: 0.2)),
            LayerConfiguration(name: "f2", kind: .linear(out: 10)),
        ])

    /// Running statistics are state of the worker, which moves as the budget has it.
    private static func block(_ index: Int) -> [LayerConfiguration] {
        let convolution = LayerKind.convolution(out: 8, kernel: 3, stride: 1, padding: 1)
        let normalisation: LayerKind =
            index % 3 == 2 ? .localResponseNormalisation(size: 3) : .batchNormalisation()
        return [
            LayerConfiguration(name: "c\(index)", kind: convolution),
            LayerConfiguration(name: "n\(index)", kind: normalisation),
            LayerConfiguration(name: "a\(index)", kind: index % 2 == 0 ? .relu : .tanh),
        ]
    }

    private static func trainsAsTheHost(_ bench: SelfTestBench) throws {
        let host = try train(SelfTestBench(), nil)
        let own = try train(bench, .full)
        for (layer, (found, expected)) in zip(own, host).enumerated() {
            try SelfTestFailure.require(
                found, equals: expected, within: 1e-3, "tensor \(layer) after 10 clocks")
        }
    }

    private static func budgets(_ bench: SelfTestBench) throws {
        try budgets(bench, batchesPerClock: 1)
    }

    private static func budgets(_ bench: SelfTestBench, batchesPerClock: Int) throws {
        let full = try train(bench, .full, batchesPerClock: batchesPerClock)
        for budget in [Budget.between, .least] {
            let own = try train(bench, budget, batchesPerClock: batchesPerClock)
            for (layer, (found, expected)) in zip(own, full).enumerated() {
                try SelfTestFailure.require(
                    found, equals: expected, "tensor \(layer), \(budget) budget")
            }
        }
    }

    /// How much device memory a training gets.
    private enum Budget {
        case full, between, least

        /// Nil: as much as is of use.
        func bytes(of plan: NetworkPlan) -> Int? {
            switch self {
            case .full: nil
            case .between: (plan.leastBytes + plan.fullBytes) / 2
            case .least: plan.leastBytes
            }
        }
    }

    /// The weights after ten clocks of one worker, then its running statistics.
    ///
    /// - Parameter budget: of device memory; nil: it is not managed.
    private static func train(
        _ bench: SelfTestBench, _ budget: Budget?, batchesPerClock: Int = 1
    ) throws -> [[Float]] {
        let data = SyntheticDataset(
            count: 512, shape: Shape(channels: 1, height: 8, width: 8), classCount: 10, seed: 3)
        let network = try Network(model, input: data.shape, batchSize: 16, on: bench.target)
        var configuration = NodeConfiguration(
            tables: Trainer.tables(of: network),
            optimizer: OptimizerConfiguration(
                rule: .sgd(momentum: 0.9, dampening: 0, nesterov: false), learningRate: 0.05))
        var plan: NetworkPlan?
        var device = bench.device
        if let budget {
            var options = NetworkPlanOptions()
            options.batchesPerClock = batchesPerClock
            var made = try network.plan(options)
            if let bytes = budget.bytes(of: made) {
                options.budget = .bytes(bytes)
                made = try network.plan(options)
            }
            plan = made
            configuration.memory = MemoryConfiguration(budgetBytes: made.problem.budgetBytes)
            device = try bench.device(
                limitBytes: made.problem.budgetBytes ?? made.placement.deviceBytes)
        }
        let node = try Node.join(configuration, device: device)
        defer { node.leave() }
        var settings = TrainerConfiguration()
        settings.batchesPerClock = batchesPerClock
        let trainer = try Trainer(
            network: network, dataset: data, client: node.client, configuration: settings,
            plan: plan)
        try trainer.initialise()
        for _ in 0..<10 { _ = try trainer.step() }
        return try trainer.weights() + trainer.states().values
    }
}
