import ArgumentParser
import GeePS
import GeePSDevice
import GeePSTransport
import Glibc

/// `geeps train`.
struct TrainCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "train",
        abstract: "Trains the network that a job file describes.",
        discussion: """
            Alone, with N workers, it starts N processes on this machine. Under srun, mpirun, torchrun or \
            Kubernetes, or where GEEPS_RANK, GEEPS_WORLD_SIZE and GEEPS_RENDEZVOUS are set, it is one \
            process of a job that something else has launched; `geeps doctor` says what it sees. Paths in the job file start from the directory of that file.

            EXAMPLES
              geeps train Examples/digits.yaml
              geeps train Examples/digits.yaml --workers 3 --set train.epochs=5
              geeps train job.yaml --set model.layers.0.out=32
              geeps train job.yaml --set consistency.staleness=async
              geeps train job.yaml --print-config > resolved.yaml
              geeps train job.yaml --quiet --json | jq .test_accuracy
              geeps train job.yaml --set memory.budget=60% --trace run.json
              srun -N4 geeps train job.yaml
              geeps train job.yaml --set checkpoint.every=10m --resume auto
              GEEPS_RANK=1 GEEPS_WORLD_SIZE=2 GEEPS_RENDEZVOUS=10.0.0.7:29500 \\
                geeps train job.yaml
            """)

    @Argument(help: "The job file.", completion: .file(extensions: ["yaml", "yml"]))
    var job: String

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Puts a value in place of the job file's; list elements by position.",
            valueName: "key.path=value"))
    var assignments: [String] = []

    @Option(help: ArgumentHelp("Workers; the same as --set cluster.workers=N.", valueName: "n"))
    var workers: Int?

    @Option(
        help: ArgumentHelp(
            "What to start from: auto (the newest whole checkpoint), never, or a checkpoint's path; the "
                + "same as --set checkpoint.resume=WHAT.", valueName: "what"))
    var resume: String?

    @Option(
        help: ArgumentHelp(
            "How often to start again when a process is lost; the same as --set checkpoint.restarts=N.",
            valueName: "n"))
    var restarts: Int?

    @Flag(help: "Prints one JSON object with the results instead of a table.")
    var json = false

    @Flag(help: "Prints the job with every default and override, and does not train.")
    var printConfig = false

    @Option(
        help: ArgumentHelp(
            "Leaves a timeline of layers and copies, for Perfetto or chrome://tracing; ranks above 0 "
                + "put their number before the extension.", valueName: "path"),
        completion: .file(extensions: ["json"]))
    var trace: String?

    @Flag(help: "Prints neither progress nor table; errors, and the object of --json, still.")
    var quiet = false

    func run() throws {
        let environment = processEnvironment()
        let detected = try LaunchEnvironment.detect(environment)
        let launch = detected.launch
        if launch?.rank ?? 0 == 0 {
            for warning in detected.warnings { writeError("geeps: \(warning)\n") }
        }
        let loader = JobLoader(
            file: job, assignments: allAssignments, workers: workers,
            defaultWorkers: launch?.worldSize ?? 1, checksPaths: !printConfig)
        if printConfig { return writeOutput(try loader.load().yaml) }
        guard let launch else {
            let job = try loader.load()
            guard job.cluster.workers == 1 else {
                try checkBeforeLaunch(job)
                return try LocalLaunch.run(job, environment: environment)
            }
            return try train(
                TrainingPreparation(job, file: self.job, launch: .alone), launch: .alone,
                environment: environment)
        }
        let preparation = try Self.tellingOthers(launch) { tls in
            let job = try loader.load()
            tls = job.cluster.tls
            try Self.check(
                launch, saidBy: detected.claim?.sizeVariable ?? LaunchEnvironment.worldSize,
                against: job)
            return try TrainingPreparation(job, file: self.job, launch: launch)
        }
        try train(preparation, launch: launch, environment: environment)
    }

    /// Those of `--set`, then what other options say.
    private var allAssignments: [String] {
        var all = assignments
        if let resume {
            let isWord = resume == "auto" || resume == "never"
            // A path on the command line starts where the user is.
            let path = isWord || resume.hasPrefix("/") ? resume : currentDirectory() + "/" + resume
            all.append("checkpoint.resume=\(path)")
        }
        if let restarts { all.append("checkpoint.restarts=\(restarts)") }
        return all
    }

    private func currentDirectory() -> String {
        guard let path = getcwd(nil, 0) else { return "." }
        defer { free(path) }
        return String(cString: path)
    }

    /// Finds what is wrong with data, model and weights once, before the ranks start and each say it.
    ///
    /// - Complexity: reads the data once more than the ranks do.
    private func checkBeforeLaunch(_ job: Job) throws {
        let first = Launch(
            rank: 0, worldSize: job.cluster.workers, localRank: 0, rendezvous: nil)
        _ = try TrainingPreparation(job, file: self.job, launch: first)
    }

    /// Prepares this rank; when it cannot take part, the others are told before it ends.
    ///
    /// - Parameter prepare: sets its argument to the job's TLS files once it knows them.
    private static func tellingOthers<R>(
        _ launch: Launch, _ prepare: (inout TLSFiles?) throws -> R
    ) throws -> R {
        var tls: TLSFiles?
        do {
            return try prepare(&tls)
        } catch {
            if let address = launch.rendezvous {
                Rendezvous.decline(
                    rank: launch.rank, worldSize: launch.worldSize, address: "\(address)",
                    reason: ErrorReport.make(error)?.message ?? "\(error)",
                    settings: ControlSettings(tls: tls))
            }
            throw error
        }
    }

    /// - Throws: `CLIError` (usage) when launcher and job disagree about the number of workers.
    static func check(
        _ launch: Launch, saidBy variable: String = LaunchEnvironment.worldSize, against job: Job
    ) throws(CLIError) {
        guard launch.worldSize != job.cluster.workers else { return }
        throw CLIError(
            .usage,
            "\(variable) is \(launch.worldSize) but the job has cluster.workers "
                + "\(job.cluster.workers): leave cluster.workers out, or start geeps with --workers "
                + "\(launch.worldSize)")
    }

    private func train(
        _ preparation: TrainingPreparation, launch: Launch, environment: [String: String]
    ) throws {
        let progress = ProgressReporter.standard(
            rank: launch.rank, isQuiet: quiet, environment: environment)
        let timeline = trace.map { _ in Timeline() }
        let summary = try runTraining(
            preparation, launch: launch, progress: progress, timeline: timeline)
        if let trace, let timeline { try write(timeline, to: trace, rank: launch.rank) }
        guard launch.rank == 0 else { return }
        if json {
            writeOutput(summary.json.text + "\n")
        } else if !quiet {
            let isColored =
                isatty(STDOUT_FILENO) == 1 && environment["NO_COLOR", default: ""].isEmpty
                && environment["TERM"] != "dumb"
            writeOutput(summary.table(title: title(of: preparation.job), isColored: isColored))
        }
    }

    private func write(_ timeline: Timeline, to path: String, rank: Int) throws(CLIError) {
        let name = path.split(separator: "/").last.map(String.init) ?? path
        var own = path
        if rank > 0 {
            let ending = name.lastIndex(of: ".").map { String(name[$0...]) } ?? ""
            own = "\(path.dropLast(ending.count)).\(rank)\(ending)"
        }
        try ChromeTrace.write(
            timeline.spans, processName: "rank \(rank)", processID: rank, to: own)
        guard timeline.droppedSpans > 0, rank == 0 else { return }
        writeError(
            "geeps: the timeline has the first spans of each track; \(timeline.droppedSpans) more did "
                + "not fit\n")
    }

    /// "digits.yaml, 2 workers, staleness 0".
    private func title(of job: Job) -> String {
        let name = self.job.split(separator: "/").last.map(String.init) ?? self.job
        let workers = job.cluster.workers
        return "\(name), \(workers) worker\(workers == 1 ? "" : "s"), staleness \(job.staleness)"
    }
}
