import GeePSNN
import Glibc

/// The directory a run leaves its results in: `metrics.jsonl` as it goes, `model.safetensors` at the end.
///
/// Rank 0 has one; without a path nothing is written.
final class RunDirectory {
    /// Where results go; nil when nothing is written.
    let path: String?
    private var metrics: UnsafeMutablePointer<FILE>?

    /// Makes the directory, parents included, and an empty metrics file.
    ///
    /// - Parameter continues: leaves what an earlier part of the run has written.
    /// - Throws: `CLIError` naming what cannot be created.
    init(_ path: String?, continues: Bool = false) throws(CLIError) {
        self.path = path
        guard let path else { return }
        try makeDirectories(path)
        let file = path + "/metrics.jsonl"
        guard let stream = fopen(file, continues ? "a" : "w") else {
            throw CLIError(.cannotOpen, "cannot create \(file): \(lastError())")
        }
        metrics = stream
    }

    deinit { if let metrics { fclose(metrics) } }

    /// Notes the end of an epoch as this rank saw it.
    func writeEpoch(_ epoch: Int, step: Int, loss: Double, times: TrainingTimes) throws(CLIError) {
        try write(
            .object([
                "event": .string("epoch"), "epoch": .integer(Int64(epoch)),
                "step": .integer(Int64(step)), "train_loss": .number(loss),
                "seconds": .number(Double(times.total) / 1e9),
                "compute_seconds": .number(Double(times.compute) / 1e9),
                "stall_seconds": .number(Double(times.stall) / 1e9),
            ]))
    }

    /// Notes how the test half went before the end.
    func writeValidation(_ result: TestResult, step: Int, times: TrainingTimes) throws(CLIError) {
        try write(
            .object([
                "event": .string("validation"), "step": .integer(Int64(step)),
                "test_loss": .number(result.meanLoss), "test_accuracy": .number(result.accuracy),
                "seconds": .number(Double(times.total) / 1e9),
            ]))
    }

    /// Notes the results.
    func writeSummary(_ summary: TrainingSummary) throws(CLIError) {
        try write(summary.json)
    }

    /// Writes weights and running statistics with PyTorch's names.
    func writeModel(_ model: WeightsFile.Contents, of network: Network) throws(CLIError) {
        guard let path else { return }
        do throws(NNError) {
            try WeightsFile.write(path + "/model.safetensors", model, of: network)
        } catch {
            throw CLIError(.inputOutput, error.message)
        }
    }

    private func write(_ value: JSONValue) throws(CLIError) {
        guard let metrics, let path else { return }
        guard fputs(value.text + "\n", metrics) >= 0, fflush(metrics) == 0 else {
            throw CLIError(.inputOutput, "cannot write \(path)/metrics.jsonl: \(lastError())")
        }
    }
}

/// Makes `path` a directory, and its parents.
private func makeDirectories(_ path: String) throws(CLIError) {
    var prefix = path.hasPrefix("/") ? "/" : ""
    for part in path.split(separator: "/") {
        prefix += part + "/"
        if mkdir(prefix, 0o777) != 0, errno != EEXIST {
            throw CLIError(.cannotOpen, "cannot create directory \(prefix): \(lastError())")
        }
    }
}
