import GeePSClient
import GeePSCore
import GeePSNN

/// Where the time of a run's steps went, worker by worker, and whom they have waited for.
///
/// All durations are of one process each: what a wait was for, its keeper has told apart (decision 0021).
struct StepReport: Hashable, Sendable {
    /// A worker's time, in seconds.
    struct Worker: Hashable, Sendable {
        var compute = 0.0
        var batches = 0.0
        /// Waits for memory: copies, or room.
        var copy = 0.0
        /// Waits for frames on their way, both ways.
        var network = 0.0
        /// Waits while keepers added up and stepped.
        var update = 0.0
        /// Waits while another worker computed for longer.
        var waiting = 0.0
        var total = 0.0

        /// What is none of these.
        var other: Double {
            max(0, total - compute - batches - copy - network - update - waiting)
        }
    }

    /// What would make the job faster if it were gone.
    struct Cause: Hashable, Sendable {
        /// "worker 2", "network".
        var name: String
        /// The worker, where it is one.
        var worker: Int?
        /// Of the step: of those that wait, where it is a worker.
        var share: Double
        /// How much faster the job would be.
        var gain: Double
    }

    private static let fields = 6
    /// By rank.
    var workers: [Worker]
    /// By late worker: seconds that the others have waited for it, each.
    var waitedFor: [Double]
    /// By late worker: what of that would be gone if it alone were not late.
    var recoverable: [Double]

    /// What this rank adds to the sum of all, from which `init(sums:)` makes the report.
    ///
    /// - Parameters:
    ///   - times: of its trainer.
    ///   - counters: at the end of the last step.
    ///   - shares: of its keepers, when all updates are applied.
    static func part(
        rank: Int, times: TrainingTimes, counters: ClientCounters, shares: WaitShares
    ) -> [Double] {
        let count = shares.update.count
        var own = [Double](repeating: 0, count: count * fields)
        if rank < count {
            let rows = min(times.stall, counters.rowWaitNanoseconds)
            let copy = times.stall - min(times.stall, rows + counters.startWaitNanoseconds)
            let values = [times.compute, times.data, copy, rows, times.total, 0]
            for (index, value) in values.enumerated() {
                own[rank * fields + index] = Double(value) / 1e9
            }
        }
        let found = shares.update + shares.worker + shares.causedBy + shares.recoverable
        return own + found.map { Double($0) / 1e9 }
    }

    /// The report of a job from the sums of all parts.
    init(sums: [Double]) {
        let count = sums.count / (Self.fields + 4)
        let found = Array(sums[(count * Self.fields)...])
        workers = (0..<count).map { rank in
            let own = Array(sums[(rank * Self.fields)..<((rank + 1) * Self.fields)])
            var worker = Worker(
                compute: own[0], batches: own[1], copy: own[2], update: found[rank],
                waiting: found[count + rank], total: own[4])
            worker.network = max(0, own[3] - worker.update - worker.waiting)
            return worker
        }
        let others = Double(max(1, count - 1))
        waitedFor = found[(2 * count)..<(3 * count)].map { $0 / others }
        recoverable = found[(3 * count)..<(4 * count)].map { $0 / others }
    }

    /// Mean over workers.
    var mean: Worker {
        let count = Double(max(1, workers.count))
        func mean(_ field: KeyPath<Worker, Double>) -> Double {
            workers.reduce(0) { $0 + $1[keyPath: field] } / count
        }
        return Worker(
            compute: mean(\.compute), batches: mean(\.batches), copy: mean(\.copy),
            network: mean(\.network), update: mean(\.update), waiting: mean(\.waiting),
            total: mean(\.total))
    }

    /// What is best to be rid of; nil where nothing is worth 1 % of the step.
    var largest: Cause? {
        let mean = mean
        guard mean.total > 0 else { return nil }
        let waits = [("network", mean.network), ("update", mean.update), ("copy", mean.copy)]
        var causes = waits.map { cause(named: $0.0, nil, $0.1, gone: $0.1, of: mean.total) }
        for rank in workers.indices {
            causes.append(
                cause(
                    named: "worker \(rank)", rank, waitedFor[rank], gone: recoverable[rank],
                    of: mean.total))
        }
        let best = causes.max { $0.gain < $1.gain }
        return best.flatMap { $0.gain >= 1.01 ? $0 : nil }
    }

    private func cause(
        named name: String, _ worker: Int?, _ seconds: Double, gone: Double, of total: Double
    ) -> Cause {
        Cause(
            name: name, worker: worker, share: seconds / total,
            gain: total / max(total - gone, total * 1e-3))
    }

    /// Where the time went, mean over workers; the worker that was waited for most by its number.
    var shares: [TrainingSummary.TimeShare] {
        let mean = mean
        var shares = [
            ("compute", mean.compute), ("network", mean.network), ("update", mean.update),
            ("copy", mean.copy), ("batches", mean.batches), ("other", mean.other),
        ]
        var rest = mean.waiting
        let count = Double(max(1, workers.count))
        if let most = waitedFor.indices.max(by: { waitedFor[$0] < waitedFor[$1] }) {
            let named = min(rest, waitedFor[most] * (count - 1) / count)
            shares.append(("waiting for worker \(most)", named))
            rest -= named
        }
        shares.append(("waiting for other workers", rest))
        // Half a percent is shown as nothing.
        return shares.filter { $0.1 >= 0.005 * mean.total || $0.0 == "compute" }
            .map { TrainingSummary.TimeShare(name: $0.0, seconds: $0.1) }
    }

    /// "the others wait for worker 2 for 18 % of the step; without that 1.22x".
    var sentence: String? {
        largest.map { cause in
            let share = Text.percent(cause.share, 0)
            let gain = "without that \(Text.fixed(cause.gain, 2))x"
            return cause.worker == nil
                ? "\(cause.name) takes \(share) of the step; \(gain)"
                : "waiting for \(cause.name) takes \(share) of the others' step; \(gain)"
        }
    }

    /// Part of the object that `--json` prints.
    var json: JSONValue {
        .object([
            "workers": .array(
                workers.map { worker in
                    .object([
                        "seconds": .number(worker.total), "compute": .number(worker.compute),
                        "batches": .number(worker.batches), "copy": .number(worker.copy),
                        "network": .number(worker.network), "update": .number(worker.update),
                        "waiting": .number(worker.waiting), "other": .number(worker.other),
                    ])
                }),
            "waited_for": .array(waitedFor.map(JSONValue.number)),
            "recoverable": .array(recoverable.map(JSONValue.number)),
            "largest": largest.map {
                .object([
                    "cause": .string($0.name), "share": .number($0.share), "gain": .number($0.gain),
                ])
            } ?? .null,
        ])
    }
}
