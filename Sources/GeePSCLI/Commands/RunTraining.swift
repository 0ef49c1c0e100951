import GeePS
import GeePSCheckpoint
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSNN
import GeePSTransport
import Glibc

/// What a process needs before it may join its job: a wrong file is no reason to start a cluster.
struct TrainingPreparation {
    let job: Job
    let data: TrainingData
    let model: ModelConfiguration
    /// Where it is trained.
    let device: JobDevice
    /// Made for the device.
    let network: Network
    /// What to start from; nil for PyTorch's default initialisation.
    let start: WeightsFile.Contents?
    let output: RunDirectory
    /// Where device memory has what; nil where it is not managed.
    let plan: NetworkPlan?

    /// Reads and makes all that `job` names.
    ///
    /// - Parameters:
    ///   - file: the job's; layer times beside it are planned with.
    ///   - cuda: where a GPU's libraries come from.
    init(_ job: Job, file: String, launch: Launch, cuda: CUDASource = .system) throws {
        self.job = job
        data = try TrainingData(job.data)
        model = job.model.configuration(classCount: data.training.classCount)
        ThreadChoice.apply(
            model: model, input: data.training.shape, batchSize: job.data.batchSize)
        device = try JobDevice(job, launch: launch, source: cuda) { warning in
            // From any thread, and the same on every rank: once is enough.
            if launch.rank == 0 { writeError("geeps: \(warning)\n") }
        }
        network = try Network(
            model, input: data.training.shape, batchSize: job.data.batchSize, purpose: .training,
            on: device.target)
        // For its check alone: the trainer makes its own.
        _ = try Sampler(
            sampleCount: data.training.count, workerCount: launch.worldSize,
            batchSize: network.batchSize * job.batchesPerClock, shuffleSeed: nil)
        plan = try Self.plan(job, file, network)
        start = try Self.start(job, network)
        if launch.worldSize > 1, let files = try TLSFiles.known(beside: job.cluster.tls) {
            _ = try TLSContext(files)
        }
        output = try RunDirectory(
            launch.rank == 0 ? job.outputDirectory : nil, continues: job.hasCheckpoints)
    }

    private static func plan(_ job: Job, _ file: String, _ network: Network) throws -> NetworkPlan?
    {
        guard let memory = job.memory else { return nil }
        // Times of another network or another number of threads are no use, and no mistake.
        let times = LayerTimes.besideJob(file, for: network) { _ in }
        return try memory.plan(network, of: job, times: times)
    }

    private static func start(_ job: Job, _ network: Network) throws -> WeightsFile.Contents? {
        guard let path = job.initialWeights else { return nil }
        return try WeightsFile.read(path, for: network)
    }
}

/// Trains as the process that `launch` says, in step with the other ranks.
///
/// - Parameter progress: silent on every rank but 0.
/// - Returns: the results, complete on rank 0; other ranks may leave what they do not know at zero.
/// - Throws: what went wrong; `ErrorReport` knows how the process ends then.
func runTraining(
    _ preparation: TrainingPreparation, launch: Launch, progress: ProgressReporter,
    timeline: Timeline? = nil
) throws -> TrainingSummary {
    let job = preparation.job
    let network = preparation.network
    var configuration = job.nodeConfiguration(
        launch: launch, tables: Trainer.tables(of: network), data: preparation.data)
    configuration.keeperThreads = job.cluster.keeperThreads ?? preparation.device.keeperThreads
    configuration.memory = preparation.plan.flatMap { job.memory?.configuration(for: $0) }
    configuration.statusDirectory = job.outputDirectory.map { $0 + "/" + StatusPlaces.folder }
    let log: @Sendable (String) -> Void = { writeError($0) }
    let search = job.checkpoint.map {
        ResumeSearch(
            $0, job: job, network: network,
            samplesPerClock: network.batchSize * job.batchesPerClock * launch.worldSize, log: log)
    }
    if let search {
        configuration.restore = { (membership) throws(LaunchError) in try search.run(membership) }
    }
    let signals = try job.checkpoint.map { _ in try StopSignals.watch() }
    let node = try Node.join(
        configuration, device: preparation.device.ready(for: preparation, timeline: timeline))
    signals?.noteTraining()
    if let warning = sharedCoresWarning(node.membership, environment: processEnvironment()) {
        progress.message("geeps: \(warning)")
    }
    if let point = search?.point {
        progress.message("geeps: resuming from \(point.path), step \(point.tick)")
    }
    var checkpointer: Checkpointer?
    defer { checkpointer?.close() }
    do {
        let run = TrainingRun(
            job: job, launch: launch, data: preparation.data, model: preparation.model,
            device: preparation.device, network: network, plan: preparation.plan, node: node,
            output: preparation.output,
            progress: progress, timeline: timeline, resumed: search?.point)
        if let settings = job.checkpoint, let signals {
            checkpointer = run.checkpointer(
                settings, agreement: configuration.agreement, keepers: configuration.keeperCount,
                signals: signals, log: log)
        }
        let summary = try run.run(from: preparation.start, checkpointer)
        node.leave()
        // What is still on the GPU's streams leaves its spans.
        if timeline != nil {
            try? network.target.stream?.synchronise(deadline: .after(.seconds(10)))
        }
        return summary
    } catch let stopped as StoppedEarly {
        node.leave()
        throw preempted(stopped, job, launch, signals?.signal, progress)
    } catch {
        let end = endAfterFailure(error, node: node, rank: launch.rank)
        let environment = processEnvironment()
        WayBack(for: launch, environment: environment)?.wait { signals?.signal != nil }
        throw job.requeued(end, launch: launch, environment: environment)
    }
}

/// How a run ends that a signal has stopped at a clock: the same command goes on from there.
private func preempted(
    _ stopped: StoppedEarly, _ job: Job, _ launch: Launch, _ signal: Int32?,
    _ progress: ProgressReporter
) -> any Error {
    progress.finish()
    if launch.rank == 0 {
        let reason = signal.map { "stopped by \(signalName($0))" } ?? "another rank was stopped"
        let state =
            stopped.tick.map { "its checkpoint has \($0) steps" } ?? "without a new checkpoint"
        writeError("geeps: \(reason); \(state); run the same command again to go on\n")
    }
    return SupervisedExit(code: CLIExit.preempted.rawValue)
}

extension Job {
    /// Whether an earlier part of the run has left checkpoints.
    var hasCheckpoints: Bool {
        guard let checkpoint, checkpoint.resume != .never else { return false }
        return !CheckpointDirectory(checkpoint.directory).ticks.isEmpty
    }

    /// The end of a rank that has lost another: where there is a checkpoint, a launcher is asked to run it again.
    ///
    /// A supervisor of ours does that by itself.
    func requeued(
        _ error: any Error, launch: Launch, environment: [String: String]
    ) -> any Error {
        guard let failure = error as? CLIError, failure.code == .unavailable, let checkpoint,
            launch.worldSize > 1,
            environment[LaunchEnvironment.isSupervised] == nil,
            let tick = CheckpointDirectory(checkpoint.directory).ticks.last
        else { return error }
        return CLIError(
            .preempted,
            "\(failure.message); run again to go on from the checkpoint of step \(tick)")
    }
}

/// Tells the others, ends this process's part and finds the error that explains the end best.
///
/// When a peer dies, the first thing noticed may be a broken lane; who is gone is what the membership says a
/// moment later.
private func endAfterFailure(_ error: any Error, node: Node, rank: Int) -> any Error {
    let isPeerLoss = (error as? AccessError)?.code == .peerLost || error is LaunchError
    let failure = isPeerLoss ? node.membership.awaitFailure() : node.membership.failure
    if failure == nil { node.membership.abort(reason: "\(error)") }
    node.client.fail(AccessError(.closed, "the run has failed"))
    node.leave(within: .seconds(1))
    guard let failure, failure.rank != rank else { return error }
    return CLIError(.unavailable, "\(failure)")
}

/// The data of a job.
struct TrainingData {
    let training: any Dataset
    /// nil where the source has no test half.
    let test: (any Dataset)?

    init(_ configuration: DataConfiguration) throws(NNError) {
        switch configuration.source {
        case .mnist(let directory):
            training = try IDX.load(directory: directory, split: .train)
            test = try IDX.load(directory: directory, split: .test)
        case .cifar10(let directory):
            training = try CIFAR10.load(directory: directory, split: .train)
            test = try CIFAR10.load(directory: directory, split: .test)
        case .synthetic(let samples, let shape, let classes, let seed):
            training = SyntheticDataset(
                count: samples, shape: Shape(synthetic: shape), classCount: classes, seed: seed)
            test = nil
        }
    }
}

extension Shape {
    /// `[n]`, `[h, w]` or `[c, h, w]`.
    init(synthetic sizes: [Int]) {
        switch sizes.count {
        case 1: self.init(channels: sizes[0])
        case 2: self.init(channels: 1, height: sizes[0], width: sizes[1])
        default: self.init(channels: sizes[0], height: sizes[1], width: sizes[2])
        }
    }
}

extension ModelSource {
    /// The layers of the model.
    func configuration(classCount: Int) -> ModelConfiguration {
        switch self {
        case .layers(let configuration): configuration
        case .builtIn: .lenet(classes: classCount)
        }
    }
}

extension Job {
    /// How this process takes part in the job.
    func nodeConfiguration(launch: Launch, tables: [TableLayout], data: TrainingData)
        -> NodeConfiguration
    {
        var node = NodeConfiguration(tables: tables, optimizer: optimizer)
        node.rank = launch.rank
        node.worldSize = launch.worldSize
        node.keeperCount = cluster.keepers
        if let rendezvous = launch.rendezvous { node.rendezvous = "\(rendezvous)" }
        node.interface = cluster.interface
        node.control.tls = cluster.tls
        node.joinTimeout = cluster.joinTimeout
        node.reconnectTimeout = cluster.reconnectTimeout
        node.laneCount = cluster.lanes
        node.staleness = staleness
        node.refreshesReads = refreshesReads
        switch cluster.transport {
        case .automatic: node.carrier = .auto
        case .tcp: node.carrier = .fixed(.tcp)
        case .sharedMemory: node.carrier = .fixed(.sharedMemory)
        case .unixSocket: node.carrier = .fixed(.unixSocket)
        case .ucx: node.carrier = .fixed(.ucx)
        }
        node.agreement = """
            batch size: \(self.data.batchSize)
            batches per clock: \(batchesPerClock)
            shuffle: \(self.data.isShuffled)
            seed: \(seed)
            length: \(length)
            samples: \(data.training.count) of \(data.training.shape)
            """
        if let checkpoint {
            node.agreement +=
                "\ncheckpoint: every \(checkpoint.every.text) in \(checkpoint.directory)"
        }
        return node
    }
}
