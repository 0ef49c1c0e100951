import ArgumentParser
import GeePS
import GeePSCore

/// `geeps replay`.
struct ReplayCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "replay",
        abstract:
            "Runs a recorded workload on the real parameter server; its kernels only take time.",
        discussion: """
            Client, keepers, memory manager, copies and transport are those of geeps train. Compute is a time, and \
            rows have no meaning. Workloads/ has those of the paper; geeps plan --record writes one from any job.

            Many workers share this machine: bytes are divided by --bytes-scale, times multiplied by --dilation, and \
            the links that are emulated get slower by both. Results are in the workload's own time and bytes. A run \
            whose processes take more than 40 % of the cores is refused, for then the cores are what is measured: a \
            larger --dilation makes it fit.

            Network links between processes are real ones: Benchmarks/cluster makes slow ones.

            EXAMPLES
              geeps replay Workloads/adamlike.json --workers 2 --dilation 2
              geeps replay Workloads/adamlike.json --workers 4 --cpu-side
              geeps replay Workloads/googlenet.json --workers 2 --layers-per-table all --staleness 1
              geeps replay Workloads/adamlike.json --workers 64 --network 25Gb/s --forecast
            """)

    @OptionGroup var options: ReplayOptions

    func validate() throws { try options.validate() }

    func run() throws {
        let workload = try Workload(path: options.workload)
        if options.forecast {
            return writeOutput(try ForecastReport(workload, options).text)
        }
        guard let launch = try Launch.ofBenchmark(processes: options.workers) else { return }
        guard launch.worldSize == options.workers else {
            throw CLIError(
                .usage,
                "--workers is \(options.workers) but \(LaunchEnvironment.worldSize) is \(launch.worldSize)"
            )
        }
        let run = try ReplayRun(workload, options, launch)
        let result = try run.run()
        if launch.rank == 0 { writeOutput(result.text + "\n") }
    }
}

/// What a replay may be told.
struct ReplayOptions: ParsableArguments {
    @Argument(help: "The workload.", completion: .file(extensions: ["json"]))
    var workload: String
    @Option(help: "Workers, each with a keeper in its process.")
    var workers = 1
    @Option(help: "Times are multiplied by this.")
    var dilation = 1.0
    @Option(help: "Bytes are divided by this.")
    var bytesScale = 16
    @Option(help: "Clocks that are measured.")
    var clocks = 5
    @Option(help: "Clocks before these.")
    var warmUp = 2
    @Option(
        help: ArgumentHelp(
            "Consecutive layers that share a table; all for one table.", valueName: "count|all"))
    var layersPerTable = "1"
    @Option(
        help: ArgumentHelp(
            "Clocks that reads may lag; async for no limit.", valueName: "clocks|async"))
    var staleness = "0"
    @Option(
        help: ArgumentHelp(
            "Speed between host and device, each way; none for copies that take no time.",
            valueName: "bytes/s"))
    var link = "6GB/s"
    @Option(
        help: ArgumentHelp(
            "Speed of a worker's network link, each way: for the forecast only.",
            valueName: "bits/s"))
    var network: String?
    @Flag(
        help: ArgumentHelp(
            "As over a parameter server without regard to GPUs: rows on the host, foreground copies, one clock."
        ))
    var cpuSide = false
    @Option(
        help: ArgumentHelp(
            "Device memory: a share of what keeping everything needs; without it everything stays.",
            valueName: "percent"))
    var budget: String?
    @Flag(help: "Runs nothing: says what a cluster with --workers and --network would do.")
    var forecast = false
    @Option(help: "How frames travel.")
    var transport = CarrierName.auto
    @Option(help: "Bytes of a block. (default: 512 KiB divided by --bytes-scale, at least 64 KiB)")
    var block: Int?
    @Option(help: "Address to listen on.")
    var interface = "127.0.0.1"
    @Option(
        help: ArgumentHelp(
            "Most of this machine's cores that the processes of a run may take.",
            valueName: "percent"))
    var cpuLimit = "40%"

    func validate() throws {
        guard (1...Limits.workersMaximum).contains(workers), dilation > 0, dilation < 1e6,
            (1...1_000_000).contains(bytesScale), (1...10_000).contains(clocks),
            (1...1000).contains(warmUp), block.map({ $0 > 0 }) ?? true
        else {
            throw ValidationError(
                "workers, dilation, bytes scale, clocks, warm-up and block must be above zero, and in reason"
            )
        }
        if layersPerTable != "all", !(Int(layersPerTable).map { $0 > 0 } ?? false) {
            throw ValidationError(
                "--layers-per-table is \(layersPerTable), expected a count or all")
        }
        if staleness != "async", !(Int(staleness).map { 0...1000 ~= $0 } ?? false) {
            throw ValidationError("--staleness is \(staleness), expected clocks, or async")
        }
        if link != "none", LinkSpeed.bytesPerSecond(link) == nil {
            throw ValidationError("--link is \(link), expected \(LinkSpeed.expected), or none")
        }
        if let network, NetworkSpeed.bytesPerSecond(network) == nil {
            throw ValidationError("--network is \(network), expected \(NetworkSpeed.expected)")
        }
        if forecast, network == nil { throw ValidationError("--forecast needs --network") }
        if let budget {
            guard case .share(let share)? = MemoryBudget(budget), share > 0 else {
                throw ValidationError("--budget is \(budget), expected a share such as 35%")
            }
            if cpuSide {
                throw ValidationError(
                    "--cpu-side keeps local data on the device: leave --budget out")
            }
        }
        guard case .share(let share)? = MemoryBudget(cpuLimit), share > 0 else {
            throw ValidationError("--cpu-limit is \(cpuLimit), expected a share such as 40%")
        }
    }

    /// nil: all layers in one table.
    var groupSize: Int? { Int(layersPerTable) }
    /// nil: no limit.
    var lag: Int? { Int(staleness) }
    /// Of the large machine.
    var linkBytesPerSecond: Double? { LinkSpeed.bytesPerSecond(link) }
    /// Of the large machine.
    var networkBytesPerSecond: Double? { network.flatMap(NetworkSpeed.bytesPerSecond) }
    /// Large over small, of every speed.
    var speedScale: Double { Double(bytesScale) * dilation }

    /// The cluster that is played; nil where its network is not known.
    var setting: ClusterSetting? {
        networkBytesPerSecond.map {
            var setting = ClusterSetting(workers: workers, networkBytesPerSecond: $0)
            setting.linkBytesPerSecond = linkBytesPerSecond
            setting.lag = lag
            setting.isForeground = cpuSide
            return setting
        }
    }
}

/// The speed of a network as people give it: "25Gb/s", "900Mb/s", in bits; "1.5GB/s" in bytes.
enum NetworkSpeed {
    static let expected = "a speed such as 25Gb/s or 900Mb/s"

    /// Bytes a second; nil for what is no speed above zero.
    static func bytesPerSecond(_ text: String) -> Double? {
        for (unit, bits) in [("Gb/s", 1e9), ("Mb/s", 1e6), ("kb/s", 1e3)]
        where text.hasSuffix(unit) {
            let digits = text.dropLast(unit.count)
            guard digits.allSatisfy({ "0123456789.".contains($0) }), let number = Double(digits),
                number > 0, number.isFinite
            else { return nil }
            return number * bits / 8
        }
        return LinkSpeed.bytesPerSecond(text)
    }
}
