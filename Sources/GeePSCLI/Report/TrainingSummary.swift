/// What a training run has achieved; made by rank 0 at the end.
struct TrainingSummary: Hashable, Sendable {
    /// A share of the run's time.
    struct TimeShare: Hashable, Sendable {
        /// "compute", "read", ...
        var name: String
        var seconds: Double
    }

    /// What training comes to once it runs: without the first steps, which wait for initial values, for
    /// libraries that load and for memory that is touched first.
    struct SteadyState: Hashable, Sendable {
        /// Steps that count.
        var steps: Int
        /// Of all workers together.
        var samplesPerSecond: Double
        /// As `TrainingSummary.stallRatio`.
        var stallRatio: Double

        fileprivate var json: JSONValue {
            .object([
                "steps": .integer(Int64(steps)), "samples_per_second": .number(samplesPerSecond),
                "stall_ratio": .number(stallRatio),
            ])
        }
    }

    /// Clocks of each worker.
    var steps: Int
    /// Passes over the training data, the last one perhaps unfinished.
    var epochs: Double
    /// Mean of the last epoch, perhaps unfinished.
    var trainLoss: Double?
    /// Mean over the test set; nil without one.
    var testLoss: Double?
    /// Share of the test set that is classified right; nil without one.
    var testAccuracy: Double?
    /// Of all workers together.
    var samplesPerSecond: Double
    /// Share of the time that rank 0 waited for parameters.
    var stallRatio: Double
    /// By all workers together.
    var bytesSent: UInt64
    var bytesReceived: UInt64
    var workers: Int
    /// Where results were written; nil when nothing was.
    var outputDirectory: String?
    /// Wall time of the training.
    var seconds: Double
    /// Mean training loss of each epoch.
    var epochLosses: [Double] = []
    /// Where the time of all workers went; nil when it was not measured.
    var stepReport: StepReport?
    /// nil in a run of few steps.
    var steady: SteadyState?
    /// What managed memory did on rank 0; nil where memory is not managed.
    var memory: MemorySummary?
    /// Lost connections to keepers that were made anew, of all workers together.
    var reconnects: UInt64 = 0
    /// For how long lanes were without a connection, all together.
    var outageSeconds = 0.0

    /// The object that `--json` prints; reconnects are in it when there were any.
    var json: JSONValue {
        guard reconnects > 0, case .object(let members) = quietJSON else { return quietJSON }
        let count = JSONValue.integer(Int64(clamping: reconnects))
        return .object(
            members + [
                .init(key: "reconnects", value: count),
                .init(key: "reconnect_seconds", value: .number(outageSeconds)),
            ])
    }

    private var quietJSON: JSONValue {
        let stepTime: JSONValue = stepReport?.json ?? .null
        return .object([
            "schema": .string("geeps.train/1"),
            "steps": .integer(Int64(steps)),
            "epochs": .number(epochs),
            "train_loss": trainLoss.map { .number($0) } ?? .null,
            "test_loss": testLoss.map { .number($0) } ?? .null,
            "test_accuracy": testAccuracy.map { .number($0) } ?? .null,
            "samples_per_second": .number(samplesPerSecond),
            "stall_ratio": .number(stallRatio),
            "steady": steady?.json ?? .null,
            "bytes_sent": .integer(Int64(clamping: bytesSent)),
            "bytes_received": .integer(Int64(clamping: bytesReceived)),
            "workers": .integer(Int64(workers)),
            "output": outputDirectory.map { .string($0) } ?? .null,
            "step_time": stepTime,
            "memory": memory?.json ?? .null,
        ])
    }

    /// The table a person reads.
    ///
    /// - Parameter title: first line, such as "digits.yaml, 2 workers, staleness 0".
    func table(title: String, isColored: Bool) -> String {
        let rows = self.rows
        let width = rows.map(\.name.count).max() ?? 0
        let rule = String(repeating: "─", count: max(title.count, 48))
        let bold = isColored ? ("\u{1B}[1m", "\u{1B}[0m") : ("", "")
        let lines = rows.map { row in
            let name = row.name + String(repeating: " ", count: width - row.name.count)
            return row.isMain ? "\(name)  \(bold.0)\(row.text)\(bold.1)" : "\(name)  \(row.text)"
        }
        return (["\(bold.0)\(title)\(bold.1)", rule] + lines + [rule]).joined(separator: "\n")
            + "\n"
    }

    private var rows: [(name: String, text: String, isMain: Bool)] {
        var rows: [(name: String, text: String, isMain: Bool)] = []
        if let testAccuracy { rows.append(("test accuracy", Text.percent(testAccuracy, 2), true)) }
        if let testLoss { rows.append(("test loss", Text.significant(testLoss, 4), false)) }
        if let trainLoss { rows.append(("train loss", Text.significant(trainLoss, 4), false)) }
        if epochLosses.count > 1, let first = epochLosses.first, let last = epochLosses.last {
            let ends = "\(Text.significant(first, 3)) → \(Text.significant(last, 3))"
            rows.append(("loss by epoch", "\(Text.sparkline(epochLosses))  \(ends)", false))
        }
        rows.append(
            (
                "length",
                "\(Text.significant(epochs, 4)) epoch\(epochs == 1 ? "" : "s"), "
                    + "\(Text.grouped(steps)) step\(steps == 1 ? "" : "s") in "
                    + Text.seconds(seconds), false
            ))
        rows.append(("speed", "\(Self.whole(samplesPerSecond)) samples/s", false))
        rows.append(("stalled", Text.percent(stallRatio), false))
        let traffic = "\(Text.bytes(bytesSent)) sent, \(Text.bytes(bytesReceived)) received"
        rows.append(("traffic", traffic, false))
        if reconnects > 0 {
            let count = Text.grouped(Int(reconnects))
            let text = "\(count), without a connection for \(Text.seconds(outageSeconds))"
            rows.append(("reconnects", text, false))
        }
        if let stepReport { rows.append(("time", Self.split(stepReport.shares), false)) }
        if let sentence = stepReport?.sentence { rows.append(("why", sentence, false)) }
        for row in memory?.rows ?? [] { rows.append((row.name, row.text, false)) }
        if let outputDirectory { rows.append(("output", outputDirectory, false)) }
        return rows
    }

    /// "compute 71 %, network 12 %": largest first.
    private static func split(_ shares: [TimeShare]) -> String {
        let total = shares.map(\.seconds).reduce(0, +)
        guard total > 0 else { return "-" }
        return shares.enumerated()
            .sorted { ($1.element.seconds, $0.offset) < ($0.element.seconds, $1.offset) }
            .map { "\($0.element.name) \(Text.percent($0.element.seconds / total, 0))" }
            .joined(separator: ", ")
    }

    private static func whole(_ value: Double) -> String {
        value.isFinite && abs(value) < 1e15 ? Text.grouped(Int(value.rounded())) : "\(value)"
    }
}
