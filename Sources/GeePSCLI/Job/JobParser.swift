import GeePSCore
import GeePSDevice
import GeePSNN

/// Turns the tree of a job file into a job; each section has a file of its own.
struct JobParser {
    /// What relative paths start from.
    let directory: JobDirectory
    /// `cluster.workers` of a job that does not say.
    let defaultWorkers: Int
    /// Whether the paths a job reads from must exist.
    let checksPaths: Bool
    let problems: ProblemCollector

    /// The job that `root` describes; worth using only when nothing was reported.
    func job(from root: JobNode) -> Job? {
        guard var map = MapReader(root, path: "", problems: problems) else { return nil }
        let model = map.map("model", isRequired: true).flatMap(self.model)
        let data = map.map("data", isRequired: true).flatMap(self.data)
        let optimizer = map.map("optimizer", isRequired: true).flatMap(self.optimizer)
        let training = map.map("train", isRequired: true).map(train) ?? TrainingSection()
        let consistency = map.map("consistency").map(consistency) ?? ConsistencySection()
        let cluster = cluster(map.map("cluster"))
        let memory = map.map("memory").map(memory)
        let initialWeights = path("init", in: &map, expected: "the path of a safetensors file")
        let outputDirectory = map.map("output").flatMap(output)
        let checkpoint = map.map("checkpoint").flatMap {
            self.checkpoint($0, outputDirectory: outputDirectory)
        }
        let isOnHost = memory?.device ?? .host == .host
        let pace = map.map("emulate").flatMap {
            self.pace($0, workers: cluster.workers, isOnHost: isOnHost)
        }
        map.finish()
        if let origin = training.precisionOrigin, isOnHost {
            problems.report(
                at: origin,
                "found \(training.precision.rawValue) for train.precision, expected float32 on the host; "
                    + "memory.device: cuda computes with it")
        }
        guard let model, let data, let optimizer else { return nil }
        return Job(
            model: model, data: data, optimizer: optimizer, length: training.length,
            seed: training.seed, staleness: consistency.staleness,
            refreshesReads: consistency.refreshesReads, cluster: cluster,
            batchesPerClock: training.batchesPerClock, precision: training.precision,
            memory: memory, initialWeights: initialWeights, outputDirectory: outputDirectory,
            checkpoint: checkpoint, clocksPerValidation: training.clocksPerValidation, pace: pace)
    }

    /// What the train section says.
    private struct TrainingSection {
        var length = TrainingLength.epochs(1)
        var seed: UInt64 = 1
        var batchesPerClock = 1
        var precision = ComputePrecision.float32
        var clocksPerValidation: Int?
        /// Where a precision stands that only a GPU has.
        var precisionOrigin: Origin?
    }

    /// An absolute path from a text; reports one that should exist and does not.
    func path(
        _ key: String, in map: inout MapReader, isRequired: Bool = false, mustExist: Bool = true,
        expected: String
    ) -> String? {
        guard let text = map.text(key, isRequired: isRequired, expected: expected) else {
            return nil
        }
        let path = directory.resolve(text)
        if mustExist && checksPaths && !JobDirectory.exists(path) {
            map.report(
                at: map.node(key)?.origin ?? map.origin,
                "found '\(text)' for \(map.name(of: key)), expected \(expected); there is nothing at "
                    + path)
        }
        return path
    }

    private func train(_ map: MapReader) -> TrainingSection {
        var map = map
        var section = TrainingSection()
        let hasBoth = map.has("epochs") && map.has("steps")
        let epochs = map.has("epochs") ? map.integer("epochs", in: 1...1_000_000) : nil
        let steps = map.has("steps") ? map.integer("steps", in: 1...Int.max) : nil
        _ = (map.node("epochs"), map.node("steps"))
        section.seed = map.integer("seed", in: 0...UInt64.max, default: 1)
        section.batchesPerClock = map.integer("batches_per_clock", in: 1...65_536, default: 1)
        section.precision =
            map.choice(
                "precision", of: ComputePrecision.allCases.map(\.rawValue), default: "float32"
            ).flatMap(ComputePrecision.init) ?? .float32
        if map.has("validate_every") {
            section.clocksPerValidation = map.integer("validate_every", in: 1...Int.max)
        }
        _ = map.node("validate_every")
        if section.precision != .float32 { section.precisionOrigin = map.origin(of: "precision") }
        map.finish()
        if hasBoth {
            map.report(
                at: max(map.origin(of: "epochs"), map.origin(of: "steps")),
                "found both train.epochs and train.steps, expected one of them; --set with one takes "
                    + "the file's other away")
        }
        if epochs == nil && steps == nil {
            map.report(
                at: map.origin,
                "missing key 'epochs' or 'steps' in train, expected one of them")
        }
        section.length = steps.map { .steps($0) } ?? .epochs(epochs ?? 1)
        return section
    }

    /// What the consistency section says.
    private struct ConsistencySection {
        var staleness = Staleness.bulkSynchronous
        var refreshesReads = true
    }

    private func consistency(_ map: MapReader) -> ConsistencySection {
        var map = map
        let expected =
            "a number of clocks from 0 to \(Limits.stalenessClocksMaximum), or async"
        let staleness = map.value("staleness", fallback: .bulkSynchronous, expected: expected) {
            (node) -> Staleness? in
            if node.text == "async" { return .unbounded }
            return node.plainText.flatMap { UInt64($0) }
                .flatMap { $0 <= Limits.stalenessClocksMaximum ? .clocks($0) : nil }
        }
        let refreshesReads = map.flag("refresh", default: true)
        map.finish()
        return ConsistencySection(
            staleness: staleness ?? .bulkSynchronous, refreshesReads: refreshesReads)
    }

    private func output(_ map: MapReader) -> String? {
        var map = map
        let path = path(
            "directory", in: &map, isRequired: true, mustExist: false,
            expected: "the path of a directory")
        map.finish()
        return path
    }
}

extension Origin: Comparable {
    static func < (a: Origin, b: Origin) -> Bool {
        switch (a, b) {
        case (.file(let line, let column), .file(let otherLine, let otherColumn)):
            (line, column) < (otherLine, otherColumn)
        case (.file, .flag): true
        case (.flag, _): false
        }
    }
}
