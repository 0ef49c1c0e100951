import Foundation
import Testing

extension SystemTests {
    /// The jobs that come with the repository, as shipped.
    @Suite struct DemoTests {
        private static let examples = GeepsProcess.root.appending(path: "Examples").path()

        private func train(_ example: String, _ settings: [String]) async throws -> TrainedJob {
            let folder = try TemporaryFolder()
            let options = settings + ["output.directory=\(folder.path("run"))"]
            return try await TrainedJob(
                job: "\(Self.examples)/\(example).yaml",
                options: options.flatMap { ["--set", $0] },
                output: folder.path("run"), folder: folder)
        }

        @Test(arguments: [1, 2, 3])
        func theDemoReachesItsAccuracy(workers: Int) async throws {
            let trained = try await train("digits", ["cluster.workers=\(workers)"])
            #expect(try trained.number("test_accuracy") >= 0.97)
            #expect(try trained.number("workers") == Double(workers))
            #expect(try trained.number("epochs") == 25)
        }

        @Test func theSmallestExampleReachesItsAccuracy() async throws {
            let trained = try await train("digits-mlp", [])
            #expect(try trained.number("test_accuracy") >= 0.95)
        }

        @Test func theExampleOfBatchNormalisationReachesItsAccuracy() async throws {
            let trained = try await train("digits-norm", [])
            #expect(try trained.number("test_accuracy") >= 0.98)
        }

        @Test(arguments: ["1", "2", "async"])
        func staleReadsTrainTheDigitsToo(staleness: String) async throws {
            let trained = try await train("digits-ssp", ["consistency.staleness=\(staleness)"])
            #expect(try trained.number("test_accuracy") >= 0.95)
        }

        @Test(arguments: [1, 2])
        func resultsAreTheObjectThatWasPromised(workers: Int) async throws {
            let trained = try await train(
                "digits", ["cluster.workers=\(workers)", "train.epochs=2"])
            let json = trained.result.json
            #expect(
                json.keys.sorted() == [
                    "bytes_received", "bytes_sent", "epochs", "memory", "output",
                    "samples_per_second", "schema", "stall_ratio", "steady", "step_time", "steps",
                    "test_accuracy", "test_loss", "train_loss", "workers",
                ])
            #expect(json["schema"] as? String == "geeps.train/1")
            #expect(try trained.number("steps") == Double(2 * (1438 / (16 * workers))))
            #expect(try (0...1).contains(trained.number("stall_ratio")))
            #expect(try trained.number("bytes_sent") > 0)
            #expect(trained.result.error.isEmpty && trained.result.output.hasSuffix("}\n"))
            #expect(trained.result.output.split(separator: "\n").count == 1)
        }

        @Test func theBudgetExampleTakesAThirdOfTheMemory() async throws {
            let trained = try await train("budget", ["train.epochs=2"])
            let memory = try #require(trained.result.json["memory"] as? [String: Any])
            let device = try #require(memory["device_bytes"] as? Double)
            let full = try #require(memory["full_bytes"] as? Double)
            #expect(device / full <= 0.351)
            #expect(try trained.number("train_loss") < 2.31)
        }

        /// What is measured after the last clock is what is measured at the end.
        @Test func theTestHalfIsMeasuredOnTheWay() async throws {
            let trained = try await train("digits", ["train.steps=50", "train.validate_every=25"])
            let lines = try trained.metrics.map {
                try #require(
                    try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
            }.filter { $0["event"] as? String == "validation" }
            #expect(lines.map { $0["step"] as? Int } == [25, 50])
            let losses = try lines.map { try #require($0["test_loss"] as? Double) }
            #expect(losses[1] < losses[0])
            #expect(abs(losses[1] - (try trained.number("test_loss"))) < 1e-6)
            // Looking changes nothing.
            let blind = try await train("digits", ["train.steps=50"])
            #expect(trained.model == blind.model)
        }

        @Test func metricsAreALineAnEpochAndTheResults() async throws {
            let trained = try await train("digits", ["train.epochs=3"])
            let lines = try trained.metrics.map {
                try #require(
                    try JSONSerialization.jsonObject(with: Data($0.utf8)) as? [String: Any])
            }
            try #require(lines.count == 4)
            #expect(lines.map { $0["epoch"] as? Int } == [1, 2, 3, nil])
            #expect(lines.prefix(3).map { $0["step"] as? Int } == [44, 88, 132])
            let losses = lines.compactMap { $0["train_loss"] as? Double }
            #expect(losses.count == 4 && losses[0] > losses[1] && losses[1] > losses[2])
            #expect(trained.metrics[3] + "\n" == trained.result.output)
        }

        @Test func thePrintedConfigurationTrainsTheSameBits() async throws {
            let settings = ["train.epochs=2", "optimizer.lr=0.1", "cluster.workers=3"]
            let original = try await train("digits", settings)
            let folder = try TemporaryFolder()
            let options = settings + ["output.directory=\(folder.path("run"))"]
            let printed = try await GeepsProcess.run(
                ["train", "\(Self.examples)/digits.yaml", "--print-config"]
                    + options.flatMap { ["--set", $0] })
            try #require(printed.isSuccess, "\(printed)")
            let file = try folder.write("resolved.yaml", printed.output)
            let again = try await TrainedJob(job: file, output: folder.path("run"), folder: folder)
            #expect(again.model == original.model)
        }
    }

    /// What a job may be made of.
    @Suite struct JobContentTests {
        @Test func everyLayerTypeTrainsInOneJob() async throws {
            let trained = try await TestJob(
                model: """
                    {layers: [{type: conv, out: 8, kernel: 3, pad: 1}, {type: batch_norm}, {type: tanh}, \
                    {type: lrn, size: 3}, {type: maxpool, kernel: 2}, \
                    {type: conv, out: 16, kernel: 3, stride: 1, pad: 1}, {type: relu}, \
                    {type: avgpool, kernel: 2}, {type: flatten}, {type: dropout, p: 0.2}, \
                    {type: linear, out: 32}, {type: sigmoid}, {type: linear, out: 10}]}
                    """,
                optimizer: "{name: adam, lr: 0.005}", train: "{epochs: 10}", cluster: "{workers: 2}"
            ).run()
            #expect(try trained.number("test_accuracy") >= 0.9)
            #expect(
                try trained.tensors().keys.sorted() == [
                    "batch_norm1.bias", "batch_norm1.num_batches_tracked",
                    "batch_norm1.running_mean", "batch_norm1.running_var", "batch_norm1.weight",
                    "conv0.bias", "conv0.weight", "conv5.bias", "conv5.weight", "linear10.bias",
                    "linear10.weight", "linear12.bias", "linear12.weight",
                ])
        }

        @Test(arguments: [("adamw", 0.01), ("adagrad", 0.05), ("rmsprop", 0.01)])
        func everyOptimizerLearns(name: String, rate: Double) async throws {
            let trained = try await TestJob(
                optimizer: "{name: \(name), lr: \(rate)}", train: "{epochs: 5}",
                cluster: "{workers: 2}"
            ).run()
            #expect(try trained.number("test_accuracy") >= 0.9)
        }

        @Test func dropoutTrains() async throws {
            let trained = try await TestJob(
                model: "{layers: [{type: linear, out: 128}, {type: relu}, {type: dropout, p: 0.5}, "
                    + "{type: linear, out: 10}]}",
                train: "{epochs: 8}", cluster: "{workers: 2}"
            ).run()
            #expect(try trained.number("test_accuracy") >= 0.95)
            // Units are left out in training only.
            #expect(try trained.number("test_loss") < trained.number("train_loss"))
        }

        @Test func syntheticDataHasNoTestHalf() async throws {
            let trained = try await TestJob(
                model: "{layers: [{type: linear, out: 4}]}",
                data:
                    "{format: synthetic, samples: 1000, features: 16, classes: 4, batch_size: 25}",
                optimizer: "{name: sgd, lr: 0.5}", train: "{epochs: 15}", cluster: "{workers: 2}"
            ).run()
            #expect(try trained.number("train_loss") < 0.3)
            #expect(trained.result.json["test_loss"] is NSNull)
            #expect(trained.result.json["test_accuracy"] is NSNull)
        }

        @Test func syntheticImagesHaveChannels() async throws {
            let trained = try await TestJob(
                model:
                    "{layers: [{type: conv, out: 4, kernel: 3}, {type: relu}, {type: linear, out: 3}]}",
                data:
                    "{format: synthetic, samples: 60, shape: [2, 6, 5], classes: 3, batch_size: 10}",
                train: "{steps: 5}"
            ).run()
            #expect(try trained.tensors()["linear2.weight"]?.count == 3 * 4 * 4 * 3)
        }

        @Test func cifar10ImagesTrain() async throws {
            let folder = try TemporaryFolder()
            for name in (1...5).map({ "data_batch_\($0)" }) + ["test_batch"] {
                try Data(Self.cifarRecords(20)).write(to: folder.url.appending(path: "\(name).bin"))
            }
            let trained = try await TestJob(
                model: "{layers: [{type: avgpool, kernel: 8}, {type: linear, out: 10}]}",
                data: "{format: cifar10, path: \(folder.url.path()), batch_size: 10}",
                optimizer: "{name: adam, lr: 0.1}", train: "{epochs: 12}", cluster: "{workers: 2}"
            ).run()
            #expect(try trained.number("test_accuracy") == 1)
        }

        /// Label byte, then three planes of 32 x 32; the label is the band of rows that is bright in a plane.
        private static func cifarRecords(_ count: Int) -> [UInt8] {
            (0..<count).flatMap { sample -> [UInt8] in
                let label = sample % 10
                let values = (0..<3 * 1024).map { position -> UInt8 in
                    let isBright = position / 256 == label
                    return isBright ? 250 : UInt8(truncatingIfNeeded: (position + sample) % 16)
                }
                return [UInt8(label)] + values
            }
        }
    }
}
