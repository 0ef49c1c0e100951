import ArgumentParser

/// What a simulation is asked for; nil leaves a choice to the seed.
struct SimulationOptions: Hashable, Sendable {
    /// Seeds to run, half open.
    var seeds: Range<UInt64>
    var workers: Int?
    var keepers: Int?
    /// In clocks.
    var staleness: UInt64?
    /// A planted defect that the run should find.
    var defect: String?
    /// One JSON object instead of text.
    var json: Bool
}

/// `geeps simulate`.
struct SimulateCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "simulate",
        abstract:
            "Runs whole clusters in virtual time, with faults, and checks what must always hold.",
        discussion: """
            Each seed is one cluster with its own size, delays and faults; the same seed always gives \
            the same run. The number of a failing seed is all that is needed to see it again.

            EXAMPLES
              geeps simulate --seeds 10000
              geeps simulate --seed 77
              geeps simulate --seeds 1000 --workers 4 --staleness 1
              geeps simulate --seeds 100 --defect apply-replays
            """)

    @Option(
        help: ArgumentHelp(
            "How many seeds to run (default: 100, or 1 with --seed).", valueName: "n"))
    var seeds: UInt64?

    @Option(help: ArgumentHelp("The first seed (default: 0).", valueName: "s"))
    var seed: UInt64?

    @Option(help: ArgumentHelp("Workers, in place of the seed's choice.", valueName: "n"))
    var workers: Int?

    @Option(help: ArgumentHelp("Keepers, in place of the seed's choice.", valueName: "n"))
    var keepers: Int?

    @Option(
        help: ArgumentHelp("Clocks of staleness, in place of the seed's choice.", valueName: "n"))
    var staleness: UInt64?

    @Option(help: ArgumentHelp("Plants a defect that the checks must find.", valueName: "name"))
    var defect: String?

    @Flag(help: "Prints one JSON object with the results.")
    var json = false

    func validate() throws {
        if seeds == 0 { throw ValidationError("--seeds is 0, expected 1 or more") }
        if let workers, workers < 1 {
            throw ValidationError("--workers is \(workers), expected 1 or more")
        }
        if let keepers, keepers < 1 {
            throw ValidationError("--keepers is \(keepers), expected 1 or more")
        }
        if (seed ?? 0).addingReportingOverflow(seeds ?? 100).overflow {
            throw ValidationError("--seed plus --seeds is above \(UInt64.max)")
        }
    }

    /// The options with defaults filled in.
    var options: SimulationOptions {
        let first = seed ?? 0
        let count = seeds ?? (seed == nil ? 100 : 1)
        return SimulationOptions(
            seeds: first..<(first + count), workers: workers, keepers: keepers,
            staleness: staleness, defect: defect, json: json)
    }

    func run() throws { try runSimulation(options) }
}
