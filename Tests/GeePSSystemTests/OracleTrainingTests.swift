import GeePSTestSupport
import Foundation
import Testing

extension SystemTests {
    /// Whole jobs against PyTorch, which trains on the joined batch of all workers.
    @Suite(
        "Oracle Training", .enabled(if: OraclePython.withTorch != nil, "needs Python with torch"))
    struct OracleTrainingTests {
        // One launch of Python for all cases: importing torch takes seconds.
        private static let torch = Result { try TorchRuns(OracleCase.all) }

        /// - Note: The tolerance of 1e-5 is for a tensor as a whole: ||a - b|| / ||b||, and the largest
        ///   difference beside the largest value. Of every single element it cannot be asked: one near zero
        ///   has a large relative error, in PyTorch's float32 beside PyTorch's float64 too (1e-4 to 1e-3 in
        ///   these cases; ours differ in as many elements by as much).
        @Test(arguments: OracleCase.all)
        func finalWeightsAndLossAreThoseOfTorch(_ test: OracleCase) async throws {
            let torch = try Self.torch.get()
            let trained = try await test.job(startingFrom: torch.folder).run()
            let expected = try readTensors(torch.folder.path("\(test.name).safetensors"))
            let distance = try Distance(trained.tensors(), from: expected)
            #expect(distance.norm <= 1e-5 && distance.largest <= 1e-5, "\(distance)")
            let loss = try #require(torch.losses[test.name])
            #expect(abs(try trained.number("train_loss") / loss - 1) <= 1e-6)
        }

        @Test(arguments: TestJob.models.keys.sorted())
        func torchLoadsTheModelByItsNames(model: String) async throws {
            let job = TestJob(model: TestJob.models[model] ?? "")
            let trained = try await job.run()
            let output = try OraclePython.run(
                "train_digits.py", ["load", model, trained.modelPath])
            #expect(output == "\(trained.modelPath) loaded\n")
        }

        /// Running statistics of the first worker, on all workers' shares of the test samples.
        @Test(arguments: [1, 2])
        func torchEvaluatesTheModelToTheSameResult(workers: Int) async throws {
            let trained = try await TestJob(
                model: TestJob.normalised, train: "{epochs: 3}", cluster: "{workers: \(workers)}"
            ).run()
            let output = try OraclePython.run(
                "train_digits.py", ["evaluate", TestJob.digits, "normalised", trained.modelPath])
            let object = try JSONSerialization.jsonObject(with: Data(output.utf8))
            let expected = try #require(object as? [String: Double])
            let loss = try #require(expected["loss"])
            #expect(abs(try trained.number("test_loss") / loss - 1) <= 1e-5)
            let accuracy = try #require(expected["accuracy"])
            #expect(abs(try trained.number("test_accuracy") - accuracy) <= 1e-6)
            #expect(accuracy > 0.8)
        }
    }
}

/// A job that both sides train.
struct OracleCase: Sendable, CustomTestStringConvertible {
    static let all =
        ["mlp", "lenet", "lstm"].flatMap { model in
            ["SGD", "Adam"].flatMap { optimizer in
                (1...3).map { OracleCase(model: model, optimizer: optimizer, workers: $0) }
            }
            // Not Adam: a bias before a normalisation has no gradient but its rounding, which Adam blows up.
        } + (1...3).map { OracleCase(model: "normalised", optimizer: "SGD", workers: $0) }

    let model: String
    /// A class of torch.optim.
    let optimizer: String
    let workers: Int
    private let batchSize = 16
    private let steps = 60

    init(model: String, optimizer: String, workers: Int) {
        self.model = model
        self.optimizer = optimizer
        self.workers = workers
    }

    var name: String { "\(model)-\(optimizer)-\(workers)" }
    var testDescription: String { name }

    /// The case as `train_digits.py` reads it.
    var json: String {
        let options =
            optimizer == "SGD"
            ? #"{"lr": 0.05, "momentum": 0.9, "weight_decay": 1e-3}"# : #"{"lr": 1e-3}"#
        return """
            {"name": "\(name)", "model": "\(model)", "optimizer": "\(optimizer)", "options": \(options), \
            "steps": \(steps), "batch_size": \(batchSize * workers), "workers": \(workers)}
            """
    }

    /// The case as we train it.
    func job(startingFrom folder: TemporaryFolder) -> TestJob {
        TestJob(
            model: TestJob.models[model] ?? "",
            data: TestJob.digits(batchSize: batchSize, isShuffled: false),
            optimizer: optimizer == "SGD"
                ? "{name: sgd, lr: 0.05, momentum: 0.9, weight_decay: 1e-3}"
                : "{name: adam, lr: 1e-3}",
            train: "{steps: \(steps)}", cluster: "{workers: \(workers)}",
            initialWeights: folder.path("\(model).safetensors"))
    }
}

/// What torch makes of the cases.
private struct TorchRuns: Sendable {
    /// The initial weights, and `<case>.safetensors`.
    let folder: TemporaryFolder
    /// Mean loss of the last epoch, by case.
    let losses: [String: Double]

    init(_ cases: [OracleCase]) throws {
        folder = try TemporaryFolder()
        let list = try folder.write(
            "cases.json", "[\(cases.map(\.json).joined(separator: ","))]")
        _ = try OraclePython.run("train_digits.py", ["init", folder.url.path()])
        _ = try OraclePython.run(
            "train_digits.py", ["train", TestJob.digits, folder.url.path(), list])
        let data = Data(folder.text("losses.json").utf8)
        losses = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Double])
    }
}
