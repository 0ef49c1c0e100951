import ArgumentParser
import GeePS
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSNN
import GeePSServer

/// `geeps bench step`: training steps of a multi-layer perceptron, with the parameter server and without.
struct StepBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "step",
        abstract: "Times training steps of a 6.3 M parameter perceptron (1024-2048-2048-10).",
        discussion: """
            With one worker, steps through the parameter server and steps of the same layers and the same \
            optimiser on plain memory take turns in one process. With more, each worker is a process.
            """)

    @Option(help: "Samples of each worker in a step.")
    var batch = 32
    @Option(help: "Workers.")
    var workers = 1
    @Option(help: "How frames travel.")
    var transport = CarrierName.auto
    @Option(help: "Steps of each kind.")
    var steps = 40
    @Option(help: "Threads that compute in each process.")
    var threads = 1

    private static let rule = BenchRule.sgd.configuration

    func run() throws {
        guard let launch = try Launch.ofBenchmark(processes: workers) else { return }
        ComputeThreads.set(threads)
        let model = ModelConfiguration.mlp(hidden: [2048, 2048])
        let dataset = SyntheticDataset(
            count: batch * workers * 4, shape: Shape(channels: 1024), classCount: 10, seed: 1)
        let network = try Network(model, input: dataset.shape, batchSize: batch)
        var configuration = NodeConfiguration(
            tables: Trainer.tables(of: network), optimizer: Self.rule)
        configuration.rank = launch.rank
        configuration.worldSize = workers
        configuration.keeperCount = workers
        configuration.carrier = transport.choice
        if let rendezvous = launch.rendezvous { configuration.rendezvous = "\(rendezvous)" }
        let node = try Node.join(configuration, device: HostDevice())
        let trainer = try Trainer(
            network: network, dataset: dataset, client: node.client,
            configuration: TrainerConfiguration(rank: launch.rank, workerCount: workers))
        if launch.rank == 0 { try trainer.initialise() }
        var plain = try workers == 1 ? PlainTraining(model, dataset, batch, Self.rule) : nil
        for _ in 0..<5 {
            _ = try trainer.step()
            try plain?.step()
        }
        var (served, alone) = (Stopwatch(), Stopwatch())
        for _ in 0..<steps {
            _ = try served.time { try trainer.step() }
            if plain != nil { try alone.time { try plain?.step() } }
        }
        if launch.rank == 0 { report(served, alone, trainer.times) }
        node.leave()
    }

    private func report(_ served: Stopwatch, _ alone: Stopwatch, _ times: TrainingTimes) {
        writeOutput(
            JSONValue.object([
                "schema": .string("geeps.bench.step/1"), "batch": .integer(Int64(batch)),
                "workers": .integer(Int64(workers)), "threads": .integer(Int64(threads)),
                "served": served.json, "plain": workers == 1 ? alone.json : .null,
                "ratio": workers == 1 ? .number(served.median / alone.median) : .null,
                "stall_ratio": .number(Double(times.stall) / Double(max(1, times.total))),
            ]).text + "\n")
    }
}

/// The same layers and the same optimiser on plain memory, one thread, no parameter server.
private struct PlainTraining {
    private let network: Network
    private let memory: NetworkMemory
    private let dataset: any Dataset
    private let optimizer: Optimizer
    private let configuration: OptimizerConfiguration
    private var sampler: Sampler
    private let values: [UnsafeMutablePointer<Float>]
    private let gradients: [UnsafeMutablePointer<Float>]
    private let momenta: [UnsafeMutablePointer<Float>]
    private var tick: UInt64 = 0

    init(
        _ model: ModelConfiguration, _ dataset: any Dataset, _ batch: Int,
        _ configuration: OptimizerConfiguration
    ) throws {
        network = try Network(model, input: dataset.shape, batchSize: batch)
        memory = NetworkMemory(network)
        self.dataset = dataset
        self.configuration = configuration
        optimizer = Optimizer(configuration)
        sampler = try Sampler(
            sampleCount: dataset.count, workerCount: 1, batchSize: batch, shuffleSeed: 1)
        func zeros(_ parameters: LayerParameters) -> UnsafeMutablePointer<Float> {
            let buffer = UnsafeMutableRawPointer.allocate(
                byteCount: parameters.valueCount * 4, alignment: 64
            ).bindMemory(to: Float.self, capacity: parameters.valueCount)
            buffer.initialize(repeating: 0, count: parameters.valueCount)
            return buffer
        }
        values = network.parameters.map(zeros)
        gradients = network.parameters.map(zeros)
        momenta = network.parameters.map(zeros)
        for (buffer, parameters) in zip(values, network.parameters) {
            Initializer.fill(buffer, for: parameters, seed: 1)
        }
    }

    mutating func step() throws {
        guard let images = memory.input.baseAddress, let labels = memory.labels.baseAddress else {
            return
        }
        dataset.fill(sampler.indices(step: tick, rank: 0), images: images, labels: labels)
        tick += 1
        _ = try memory.runIteration(parameters: values, gradients: gradients)
        for (index, parameters) in network.parameters.enumerated() {
            optimizer.step(
                values: values[index], gradient: gradients[index],
                state: Optimizer.StatePointers(momenta[index], nil, nil),
                count: parameters.valueCount, step: tick,
                learningRate: configuration.learningRate, gradientScale: 1, workerCount: 1)
        }
    }
}
