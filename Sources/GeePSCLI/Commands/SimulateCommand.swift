import ArgumentParser
import GeePSSimulation

/// What a simulation is asked for; nil leaves a choice to the seed.
struct SimulationOptions: Hashable, Sendable {
    /// Seeds to run, half open.
    var seeds: Range<UInt64>
    /// A planted defect that the run should find.
    var defect: Defect?
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
              geeps simulate --seeds 1000 --json | jq .coverage
              geeps simulate --seeds 1000 --defect replayAppliedTwice
            """)

    @Option(
        help: ArgumentHelp(
            "How many seeds to run (default: 100, or 1 with --seed).", valueName: "n"))
    var seeds: UInt64?

    @Option(help: ArgumentHelp("The first seed (default: 0).", valueName: "s"))
    var seed: UInt64?

    @Option(
        help: ArgumentHelp("Plants a defect that the checks must find.", valueName: "name"),
        completion: .list(Defect.allCases.map(\.rawValue)))
    var defect: String?

    @Flag(help: "Prints one JSON object with the results.")
    var json = false

    func validate() throws {
        if seeds == 0 { throw ValidationError("--seeds is 0, expected 1 or more") }
        if let defect, Defect(rawValue: defect) == nil {
            let known = Defect.allCases.map(\.rawValue)
            throw ValidationError(
                "--defect is \(defect), expected one of \(known.joined(separator: ", "))"
                    + suggestion(for: defect, among: known))
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
            seeds: first..<(first + count), defect: defect.flatMap(Defect.init(rawValue:)),
            json: json)
    }

    func run() throws { try runSimulation(options) }
}
