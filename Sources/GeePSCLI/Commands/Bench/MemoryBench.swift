import ArgumentParser
import GeePS
import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory

/// `geeps bench memory`.
struct MemoryBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "memory",
        abstract: "Measures training under memory budgets on an emulated GPU and link.",
        discussion: """
            The parameter server, the memory manager, its threads, streams and copies are real; kernels only \
            take the time that they take on the emulated device. Bytes and bandwidth are divided by \
            --bytes-scale and --time-scale together, so that ratios stay those of the large machine.

            AdamLike is the paper's network (§5.1) on a Tesla K20C with a link of 6 GB/s. \
            linear:N are N fully connected layers of 373 MB (Fig. 13).

            EXAMPLES
              geeps bench memory --budget 35%
              geeps bench memory --budget 20% --budget 35% --budget 100% --policy paper
              geeps bench memory --workload linear:24 --budget 3GB
              geeps bench memory --budget 1.75GB --batches-per-clock 2
            """)

    @Option(help: "adamlike, or linear:N.")
    var workload = "adamlike"
    @Option(
        parsing: .singleValue,
        help: ArgumentHelp(
            "Device memory of the emulated machine: bytes, or a share of what keeping everything needs; "
                + "may be repeated.", valueName: "bytes|percent"))
    var budget: [String] = ["35%"]
    @Option(help: "How to choose what stays: benefit, or paper for GeePS's own algorithm.")
    var policy: PlanCommand.PolicyName = .benefit
    @Option(help: "Speed of the emulated machine's link, each way, in GB/s.")
    var link = 6.0
    @Option(help: "The mini-batch is cut into this many, all before one clock.")
    var batchesPerClock = 1
    @Option(help: "Clocks that are measured.")
    var clocks = 4
    @Option(help: "Bytes are divided by this.")
    var bytesScale = 32
    @Option(help: "Times are divided by this.")
    var timeScale = 4.0
    @Flag(help: "Optimiser state stays at the keepers: workers have no momentum.")
    var noMomentum = false

    func validate() throws {
        for text in budget where MemoryBudget(text) == nil {
            throw ValidationError(
                "--budget is \(text), expected bytes such as 1.75GB, or a share such as 35%")
        }
        guard clocks > 0, bytesScale > 0, timeScale > 0, link > 0, batchesPerClock > 0 else {
            throw ValidationError("clocks, scales, link and batches per clock must be positive")
        }
        _ = try large()
    }

    /// The workload at its real size.
    private func large() throws -> EmulatedWorkload {
        var large: EmulatedWorkload
        if workload == "adamlike" {
            large = .adamLike
        } else if let count = workload.hasPrefix("linear:") ? Int(workload.dropFirst(7)) : nil,
            1...1000 ~= count
        {
            large = .linearStack(count)
        } else {
            throw ValidationError("--workload is \(workload), expected adamlike, or linear:N")
        }
        if noMomentum { large.hasMomentum = false }
        return large.cut(into: batchesPerClock)
    }

    func run() throws {
        let large = try large()
        let small = large.scaled(bytes: bytesScale, time: timeScale)
        var (problem, times) = small.iteration
        problem.phaseNanoseconds = times
        // Scaled bytes over scaled time.
        let speed = link * 1e9 / Double(bytesScale) * timeScale
        problem.link = PlanLink(bytesPerSecondIn: speed, bytesPerSecondOut: speed)
        let planner = try PlacementPlanner(problem)
        var points: [JSONValue] = []
        for text in budget {
            var bytes = 0
            switch MemoryBudget(text) {
            case .bytes(let count)?: bytes = count / bytesScale
            case .share(let share)?:
                bytes = Int((Double(planner.fullBytes) * share).rounded(.up))
            case nil: continue
            }
            points.append(try measure(small, problem, times, planner, budgetBytes: bytes))
        }
        writeOutput(
            JSONValue.object([
                "schema": .string("geeps.bench.memory/1"), "workload": .string(large.name),
                "policy": .string(policy.rawValue), "link_bytes_per_second": .number(link * 1e9),
                "batches_per_clock": .integer(Int64(batchesPerClock)),
                "momentum": .bool(large.hasMomentum),
                "bytes_scale": .integer(Int64(bytesScale)), "time_scale": .number(timeScale),
                "full_bytes": .integer(Int64(planner.fullBytes * bytesScale)),
                "least_bytes": .integer(Int64(planner.leastBytes * bytesScale)),
                "parameter_bytes": .integer(
                    Int64(problem.tables.reduce(0) { $0 + $1.cacheBytes } * bytesScale)),
                "points": .array(points),
            ]).text + "\n")
    }

    private func measure(
        _ small: EmulatedWorkload, _ problem: PlanProblem, _ times: [UInt64],
        _ planner: PlacementPlanner, budgetBytes: Int
    ) throws -> JSONValue {
        let placement = try planner.placement(budgetBytes: budgetBytes, policy: policy.policy)
        let device = HostDevice(
            limitBytes: budgetBytes,
            link: LinkEmulation(bytesPerSecond: problem.link?.bytesPerSecondIn ?? 1e9))
        var memory = MemoryConfiguration(budgetBytes: budgetBytes)
        memory.policy = policy.policy
        memory.link = problem.link
        memory.phaseNanoseconds = times
        var configuration = NodeConfiguration(
            tables: small.tables, optimizer: BenchRule.add.configuration)
        configuration.memory = memory
        let node = try Node.join(configuration, device: device)
        defer { node.leave() }
        for (table, layout) in small.tables.enumerated() {
            let zeros = [Float](repeating: 0, count: layout.valueCount)
            try zeros.withUnsafeBufferPointer { try node.client.initialise(table, values: $0) }
        }
        let stream = try device.makeStream(name: "compute")
        let replay = try AccessReplay(
            problem, placement, phaseNanoseconds: times, client: node.client, stream: stream)
        for _ in 0..<2 { try replay.iterate() }
        try stream.synchronise()
        let start = monotonicNanoseconds()
        for _ in 0..<clocks { try replay.iterate() }
        try stream.synchronise()
        let clock = Double(monotonicNanoseconds() - start) / Double(clocks)
        let compute = Double(times.reduce(0, +))
        return .object([
            "budget_bytes": .integer(Int64(budgetBytes * bytesScale)),
            "share_of_full": .number(Double(budgetBytes) / Double(planner.fullBytes)),
            "clock_seconds": .number(clock * timeScale / 1e9),
            "compute_seconds": .number(compute * timeScale / 1e9),
            "efficiency": .number(compute / clock),
            "forecast_efficiency": .number(placement.forecast?.efficiency ?? .nan),
            "samples_per_second": .number(
                Double(small.batchSize * small.batchesPerClock) / (clock * timeScale / 1e9)),
            "connections_per_second": .number(
                small.connectionsPerClock / (clock * timeScale / 1e9)),
            "bytes_in": .integer(Int64(placement.bytesIn * bytesScale)),
            "bytes_out": .integer(Int64(placement.bytesOut * bytesScale)),
            "single_buffered": .integer(Int64(placement.singleBufferedCount)),
        ])
    }
}
