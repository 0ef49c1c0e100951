import Foundation
import Safetensors
import Testing

/// A job file made by a test.
struct TestJob: Sendable {
    /// The digits that come with the repository.
    static let digits = GeepsProcess.root.appending(path: "data/digits").path()
    /// 64 to 32 to 10.
    static let mlp =
        "{layers: [{name: fc1, type: linear, out: 32}, {name: relu1, type: relu}, "
        + "{name: fc2, type: linear, out: 10}]}"
    static let lenet = "{name: lenet}"
    /// Layers that normalise; `train_digits.py` knows it too.
    static let normalised =
        "{layers: [{name: conv1, type: conv, out: 6, kernel: 3, pad: 1}, "
        + "{name: bn1, type: batch_norm, eps: 1e-3, momentum: 0.2}, {type: tanh}, "
        + "{type: lrn, size: 3, alpha: 0.5}, {type: avgpool, kernel: 2}, "
        + "{name: fc1, type: linear, out: 32}, {name: bn2, type: batch_norm}, {type: tanh}, "
        + "{name: bn3, type: batch_norm, affine: false}, {name: fc2, type: linear, out: 10}]}"
    /// A row of the image a step.
    static let lstm =
        "{layers: [{name: lstm1, type: lstm, out: 24, steps: 8}, "
        + "{name: fc1, type: linear, out: 10}]}"
    /// By the name that `train_digits.py` has for them.
    static let models = ["mlp": mlp, "lenet": lenet, "normalised": normalised, "lstm": lstm]

    var model = TestJob.mlp
    var data = TestJob.digits(batchSize: 16)
    var optimizer = "{name: sgd, lr: 0.05, momentum: 0.9}"
    var train = "{steps: 12}"
    var staleness = "0"
    var cluster = "{workers: 1}"
    /// The memory section.
    var memory: String?
    /// Path of the initial weights.
    var initialWeights: String?

    /// The data section of the digits.
    static func digits(batchSize: Int, isShuffled: Bool = true) -> String {
        "{format: mnist, path: \(digits), batch_size: \(batchSize), shuffle: \(isShuffled)}"
    }

    /// The job file; results go to `output`.
    func yaml(output: String) -> String {
        var lines = [
            "model: \(model)", "data: \(data)", "optimizer: \(optimizer)", "train: \(train)",
            "consistency: {staleness: \(staleness)}", "cluster: \(cluster)",
            "output: {directory: \(output)}",
        ]
        if let memory { lines.append("memory: \(memory)") }
        if let initialWeights { lines.append("init: \(initialWeights)") }
        return lines.joined(separator: "\n") + "\n"
    }

    /// Trains to the end, which must be a good one.
    func run(environment: [String: String] = [:]) async throws -> TrainedJob {
        let folder = try TemporaryFolder()
        let file = try folder.write("job.yaml", yaml(output: folder.path("run")))
        return try await TrainedJob(
            job: file, output: folder.path("run"), folder: folder, environment: environment)
    }

    /// Runs `geeps train` on it, however that ends.
    func attempt() async throws -> GeepsResult {
        let folder = try TemporaryFolder()
        let file = try folder.write("job.yaml", yaml(output: folder.path("run")))
        return try await GeepsProcess.run(["train", file, "--json", "--quiet"])
    }
}

/// A job that has been trained to its end.
struct TrainedJob: Sendable {
    let result: GeepsResult
    /// The bytes of model.safetensors.
    let model: Data
    /// The lines of metrics.jsonl.
    let metrics: [String]
    /// The path of model.safetensors, while this value lives.
    let modelPath: String
    private let folder: TemporaryFolder

    /// Trains job file `job` into directory `output` of `folder`.
    init(
        job: String, options: [String] = [], output: String, folder: TemporaryFolder,
        environment: [String: String] = [:]
    ) async throws {
        self.folder = folder
        result = try await GeepsProcess.run(
            ["train", job, "--json", "--quiet"] + options, environment: environment)
        try #require(result.isSuccess, "\(result)")
        modelPath = output + "/model.safetensors"
        model = try Data(contentsOf: URL(filePath: modelPath))
        metrics = try String(contentsOfFile: output + "/metrics.jsonl", encoding: .utf8)
            .split(separator: "\n").map(String.init)
    }

    /// A number of the object that --json prints.
    func number(_ key: String) throws -> Double { try #require(result.json[key] as? Double) }

    /// The weights by name.
    func tensors() throws -> [String: [Float]] { try readTensors(modelPath) }
}

/// All tensors of a safetensors file; counts of mini-batches, which are int64, as floats.
func readTensors(_ path: String) throws -> [String: [Float]] {
    let file = try SafetensorsFile(path: path)
    return try Dictionary(
        uniqueKeysWithValues: file.tensors.map { tensor in
            guard tensor.elementType == .int64 else {
                return (tensor.name, try file.floats(tensor.name))
            }
            let counts = try file.withBytes(tensor.name) { bytes in
                bytes.bindMemory(to: Int64.self).map { Float(Int64(littleEndian: $0)) }
            }
            return (tensor.name, counts)
        })
}

/// How far apart two sets of tensors are.
struct Distance: CustomStringConvertible {
    /// Largest ||a - b|| / ||b|| of a tensor.
    var norm = 0.0
    /// Largest max |a - b| / max |b| of a tensor.
    var largest = 0.0

    /// The distance of `values` from `reference`, which must have the same names and sizes.
    init(_ values: [String: [Float]], from reference: [String: [Float]]) throws {
        try #require(values.keys.sorted() == reference.keys.sorted())
        for (name, expected) in reference {
            let found = try #require(values[name])
            try #require(found.count == expected.count)
            let differences = zip(found, expected).map { Double($0) - Double($1) }
            norm = max(norm, Self.length(differences) / Self.length(expected.map(Double.init)))
            let largestExpected = expected.map { Double(abs($0)) }.max() ?? 0
            largest = max(largest, (differences.map(abs).max() ?? 0) / largestExpected)
            // A comparison with NaN is false, also the one inside max.
            if differences.contains(where: \.isNaN) { norm = .infinity }
        }
    }

    var description: String { "norm \(norm), largest \(largest)" }

    private static func length(_ values: [Double]) -> Double {
        values.reduce(0) { $0 + $1 * $1 }.squareRoot()
    }
}
