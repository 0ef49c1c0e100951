import Foundation
import Testing

extension SystemTests {
    /// Under BSP the bits of a result depend on the job alone: not on who arrives first, who keeps the rows or
    /// how they travel.
    @Suite struct DeterminismTests {
        // A convolution, dropout and momentum: all that could depend on order or place.
        private static let model =
            "{layers: [{name: conv1, type: conv, out: 8, kernel: 3, pad: 1}, {type: relu}, "
            + "{type: maxpool, kernel: 2}, {type: dropout, p: 0.2}, {name: fc1, type: linear, out: 32}, "
            + "{type: relu}, {name: fc2, type: linear, out: 10}]}"

        private static func train(_ cluster: String) async throws -> Data {
            try await TestJob(model: model, cluster: "{workers: 3, \(cluster)}").run().model
        }

        /// The run that all others are compared with.
        private static let reference = Task { try await train("keepers: 2") }

        @Test(arguments: [1, 2, 3], 1...4)
        func everyRunHasTheSameBits(keepers: Int, repetition: Int) async throws {
            let model = try await Self.train("keepers: \(keepers)")
            #expect(try await model == Self.reference.value)
        }

        @Test(.enabled(if: hasUCX, "needs UCX"), arguments: ["tcp", "posix"], [1, 2])
        func ucxDoesNotChangeTheBits(transports: String, lanes: Int) async throws {
            let job = TestJob(
                model: Self.model,
                cluster: "{workers: 3, keepers: 2, transport: ucx, lanes: \(lanes)}")
            let model = try await job.run(environment: ["UCX_TLS": transports]).model
            #expect(try await model == Self.reference.value)
        }

        @Test(arguments: ["tcp", "shared-memory", "unix-socket"], [1, 3])
        func carrierAndLanesDoNotChangeTheBits(transport: String, lanes: Int) async throws {
            let model = try await Self.train("keepers: 2, transport: \(transport), lanes: \(lanes)")
            #expect(try await model == Self.reference.value)
        }

        @Test func anotherSeedHasOtherBits() async throws {
            let job = TestJob(
                model: Self.model, train: "{steps: 12, seed: 2}", cluster: "{workers: 3}")
            let model = try await job.run().model
            #expect(try await model != Self.reference.value)
        }
    }

    /// What workers do together is what one does with the joined batch.
    @Suite struct JoinedBatchTests {
        @Test(arguments: [2, 3])
        func workersTrainAsOneWithTheJoinedBatch(workers: Int) async throws {
            let together = try await job(batchSize: 16, workers: workers).run()
            let alone = try await job(batchSize: 16 * workers, workers: 1).run()
            let losses = (try together.number("train_loss"), try alone.number("train_loss"))
            #expect(abs(losses.0 / losses.1 - 1) <= 1e-5, "\(losses)")
            let distance = try Distance(together.tensors(), from: alone.tensors())
            #expect(distance.norm <= 1e-5, "\(distance)")
        }

        // Shuffled, and over the end of an epoch.
        private func job(batchSize: Int, workers: Int) -> TestJob {
            TestJob(
                data: TestJob.digits(batchSize: batchSize), train: "{steps: 50}",
                cluster: "{workers: \(workers)}")
        }
    }

    /// The paper's mode: keepers add, workers make the step.
    @Suite struct AddTests {
        private static let options = "lr: 0.2, schedule: {name: step, step_size: 10, gamma: 0.5}"

        @Test(arguments: [(1, "mean"), (1, "sum"), (2, "mean"), (2, "sum")])
        func addIsPlainGradientDescent(workers: Int, reduction: String) async throws {
            let runs = try await [("add", reduction), ("sgd", reduction)].asyncMap {
                try await TestJob(
                    optimizer: "{name: \($0), reduction: \($1), \(Self.options)}",
                    train: "{steps: 30}", cluster: "{workers: \(workers)}"
                ).run()
            }
            let distance = try Distance(runs[0].tensors(), from: runs[1].tensors())
            #expect(distance.norm <= 1e-6 && distance.largest <= 1e-6, "\(distance)")
            #expect(try runs[0].number("train_loss") < 2.25)
        }
    }
}

extension Array {
    /// `map` for what takes time, one after the other.
    fileprivate func asyncMap<Result>(
        _ transform: (Element) async throws -> Result
    ) async rethrows -> [Result] {
        var results: [Result] = []
        for element in self { results.append(try await transform(element)) }
        return results
    }
}
