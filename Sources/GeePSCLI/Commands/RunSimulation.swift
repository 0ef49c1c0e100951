import GeePSSimulation

/// Runs the simulations that `options` asks for and prints what they found.
///
/// - Throws: `CLIError` naming the first seed whose checks failed; with a planted defect, when no seed found it.
func runSimulation(_ options: SimulationOptions) throws {
    let summary = simulate(
        seeds: options.seeds, defect: options.defect, stopsAtFailure: options.defect != nil)
    let violation = summary.firstFailure?.violation
    writeOutput(options.json ? json(summary) + "\n" : table(summary))
    if let failure = summary.firstFailure, let violation, !options.json {
        writeOutput(failure.trace.map { "  " + $0 + "\n" }.joined())
        writeOutput("\(violation.checker.rawValue): \(violation.message)\n")
        writeOutput("to see it again: \(failure.command)\n")
    }
    switch (options.defect, violation) {
    case (nil, let violation?):
        throw CLIError(
            .internalError,
            "\(summary.failureCount) of \(summary.seedCount) seeds failed, first "
                + "\(summary.firstFailure?.seed ?? 0): \(violation.message)")
    case (let defect?, nil):
        throw CLIError(
            .internalError, "no check found \(defect.rawValue) in \(summary.seedCount) seeds")
    default: return
    }
}

private func json(_ summary: SimulationSummary) -> String {
    let coverage = summary.coverage.counters.map {
        JSONValue.Member(key: $0.name, value: .integer(Int64(clamping: $0.count)))
    }
    return JSONValue.object([
        "schema": .string("geeps.simulate/1"),
        "seeds": .integer(Int64(clamping: summary.seedCount)),
        "failures": .integer(Int64(clamping: summary.failureCount)),
        "first_failing_seed": summary.firstFailure.map { .integer(Int64(clamping: $0.seed)) }
            ?? .null,
        "violation": summary.firstFailure?.violation.map { .string($0.message) } ?? .null,
        "events": .integer(Int64(clamping: summary.events)),
        "trace_hash": .string(String(summary.combinedHash, radix: 16)),
        "coverage": .object(coverage),
    ]).text
}

private func table(_ summary: SimulationSummary) -> String {
    var lines = [
        "\(Text.grouped(Int(summary.seedCount))) seeds, \(Text.grouped(Int(summary.events))) events, "
            + "\(summary.failureCount) failed, trace \(String(summary.combinedHash, radix: 16))"
    ]
    let counters = summary.coverage.counters
    let width = counters.map(\.name.count).max() ?? 0
    for counter in counters {
        let name = counter.name + String(repeating: " ", count: width - counter.name.count)
        lines.append("  \(name)  \(Text.grouped(Int(counter.count)))")
    }
    return lines.joined(separator: "\n") + "\n"
}
