import GeePSCore
import GeePSNN

extension TrainingRun {
    /// Every rank measures a run of the test samples, on what rank 0 writes.
    func evaluate(_ model: WeightsFile.Contents) throws -> TestResult? {
        guard let test = data.test else { return nil }
        let (each, extra) = test.count.quotientAndRemainder(dividingBy: launch.worldSize)
        let first = launch.rank * each + min(launch.rank, extra)
        let own = try Evaluator(model: self.model, dataset: test, on: device.target).run(
            weights: model.weights, states: try statesOfFirstRank(model.states),
            samples: first..<(first + each + (launch.rank < extra ? 1 : 0)))
        let sums = try sumOverRanks(
            [own.lossSum, Double(own.correctCount), Double(own.sampleCount)], "test result")
        return TestResult(meanLoss: sums[0] / sums[2], accuracy: sums[1] / sums[2])
    }

    /// Running statistics of rank 0: each rank's are its own, and one model is measured.
    private func statesOfFirstRank(_ own: NetworkStates) throws -> NetworkStates {
        guard launch.worldSize > 1 else { return own }
        var states = own
        for index in states.values.indices {
            // A sum to which the others add nothing.
            let part = states.values[index].map { launch.rank == 0 ? Double($0) : 0 }
            states.values[index] = try sumOverRanks(part, "running statistics").map { Float($0) }
        }
        return states
    }

    /// Rank 0 measures the test half now and then, where the job asks for it; others go on.
    ///
    /// With rows as old as the job allows, so that nobody waits who does not wait anyway.
    func validate(_ trainer: Trainer, after step: Int) throws {
        guard launch.rank == 0, let every = job.clocksPerValidation, (step + 1) % every == 0,
            let test = data.test
        else { return }
        let result = try Evaluator(model: model, dataset: test, on: device.target).run(
            weights: trainer.weights(staleness: job.staleness), states: trainer.states(),
            samples: 0..<test.count)
        try output.writeValidation(
            TestResult(
                meanLoss: result.meanLoss,
                accuracy: Double(result.correctCount) / Double(result.sampleCount)),
            step: step + 1, times: trainer.times)
    }
}

/// How a network did on the test half of the data.
struct TestResult {
    var meanLoss: Double
    /// Share of samples classified right.
    var accuracy: Double
}
