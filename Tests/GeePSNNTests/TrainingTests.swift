import Testing

@testable import GeePSNN

/// The parts together: plain gradient descent on the networks' own gradients, no parameter server.
@Suite struct TrainingTests {
    private func descend(_ bench: Bench, rate: Float) {
        for (layer, parameters) in bench.network.parameters.enumerated() {
            for i in 0..<parameters.valueCount {
                bench.parameters[layer][i] -= rate * bench.gradients[layer][i]
            }
        }
    }

    private func accuracy(
        _ model: ModelConfiguration, _ data: some Dataset, _ trained: Bench
    ) throws -> Double {
        let network = try Network(
            model, input: data.shape, batchSize: data.count, purpose: .inference)
        let memory = NetworkMemory(network)
        data.fill(
            Array(0..<data.count), images: memory.input.baseAddress!,
            labels: memory.labels.baseAddress!)
        let result = try memory.runIteration(parameters: trained.parameters)
        return Double(result.correctCount) / Double(data.count)
    }

    private func train(
        _ model: ModelConfiguration, _ data: some Dataset, batchSize: Int, steps: Int, rate: Float
    ) throws -> Bench {
        let bench = try Bench(
            model.layers, input: data.shape, batchSize: batchSize, wantsInputGradient: false)
        var sampler = try Sampler(
            sampleCount: data.count, workerCount: 1, batchSize: batchSize, shuffleSeed: 1)
        for step in 0..<UInt64(steps) {
            data.fill(
                sampler.indices(step: step, rank: 0), images: bench.memory.input.baseAddress!,
                labels: bench.memory.labels.baseAddress!)
            _ = try bench.memory.runIteration(
                parameters: bench.parameters, gradients: bench.gradients,
                noise: NoiseKey(seed: 1, step: step))
            descend(bench, rate: rate)
        }
        return bench
    }

    @Test func lenetLearnsTheDigits() throws {
        let folder = "/" + "\(#filePath)".split(separator: "/").dropLast(3).joined(separator: "/")
        let data = try IDX.load(directory: "\(folder)/data/digits", split: .train)
        let test = try IDX.load(directory: "\(folder)/data/digits", split: .test)
        let bench = try train(.lenet(), data, batchSize: 32, steps: 44 * 12, rate: 0.2)
        let reached = try accuracy(.lenet(), test, bench)
        #expect(reached > 0.95)
    }

    @Test func aLinearModelFindsTheTeacher() throws {
        let shape = Shape(channels: 16)
        let data = SyntheticDataset(count: 2000, shape: shape, classCount: 4, seed: 2)
        let test = SyntheticDataset(
            count: 500, shape: shape, classCount: 4, seed: 2, firstSample: 2000)
        let model = ModelConfiguration.mlp(hidden: [], classes: 4)
        let bench = try train(model, data, batchSize: 50, steps: 1200, rate: 1)
        let reached = try accuracy(model, test, bench)
        #expect(reached > 0.97)
    }
}
