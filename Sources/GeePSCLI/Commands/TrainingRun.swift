import GeePS
import GeePSCheckpoint
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSNN
import GeePSServer
import Glibc

/// One rank's training, from initial values to the results.
struct TrainingRun {
    let job: Job
    let launch: Launch
    let data: TrainingData
    let model: ModelConfiguration
    let device: JobDevice
    let network: Network
    let plan: NetworkPlan?
    let node: Node
    let output: RunDirectory
    let progress: ProgressReporter
    let timeline: Timeline?
    /// Where the run goes on; nil at its beginning.
    let resumed: FoundCheckpoint?

    /// Samples of a clock, of each worker.
    private var samplesPerStep: Int { network.batchSize * job.batchesPerClock }

    /// Trains, measures on the test half, writes the results.
    ///
    /// - Parameter first: what to start from; nil for PyTorch's default initialisation.
    func run(from first: WeightsFile.Contents?, _ checkpointer: Checkpointer? = nil) throws
        -> TrainingSummary
    {
        var configuration = TrainerConfiguration(
            rank: launch.rank, workerCount: launch.worldSize, seed: job.seed,
            isShuffled: job.data.isShuffled, updateScale: job.optimizer.updateScale)
        configuration.batchesPerClock = job.batchesPerClock
        configuration.timeline = timeline
        configuration.pace = job.pace
        let trainer = try Trainer(
            network: network, dataset: data.training, client: node.client,
            configuration: configuration, plan: plan,
            states: resumed?.record.states ?? first?.states)
        if launch.rank == 0, resumed == nil {
            try trainer.initialise(weights: first?.weights)
        }
        let epochs = EpochTable(
            stepsPerEpoch: trainer.stepsPerEpoch, stepCount: stepCount(trainer.stepsPerEpoch))
        let start = monotonicNanoseconds()
        let watch = SteadyWatch(stepCount: epochs.stepCount)
        let losses = try train(trainer, epochs, watch, checkpointer)
        let (times, waits) = (trainer.times, node.client.counters)
        try checkpointer?.finish()
        let seconds = Double(monotonicNanoseconds() - start) / 1e9
        let final = WeightsFile.Contents(
            weights: try trainer.weights(), states: try trainer.states())
        // All updates are applied: keepers have heard of all waits.
        let steps = StepReport(
            sums: try sumOverRanks(
                StepReport.part(
                    rank: launch.rank, times: times, counters: waits, shares: node.waitShares),
                "where the time went"))
        let samples = try sumOverRanks(losses.samples, "samples")
        let trainLosses = try zip(sumOverRanks(losses.sums, "training loss"), samples).map {
            $0 / max(1, $1)
        }
        let test = try evaluate(final)
        let counters = node.client.counters
        let traffic = try sumOverRanks(
            [
                Double(counters.bytesSent), Double(counters.bytesReceived),
                Double(counters.repairs.reconnects), Double(counters.repairs.nanoseconds),
            ], "traffic")
        if launch.rank == 0 { try output.writeModel(final, of: network) }
        let summary = TrainingSummary(
            steps: epochs.stepCount,
            epochs: Double(epochs.stepCount) / Double(trainer.stepsPerEpoch),
            trainLoss: trainLosses.last, testLoss: test?.meanLoss,
            testAccuracy: test?.accuracy,
            samplesPerSecond: Double(stepsToDo(epochs) * samplesPerStep * launch.worldSize)
                / max(seconds, 1e-9),
            stallRatio: Double(trainer.times.stall) / Double(max(1, trainer.times.total)),
            bytesSent: UInt64(traffic[0]), bytesReceived: UInt64(traffic[1]),
            workers: launch.worldSize, outputDirectory: output.path, seconds: seconds,
            epochLosses: trainLosses, stepReport: steps,
            steady: watch.result(samplesPerStep: samplesPerStep * launch.worldSize),
            memory: memorySummary(counters, steps: epochs.stepCount),
            reconnects: UInt64(traffic[2]), outageSeconds: traffic[3] / 1e9)
        try output.writeSummary(summary)
        return summary
    }

    /// What managed memory did on this rank.
    private func memorySummary(_ counters: ClientCounters, steps: Int) -> MemorySummary? {
        guard let plan, let memory = counters.memory else { return nil }
        return MemorySummary(
            deviceBytes: plan.placement.deviceBytes, fullBytes: plan.fullBytes,
            bytesIn: memory.bytesIn, bytesOut: memory.bytesOut,
            plannedBytesIn: plan.placement.bytesIn, plannedBytesOut: plan.placement.bytesOut,
            steps: steps, deviations: counters.access.planDeviations, onDemand: memory.onDemand,
            recomputedLayers: plan.recomputedLayers)
    }

    private func stepCount(_ stepsPerEpoch: Int) -> Int {
        switch job.length {
        case .epochs(let count): count * stepsPerEpoch
        case .steps(let count): count
        }
    }

    /// Steps that an earlier part of the run has made.
    private var firstStep: Int { Int(resumed?.tick ?? 0) }

    private func stepsToDo(_ epochs: EpochTable) -> Int { max(0, epochs.stepCount - firstStep) }

    /// What makes this run's checkpoints.
    func checkpointer(
        _ settings: CheckpointSettings, agreement: String, keepers: Int, signals: StopSignals,
        log: @escaping @Sendable (String) -> Void
    ) -> Checkpointer {
        let samplesPerClock = samplesPerStep * launch.worldSize
        let template = Manifest(
            tick: 0, workers: launch.worldSize, keepers: keepers, samplesPerClock: samplesPerClock,
            tables: Trainer.tables(of: network),
            stateNames: Optimizer(job.optimizer).stateKinds.map(\.name), agreement: agreement,
            files: [])
        return Checkpointer(
            settings, node: node, network: network, launch: launch, staleness: job.staleness,
            template: template, firstTick: UInt64(firstStep),
            lastTick: UInt64(stepCount(data.training.count / samplesPerClock)), signals: signals,
            log: log)
    }

    /// - Returns: this rank's sum of losses in each epoch.
    private func train(
        _ trainer: Trainer, _ epochs: EpochTable, _ watch: SteadyWatch,
        _ checkpointer: Checkpointer?
    ) throws -> EpochLosses {
        var losses = EpochLosses(epochCount: epochs.epochCount)
        if let resumed { losses.add(resumed.record.losses) }
        var window = LossWindow()
        progress.begin("training", total: epochs.stepCount)
        for step in firstStep..<max(firstStep, epochs.stepCount) {
            let result = try trainer.step()
            watch.note(completed: step + 1, trainer.times)
            let epoch = epochs.epoch(of: step)
            losses.sums[epoch] += result.lossSum
            losses.samples[epoch] += Double(result.sampleCount)
            if !result.meanLoss.isFinite, window.meanLoss.isFinite {
                progress.message(
                    "geeps: the loss is not a number from step \(step + 1) on; "
                        + "a smaller optimizer.lr may help")
            }
            window.add(result)
            progress.update(
                completed: step + 1,
                values: [
                    ProgressValue(key: "epoch", value: Double(epoch + 1)),
                    ProgressValue(key: "loss", value: window.meanLoss),
                ])
            if epochs.isLastOfEpoch(step) {
                try output.writeEpoch(
                    epoch + 1, step: step + 1,
                    loss: losses.mean(epoch), times: trainer.times)
            }
            try validate(trainer, after: step)
            try checkpointer?.afterStep(UInt64(step + 1)) {
                WorkerRecord(states: try trainer.states(), losses: losses)
            }
        }
        progress.finish()
        return losses
    }

    func sumOverRanks(_ values: [Double], _ label: String) throws -> [Double] {
        // In pieces: a sum has a limit, the number of epochs has none.
        try stride(from: 0, to: values.count, by: 65_536).flatMap { start in
            try node.membership.sum(
                Array(values[start..<min(start + 65_536, values.count)]), label: label,
                deadline: .after(.seconds(600)))
        }
    }
}

extension OptimizerConfiguration {
    /// What workers multiply their gradients by: where keepers only add, the step is made by the worker.
    var updateScale: (@Sendable (UInt64) -> Double)? {
        guard case .add = rule else { return nil }
        return { -self.learningRate(at: $0) }
    }
}

/// Which step belongs to which epoch.
struct EpochTable {
    let stepsPerEpoch: Int
    let stepCount: Int

    var epochCount: Int { (stepCount + stepsPerEpoch - 1) / stepsPerEpoch }

    func epoch(of step: Int) -> Int { step / stepsPerEpoch }

    func isLastOfEpoch(_ step: Int) -> Bool {
        step + 1 == stepCount || (step + 1) % stepsPerEpoch == 0
    }

    /// Steps of an epoch; the last one may be cut short.
    func steps(in epoch: Int) -> Int {
        min(stepsPerEpoch, stepCount - epoch * stepsPerEpoch)
    }
}

/// Mean loss of the last batches, for a number that does not jump.
private struct LossWindow {
    private(set) var meanLoss = 0.0
    private var count = 0

    mutating func add(_ result: BatchResult) {
        count = min(count + 1, 20)
        meanLoss += (result.meanLoss - meanLoss) / Double(count)
    }
}
