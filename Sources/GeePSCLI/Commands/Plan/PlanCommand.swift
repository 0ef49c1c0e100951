import ArgumentParser
import GeePSCore
import GeePSMemory
import GeePSNN
import Glibc

/// `geeps plan`.
struct PlanCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "plan",
        abstract: "Says what of a job lives where on a device of a given size, and what it costs.",
        discussion: """
            Builds the network, not the data: only the shape of a sample is read. Plans as geeps train does; \
            budget, policy and link are those of the job's memory section unless given here. A budget is a \
            number of bytes (512MiB, 1.5GB) or a share of what keeping everything needs (35%).

            With the times of the layers and a link it predicts the speed of a step, and layers whose result \
            costs more to copy than to compute run forward twice. geeps bench layers measures the times, into \
            job.layers.json beside job.yaml, where they are looked for.

            With --workers and --network it predicts a cluster instead: throughput, stall and how many layers \
            should share a table, everything kept on the device. --record writes what one clock touches, and for \
            how long it computes, as a workload for geeps replay.

            EXAMPLES
              geeps plan Examples/digits.yaml
              geeps plan Examples/digits.yaml --budget 80%
              geeps plan job.yaml --budget 512MiB --policy paper
              geeps plan job.yaml --sweep --svg sweep.svg
              geeps bench layers job.yaml && geeps plan job.yaml --budget 35% --link 12GB/s
              geeps plan job.yaml --link 12GB/s --times gpu.layers.json --sweep
              geeps plan job.yaml --budget 4GiB --json | jq .bytes_in
              geeps plan job.yaml --workers 64 --network 25Gb/s --link 12GB/s
              geeps plan job.yaml --record job.workload.json
            """)

    @Argument(help: "The job file.", completion: .file(extensions: ["yaml", "yml"]))
    var job: String

    @Option(
        help: ArgumentHelp(
            "Device memory; without it the job's, or else what keeping everything needs.",
            valueName: "bytes|percent"))
    var budget: String?

    @Option(
        help: ArgumentHelp(
            "How to choose what stays: benefit, or paper for GeePS's own algorithm. (default: the job's, or "
                + "else benefit)"))
    var policy: PolicyName?

    @Option(
        help: ArgumentHelp(
            "Speed of copies between host and device, each way; without it the job's.",
            valueName: "bytes/s"))
    var link: String?

    @Option(
        help: ArgumentHelp(
            "Times of the layers, as geeps bench layers writes them; without it those beside the job.",
            valueName: "path"),
        completion: .file(extensions: ["json"]))
    var times: String?

    @Flag(
        help: "Plans budgets from the least to the full; draws the speed of each, or what it moves."
    )
    var sweep = false

    @Option(
        help: ArgumentHelp("With --sweep: also draws into this file.", valueName: "path"),
        completion: .file(extensions: ["svg"]))
    var svg: String?

    @Option(
        help: ArgumentHelp(
            "Predicts a cluster of this many equal workers; takes --network.", valueName: "count"))
    var workers: Int?

    @Option(
        help: ArgumentHelp(
            "Speed of each worker's network link, each way, in bits: 25Gb/s.", valueName: "bits/s"))
    var network: String?

    @Option(
        help: ArgumentHelp(
            "Writes a clock of the job as a workload into this file.", valueName: "path"),
        completion: .file(extensions: ["json"]))
    var record: String?

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Puts a value in place of the job file's; list elements by position.",
            valueName: "key.path=value"))
    var assignments: [String] = []

    @Flag(help: "Prints one JSON object instead of a table.")
    var json = false

    /// The planner's policies under the names a person gives.
    enum PolicyName: String, ExpressibleByArgument, CaseIterable {
        case benefit, paper
        var policy: PlanPolicy { self == .benefit ? .benefit : .paper }
    }

    func validate() throws {
        if let budget, MemoryBudget(budget) == nil {
            throw ValidationError(
                "--budget is \(budget), expected bytes such as 512MiB or 1.5GB, or a share such as 35%"
            )
        }
        if let link, LinkSpeed.bytesPerSecond(link) == nil {
            throw ValidationError("--link is \(link), expected \(LinkSpeed.expected)")
        }
        if let network, NetworkSpeed.bytesPerSecond(network) == nil {
            throw ValidationError("--network is \(network), expected \(NetworkSpeed.expected)")
        }
        if (workers == nil) != (network == nil) {
            throw ValidationError("a cluster takes --workers and --network: give both")
        }
        if let workers, !(1...Limits.workersMaximum).contains(workers) {
            throw ValidationError(
                "--workers is \(workers), expected 1 to \(Limits.workersMaximum)")
        }
        if svg != nil, !sweep { throw ValidationError("--svg draws a sweep: add --sweep") }
        if sweep, budget != nil {
            throw ValidationError("--sweep plans many budgets: leave --budget out")
        }
    }

    func run() throws {
        let loader = JobLoader(
            file: job, assignments: assignments, workers: nil, defaultWorkers: 1, checksPaths: false
        )
        let job = try loader.load()
        let network = try Self.network(of: job)
        let times = try layerTimes(of: network)
        let settings = settings(of: job)
        if record != nil || workers != nil {
            return try runWorkload(of: job, network, settings, times)
        }
        if sweep {
            let name = self.job.split(separator: "/").last.map(String.init) ?? self.job
            let curve = try PlanSweep(
                network, settings.planOptions(network, of: job, times: times))
            if let svg { try writeFile(svg, PlanSweepDrawing(curve, title: name).svg) }
            writeOutput(json ? curve.json(job: name).text + "\n" : curve.text(title: name))
            return
        }
        let report = PlanReport(
            file: self.job, network: network, batchesPerClock: job.batchesPerClock,
            plan: try settings.plan(network, of: job, times: times))
        writeOutput(json ? report.json.text + "\n" : report.text)
    }

    /// Writes the job's workload, or predicts a cluster that runs it.
    private func runWorkload(
        of job: Job, _ network: Network, _ settings: MemorySettings, _ times: LayerTimes?
    ) throws {
        guard let times else {
            throw CLIError(
                .usage,
                "this takes the times of the layers: geeps bench layers \(self.job) measures them")
        }
        let plan = try settings.plan(network, of: job, times: times)
        let name = self.job.split(separator: "/").last.map(String.init) ?? self.job
        let workload = Workload(
            plan, name: name, source: "recorded from \(name); times of \(times.cpu)",
            samplesPerClock: network.batchSize * job.batchesPerClock)
        if let record { try workload.write(to: record) }
        guard let workers, let speed = self.network.flatMap(NetworkSpeed.bytesPerSecond) else {
            return
        }
        var setting = ClusterSetting(workers: workers, networkBytesPerSecond: speed)
        setting.linkBytesPerSecond = settings.linkBytesPerSecond
        switch job.staleness {
        case .clocks(let lag): setting.lag = Int(lag)
        case .unbounded: setting.lag = nil
        }
        let report = ForecastReport(workload, setting)
        writeOutput(json ? report.json.text + "\n" : report.text)
    }

    /// The job's memory section, and what the command line puts in its place.
    private func settings(of job: Job) -> MemorySettings {
        var settings = job.memory ?? MemorySettings()
        if let budget { settings.budget = MemoryBudget(budget) }
        if let policy { settings.policy = policy.policy }
        if let link { settings.linkBytesPerSecond = LinkSpeed.bytesPerSecond(link) }
        return settings
    }

    /// Those of `--times`, which must be of `network`; without, those beside the job, if they are.
    private func layerTimes(of network: Network) throws(CLIError) -> LayerTimes? {
        guard let path = times else {
            return LayerTimes.besideJob(job, for: network) { writeError("geeps: \($0)\n") }
        }
        let times = try LayerTimes(path: path)
        guard times.matches(network) else {
            throw CLIError(.badData, "--times \(path): \(times.difference(from: network))")
        }
        return times
    }

    /// The network of `job` for one worker's batch; of the data only the shape is read.
    static func network(
        of job: Job, on target: ComputeTarget = .host
    ) throws(NNError) -> Network {
        let shape: Shape
        var classCount = 10
        switch job.data.source {
        case .mnist(let directory):
            shape = try IDX.shape(directory: directory, split: .train)
        case .cifar10:
            shape = CIFAR10.shape
            classCount = CIFAR10.classCount
        case .synthetic(_, let sizes, let classes, _):
            shape = Shape(synthetic: sizes)
            classCount = classes
        }
        let model = job.model.configuration(classCount: classCount)
        // Workspaces depend on the number of threads.
        ThreadChoice.apply(
            model: model, input: shape, batchSize: job.data.batchSize,
            workers: job.cluster.workers)
        return try Network(
            model, input: shape, batchSize: job.data.batchSize, purpose: .training, on: target)
    }
}

/// Writes `text` to `path`.
///
/// - Throws: `CLIError` that says what the system answered.
func writeFile(_ path: String, _ text: String) throws(CLIError) {
    guard let file = fopen(path, "w") else {
        throw CLIError(.cannotOpen, "cannot create \(path): \(lastError())")
    }
    let isWritten = fputs(text, file) >= 0
    guard fclose(file) == 0, isWritten else {
        throw CLIError(.inputOutput, "cannot write \(path): \(lastError())")
    }
}
