import Foundation
import Testing

extension SystemTests {
    /// Recurrent networks, trained as others are.
    @Suite struct LSTMTrainingTests {
        /// Deep and narrow, so that a third of the memory is more than a layer needs.
        private static let model: String = {
            let hidden = (0..<6).map {
                "{name: r\($0), type: lstm, out: 16, steps: 8, keep: all}, {type: dropout, p: 0.1}"
            }
            return "{layers: [\(hidden.joined(separator: ", ")), "
                + "{name: last, type: lstm, out: 20, steps: 8}, {name: fc, type: linear, out: 10}]}"
        }()

        private static func job(workers: Int, memory: String?) -> TestJob {
            var job = TestJob(
                model: model, data: TestJob.digits(batchSize: 16), train: "{steps: 20}",
                cluster: "{workers: \(workers)}")
            job.memory = memory
            return job
        }

        /// The runs that all others are compared with.
        private static let references = [1, 2].map { workers in
            Task { try await job(workers: workers, memory: nil).run().model }
        }

        @Test func theExampleReachesItsAccuracy() async throws {
            let folder = try TemporaryFolder()
            let trained = try await TrainedJob(
                job: GeepsProcess.root.appending(path: "Examples/digits-lstm.yaml").path(),
                options: ["--set", "output.directory=\(folder.path("run"))"],
                output: folder.path("run"), folder: folder)
            #expect(try trained.number("test_accuracy") >= 0.9)
        }

        @Test(arguments: [nil, "{budget: 100%}", "{budget: 50%}", "least"], [1, 2])
        func anyBudgetTrainsTheSameBits(memory: String?, workers: Int) async throws {
            var memory = memory
            if memory == "least" { memory = "{budget: \(try await Self.leastBytes())}" }
            let run = try await Self.job(workers: workers, memory: memory).run()
            #expect(try await run.model == Self.references[workers - 1].value)
        }

        /// The least budget, as `geeps plan` says it.
        private static func leastBytes() async throws -> Int {
            let folder = try TemporaryFolder()
            let file = try folder.write(
                "job.yaml", job(workers: 1, memory: nil).yaml(output: folder.path("run")))
            let plan = try await GeepsProcess.run(["plan", file, "--json"])
            return try #require(plan.json["least_bytes"] as? Int)
        }

        @Test func stepsThatDoNotDivideTheInputAreRefusedBeforeTheRun() async throws {
            let job = TestJob(
                model:
                    "{layers: [{name: rnn, type: lstm, out: 4, steps: 7}, {type: linear, out: 10}]}"
            )
            let result = try await job.attempt()
            #expect(result.end == .exited(65))
            #expect(
                result.error.contains(
                    "layer rnn: found an input of 1 x 8 x 8 = 64 values for 7 steps, expected a multiple of 7"
                ), "\(result)")
        }
    }
}
