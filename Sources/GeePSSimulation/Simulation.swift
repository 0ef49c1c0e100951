/// What must hold in every run.
public enum Checker: String, CaseIterable, Sendable {
    /// A read at tick n with staleness s includes every worker's first n - s ticks, and as many as the age says.
    case freshness
    /// Sums hold every included contribution once.
    case exactlyOnce
    /// The fastest worker is at most staleness + 1 clocks ahead.
    case boundedLead
    /// A read at tick t sees nothing of tick t + 1.
    case noFuture
    /// Contributions of a tick are added in rank order.
    case rankOrder
    /// A reader never sees fewer ticks than before.
    case monotoneReads
    /// An asynchronous read waits for the initial values only.
    case asynchronousReads
    /// A keeper holds at most staleness + 1 ticks of every worker.
    case boundedHolds
    /// A push is never read from an update log entry that was free to be reused.
    case updateLog
    /// Rows that are sent as they are, not as a copy, do not change meanwhile.
    case rowsStandStill
    /// A checkpoint holds what its tick says.
    case checkpoint
    /// When faults stop, every worker reaches the target.
    case liveness
    /// No machine refuses what a sound peer sent.
    case refusal
}

/// What a checker found.
public struct Violation: Hashable, Sendable {
    /// Who found it.
    public var checker: Checker
    /// What was seen and what was expected.
    public var message: String
    /// The event, counted from one, during which it was found.
    public var event: UInt64
}

/// How a run ended.
public enum SimulationOutcome: Hashable, Sendable {
    /// Everything that must hold did.
    case passed
    /// Something did not.
    case violation(Violation)
}

/// One run.
public struct SimulationReport: Sendable {
    /// The number that all else follows from.
    public var seed: UInt64
    /// The planted defect, if any.
    public var defect: Defect?
    /// Events that happened.
    public var events: UInt64
    /// Virtual time that passed.
    public var virtualMicroseconds: UInt64
    /// A hash of everything that happened, in order; two runs of a seed have the same.
    public var traceHash: UInt64
    /// How it ended.
    public var outcome: SimulationOutcome
    /// What happened how often.
    public var coverage: Coverage
    /// The last lines of the trace, if any were asked for.
    public var trace: [String]

    /// The violation, if there is one.
    public var violation: Violation? {
        if case .violation(let violation) = outcome { return violation }
        return nil
    }

    /// A line to paste that repeats the run.
    public var command: String {
        let suffix = defect.map { " --defect \($0.rawValue)" } ?? ""
        return "geeps simulate --seed \(seed)" + suffix
    }
}

/// Whole jobs under virtual time: both protocol machines, a network that loses and delays, processes that die.
public struct Simulation {
    /// Runs the job that `seed` draws, with `defect` planted, and keeps the last `traceLines` lines.
    ///
    /// The result depends on nothing else: no clock, no thread, no hash order, no address.
    public static func run(
        seed: UInt64, defect: Defect? = nil, traceLines: Int = 0
    ) -> SimulationReport {
        var world = World(seed: seed, defect: defect, traceLines: traceLines)
        world.run()
        return SimulationReport(
            seed: seed, defect: defect, events: world.eventCount, virtualMicroseconds: world.now,
            traceHash: world.trace.hash.value,
            outcome: world.violation.map { .violation($0) } ?? .passed, coverage: world.coverage,
            trace: world.trace.lastLines)
    }
}

/// Many runs.
public struct SimulationSummary: Sendable {
    /// Runs made.
    public var seedCount: UInt64 = 0
    /// Runs that ended in a violation.
    public var failureCount: UInt64 = 0
    /// The first of them, with the end of its trace.
    public var firstFailure: SimulationReport?
    /// Events of all runs.
    public var events: UInt64 = 0
    /// A hash of the runs' trace hashes, in the order of seeds.
    public var combinedHash: UInt64 = 0
    /// The counters of all runs together.
    public var coverage = Coverage()
}

/// Runs every seed of `seeds`.
///
/// - Parameters:
///   - defect: a mistake to plant into each run.
///   - stopsAtFailure: whether the first violation ends it.
public func simulate(
    seeds: Range<UInt64>, defect: Defect? = nil, stopsAtFailure: Bool = false
) -> SimulationSummary {
    var summary = SimulationSummary()
    var hash = FNV1a()
    for seed in seeds {
        let report = Simulation.run(seed: seed, defect: defect)
        summary.seedCount += 1
        summary.events += report.events
        summary.coverage.add(report.coverage)
        hash.add(report.traceHash)
        guard report.violation != nil else { continue }
        summary.failureCount += 1
        if summary.firstFailure == nil {
            summary.firstFailure = Simulation.run(seed: seed, defect: defect, traceLines: 30)
        }
        if stopsAtFailure { break }
    }
    summary.combinedHash = hash.value
    return summary
}
