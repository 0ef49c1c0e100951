import ArgumentParser
import CGeePSKernels
import GeePS
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSNN
import GeePSServer

/// `geeps bench overhead`.
struct OverheadBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "overhead",
        abstract: "Times a job's steps through the parameter server and without it, in turn.",
        discussion: """
            One worker trains the job's network as geeps train would, under the job's budget; beside it the same \
            layers run with all their memory in one place and step their parameters there: on a GPU by a kernel \
            behind each layer. Rounds of both take turns in one process.

            EXAMPLES
              geeps bench overhead Examples/digits.yaml
              geeps bench overhead Examples/wide.yaml --set memory.device=cuda
              geeps bench overhead job.yaml --steps 50 --rounds 9 --json | jq .ratio
            """)

    @Argument(help: "The job file.", completion: .file(extensions: ["yaml", "yml"]))
    var job: String

    @Option(help: "Steps of a round that count; three more come before them.")
    var steps = 20

    @Option(help: "Rounds of each kind; the median counts.")
    var rounds = 5

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Puts a value in place of the job file's; list elements by position.",
            valueName: "key.path=value"))
    var assignments: [String] = []

    @Flag(help: "Prints one JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard 1...100_000 ~= steps, 1...1000 ~= rounds else {
            throw ValidationError(
                "--steps is \(steps) and --rounds \(rounds), expected 1 to 100000 and 1 to 1000")
        }
    }

    func run() throws {
        let loader = JobLoader(
            file: job, assignments: assignments, workers: 1, defaultWorkers: 1,
            checksPaths: true)
        let job = try loader.load()
        guard job.batchesPerClock == 1 else {
            throw CLIError(
                .usage,
                "the job has \(job.batchesPerClock) batches a clock, expected 1: the plain "
                    + "trainer steps after each batch")
        }
        let preparation = try TrainingPreparation(job, file: self.job, launch: .alone)
        report(try OverheadMeasurement(preparation).run(steps: steps, rounds: rounds), preparation)
    }

    private func report(_ result: OverheadMeasurement.Result, _ preparation: TrainingPreparation) {
        let device = preparation.device.description ?? "host"
        let ratio = result.served.median / result.plain.median
        guard !json else {
            return writeOutput(
                JSONValue.object([
                    "schema": .string("geeps.bench.overhead/1"), "device": .string(device),
                    "steps": .integer(Int64(steps)), "served": result.served.json,
                    "plain": result.plain.json, "ratio": .number(ratio),
                    "stall_ratio": .number(result.stallRatio),
                ]).text + "\n")
        }
        let rows = [
            [device, "a step"],
            ["parameter server", "\(Text.significant(result.served.median, 4)) ms"],
            ["without", "\(Text.significant(result.plain.median, 4)) ms"],
            ["ratio", Text.significant(ratio, 4)],
            ["stalled", Text.percent(result.stallRatio)],
        ]
        writeOutput(Columns.lines(rows, right: [1]).joined(separator: "\n") + "\n")
    }
}

/// Rounds of a trainer with the parameter server and of one without, on one device.
struct OverheadMeasurement {
    struct Result {
        /// Milliseconds of a step, a value a round.
        var served = Stopwatch()
        var plain = Stopwatch()
        /// Of the rounds through the parameter server that counted.
        var stallRatio = 0.0
    }

    private let preparation: TrainingPreparation
    private let node: Node
    private let trainer: Trainer
    private let plain: PlainTrainer

    init(_ preparation: TrainingPreparation) throws {
        self.preparation = preparation
        let job = preparation.job
        let network = preparation.network
        let data = preparation.data.training
        var configuration = job.nodeConfiguration(
            launch: .alone, tables: Trainer.tables(of: network), data: preparation.data)
        configuration.keeperThreads =
            job.cluster.keeperThreads ?? preparation.device.keeperThreads
        configuration.memory = preparation.plan.flatMap { job.memory?.configuration(for: $0) }
        // Before the parameter server takes the GPU's memory: this one takes what it needs of the rest.
        let beside = try preparation.device.beside(for: network)
        node = try Node.join(
            configuration, device: preparation.device.ready(for: preparation, timeline: nil))
        let trainerConfiguration = TrainerConfiguration(
            seed: job.seed, isShuffled: job.data.isShuffled,
            updateScale: job.optimizer.updateScale)
        trainer = try Trainer(
            network: network, dataset: data, client: node.client,
            configuration: trainerConfiguration, plan: preparation.plan)
        try trainer.initialise()
        plain = try PlainTrainer(
            network: network, dataset: data, device: beside, seed: job.seed,
            isShuffled: job.data.isShuffled,
            update: try PlainUpdate.make(job.optimizer, network, device: beside))
    }

    /// - Throws: what a trainer throws.
    func run(steps: Int, rounds: Int) throws -> Result {
        var result = Result()
        var (stall, total): (UInt64, UInt64) = (0, 0)
        for round in 0...rounds {
            let before = trainer.times
            let served = try milliseconds(steps) { _ = try trainer.step() }
            let after = trainer.times
            // Everything on its way arrives, so that it does not run into the other's round.
            _ = try trainer.weights()
            let alone = try milliseconds(steps) { _ = try plain.step() }
            try plain.finish()
            // The first round loads libraries and touches memory.
            guard round > 0 else { continue }
            result.served.add(UInt64(served * 1e6))
            result.plain.add(UInt64(alone * 1e6))
            stall += after.stall - min(after.stall, before.stall)
            total += after.total - before.total
        }
        result.stallRatio = Double(stall) / Double(max(1, total))
        node.leave()
        return result
    }

    /// Of one step, after three that fill the pipeline.
    private func milliseconds(_ steps: Int, _ step: () throws -> Void) rethrows -> Double {
        for _ in 0..<3 { try step() }
        let start = monotonicNanoseconds()
        for _ in 0..<steps { try step() }
        return Double(monotonicNanoseconds() - start) / 1e6 / Double(steps)
    }
}

/// The optimiser of a plain trainer: the keepers' own on the host, a kernel on a GPU.
enum PlainUpdate {
    /// - Throws: `CLIError` (usage) for a rule that has no plain update on a GPU.
    static func make(
        _ configuration: OptimizerConfiguration, _ network: Network, device: any Device
    ) throws -> PlainTrainer.Update {
        let optimizer = Optimizer(configuration)
        let states = try network.parameters.map { parameters in
            try optimizer.stateKinds.map { kind in
                let buffer = SharedBuffer(
                    try device.allocate(
                        byteCount: max(4, parameters.valueCount * 4), for: .updateLog))
                let values = [Float](repeating: kind.initialValue, count: parameters.valueCount)
                values.withUnsafeBytes { bytes in
                    guard let start = bytes.baseAddress else { return }
                    device.write(start, to: buffer.address, byteCount: bytes.count)
                }
                return buffer
            }
        }
        if case .cuda(let compute) = network.target {
            return try onGPU(configuration, compute.stream, states)
        }
        return { layer, values, gradients, count, step in
            let state = states[layer].map(\.floats)
            optimizer.step(
                values: values, gradient: gradients,
                state: Optimizer.StatePointers(
                    state.first, state.dropFirst().first, state.dropFirst(2).first),
                count: count, step: step, learningRate: configuration.learningRate(at: step))
        }
    }

    private static func onGPU(
        _ configuration: OptimizerConfiguration, _ stream: CUDAStream, _ states: [[SharedBuffer]]
    ) throws -> PlainTrainer.Update {
        guard case .sgd(let momentum, let dampening, let nesterov) = configuration.rule else {
            throw CLIError(
                .usage,
                "found optimizer \(configuration.rule), expected sgd: on a GPU the plain "
                    + "trainer has no other")
        }
        return { layer, values, gradients, count, step in
            let rule = geeps_sgd(
                weight_decay: Float(configuration.weightDecay), momentum: Float(momentum),
                one_minus_dampening: Float(1 - dampening),
                negative_learning_rate: Float(-configuration.learningRate(at: step)),
                is_first: step == 1 ? 1 : 0, nesterov: nesterov ? 1 : 0)
            stream.launch(
                "geeps_step_sgd", count: count, label: "step", values, gradients,
                states[layer].first?.floats, Int64(count), geeps_gradient(divisor: 1, scale: 1),
                rule)
        }
    }
}
