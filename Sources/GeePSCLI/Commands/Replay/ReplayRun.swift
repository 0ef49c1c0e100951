import CGeePSShims
import GeePS
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import Glibc

/// A process's part in a replay.
struct ReplayRun {
    private let large: Workload
    private let small: Workload
    private let options: ReplayOptions
    private let launch: Launch
    private let grouping: TableGrouping
    private let linkBytesPerSecond: Double?

    init(_ workload: Workload, _ options: ReplayOptions, _ launch: Launch) throws {
        large = workload
        self.options = options
        self.launch = launch
        small = workload.scaled(bytes: options.bytesScale, dilation: options.dilation)
        grouping = TableGrouping(small.parameters, layersPerTable: options.groupSize)
        linkBytesPerSecond = options.linkBytesPerSecond.map { $0 / options.speedScale }
    }

    /// Joins, replays, sums up what all have seen, leaves.
    ///
    /// - Returns: the result, the same on every rank.
    func run() throws -> JSONValue {
        let hasLocals = options.budget != nil
        var problem = small.problem(grouping, hasLocals: hasLocals)
        problem.link = linkBytesPerSecond.map {
            PlanLink(bytesPerSecondIn: $0, bytesPerSecondOut: $0)
        }
        var budgetBytes: Int?
        if let text = options.budget, let budget = MemoryBudget(text) {
            budgetBytes = budget.byteCount(ofFull: try PlacementPlanner(problem).fullBytes)
        }
        let device = HostDevice(
            limitBytes: budgetBytes,
            link: linkBytesPerSecond.map {
                LinkEmulation(
                    bytesPerSecond: $0, latencyNanoseconds: UInt64(10_000 * options.dilation))
            })
        let node = try Node.join(configuration(problem, budgetBytes: budgetBytes), device: device)
        defer { node.leave() }
        let stream = try device.makeStream(name: "compute")
        defer { stream.close() }
        if launch.rank == 0 { try initialise(node.client) }
        let replay = try WorkloadReplay(
            small, grouping, hasLocals: hasLocals, placement: nil, client: node.client,
            stream: stream)
        return try measure(node, replay)
    }

    private func configuration(_ problem: PlanProblem, budgetBytes: Int?) -> NodeConfiguration {
        var configuration = NodeConfiguration(
            tables: grouping.tables, optimizer: BenchRule.add.configuration)
        configuration.rank = launch.rank
        configuration.worldSize = launch.worldSize
        configuration.keeperCount = launch.worldSize
        configuration.carrier = options.transport.choice
        configuration.interface = options.interface
        configuration.joinTimeout = .seconds(120)
        configuration.waitTimeout = .seconds(600)
        configuration.blockBytes =
            options.block ?? max(64 << 10, Limits.blockBytesDefault / options.bytesScale)
        configuration.staleness = options.lag.map { .clocks(UInt64($0)) } ?? .unbounded
        configuration.agreement = "workload: \(large.name), \(options.clocks) clocks"
        if let rendezvous = launch.rendezvous { configuration.rendezvous = "\(rendezvous)" }
        var memory = MemoryConfiguration(budgetBytes: budgetBytes)
        memory.link = problem.link
        memory.phaseNanoseconds = problem.phaseNanoseconds
        memory.servesInForeground = options.cpuSide
        configuration.memory = memory
        return configuration
    }

    private func initialise(_ client: Client) throws {
        for (table, layout) in grouping.tables.enumerated() {
            let zeros = [Float](repeating: 0, count: layout.valueCount)
            try zeros.withUnsafeBufferPointer { try client.initialise(table, values: $0) }
        }
    }

    private func measure(_ node: Node, _ replay: WorkloadReplay) throws -> JSONValue {
        try replay.settle()
        let patience = Deadline.after(.seconds(600))
        try node.membership.barrier(label: "all have rows", deadline: patience)
        let before = node.client.counters
        let clocks = options.warmUp + options.clocks
        var cpu = ProcessorTime()
        var wall = monotonicNanoseconds()
        for clock in 0..<clocks {
            if clock == options.warmUp {
                cpu = ProcessorTime()
                wall = monotonicNanoseconds()
            }
            try replay.iterate()
        }
        try replay.settle()
        let cpuShare = cpu.elapsed / (Double(monotonicNanoseconds() - wall) / 1e9)
        let after = node.client.counters
        let ends = replay.clockEnds
        let clockNanoseconds =
            Double(ends[clocks - 1] - ends[options.warmUp - 1]) / Double(options.clocks)
        let bytesOut =
            after.bytesSentOutside - before.bytesSentOutside + after.bytesReceivedOutside
            - before.bytesReceivedOutside
        let sums = try node.membership.sum(
            [clockNanoseconds, Double(bytesOut) / Double(clocks), cpuShare],
            label: "replay", deadline: .after(.seconds(600)))
        let workers = Double(launch.worldSize)
        let result = ReplayResult(
            workload: large, options: options,
            clockSeconds: sums[0] / workers / options.dilation / 1e9,
            bytesOut: sums[1] / workers * Double(options.bytesScale),
            modelBytes: grouping.tables.reduce(0.0) { $0 + Double($1.byteCount) }
                * Double(options.bytesScale),
            cpuShare: sums[2] / Double(geeps_available_cores()),
            tableCount: grouping.tables.count, carriers: Set(node.carriers).sorted(),
            clocks: zip(ends.dropFirst(), ends).map {
                Double($0 - $1) / options.dilation / 1e9
            })
        try result.check()
        return result.json
    }
}

/// Time that this process has computed, kernel included, since it was made.
private struct ProcessorTime {
    private let start = Self.now

    /// Seconds.
    var elapsed: Double { Self.now - start }

    private static var now: Double {
        var usage = rusage()
        getrusage(0 /* RUSAGE_SELF */, &usage)
        let seconds = { (time: timeval) in Double(time.tv_sec) + Double(time.tv_usec) / 1e6 }
        return seconds(usage.ru_utime) + seconds(usage.ru_stime)
    }
}

/// What a replay has measured, in the workload's own time and bytes.
struct ReplayResult {
    let workload: Workload
    let options: ReplayOptions
    /// Mean over workers.
    let clockSeconds: Double
    /// What leaves a worker's process in a clock, and as much comes in.
    let bytesOut: Double
    /// All tables, padding included.
    let modelBytes: Double
    /// Of this machine's cores, all processes together.
    let cpuShare: Double
    let tableCount: Int
    let carriers: [String]
    /// Of this worker, warm-up included.
    let clocks: [Double]

    /// Refuses a run that took too much of the cores.
    func check() throws {
        guard case .share(let limit)? = MemoryBudget(options.cpuLimit), cpuShare > limit else {
            return
        }
        let enough = options.dilation * cpuShare / limit
        throw CLIError(
            .preempted,
            "the processes of this run took \(Text.percent(cpuShare)) of the cores, more than "
                + "\(options.cpuLimit): cores, not links, were measured; --dilation "
                + "\(Text.significant(enough * 1.2, 2)) would do")
    }

    /// The object that is printed: `geeps.replay/1`.
    var json: JSONValue {
        let compute = Double(workload.computeNanoseconds) / 1e9
        let workers = Double(options.workers)
        let ideal = 2 * (workers - 1) / workers * modelBytes
        let forecast = options.setting.map {
            ClusterForecast(workload, layersPerTable: options.groupSize, $0)
        }
        return .object([
            "schema": .string("geeps.replay/1"), "workload": .string(workload.name),
            "workers": .integer(Int64(options.workers)),
            "mode": .string(options.cpuSide ? "cpu-side" : "geeps"),
            "staleness": .string(options.staleness), "tables": .integer(Int64(tableCount)),
            "layers_per_table": .string(options.layersPerTable),
            "budget": options.budget.map(JSONValue.string) ?? .null,
            "link": .string(options.link),
            "network": options.network.map(JSONValue.string) ?? .null,
            "dilation": .number(options.dilation),
            "bytes_scale": .integer(Int64(options.bytesScale)),
            "clocks": .integer(Int64(options.clocks)),
            "clock_seconds": .number(clockSeconds), "compute_seconds": .number(compute),
            "stall": .number(1 - compute / clockSeconds),
            "samples_per_second": .number(
                workers * Double(workload.samplesPerClock) / clockSeconds),
            "model_bytes": .number(modelBytes), "wire_bytes_each_way": .number(bytesOut),
            "wire_over_ideal": ideal > 0 ? .number(bytesOut / ideal) : .null,
            "cpu_share": .number(cpuShare),
            "forecast_clock_seconds": forecast.map { .number($0.clockNanoseconds / 1e9) } ?? .null,
            "carriers": .string(carriers.joined(separator: ", ")),
            "clocks_of_rank_0": .array(clocks.map(JSONValue.number)),
        ])
    }
}
