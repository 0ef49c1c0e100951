import GeePSSimulation
import Testing

@Suite struct SimulationTests {
    @Test func theSoundProtocolPasses() {
        let summary = simulate(seeds: 0..<2_000)
        #expect(summary.seedCount == 2_000)
        #expect(
            summary.failureCount == 0,
            """
            \(summary.firstFailure?.command ?? ""): \
            \(summary.firstFailure?.violation?.message ?? "")
            \((summary.firstFailure?.trace ?? []).joined(separator: "\n"))
            """)
    }

    @Test(arguments: Defect.allCases)
    func plantedDefectIsFoundWithinAThousandSeeds(_ defect: Defect) throws {
        let summary = simulate(seeds: 0..<1_000, defect: defect, stopsAtFailure: true)
        let report = try #require(summary.firstFailure)
        let violation = try #require(report.violation)
        #expect(!violation.message.isEmpty)
        #expect(violation.event > 0 && violation.event <= report.events)
    }

    @Test(arguments: [
        (Defect.readIgnoresStaleness, Checker.freshness),
        (.foldedInArrivalOrder, .rankOrder),
        (.replayAppliedTwice, .exactlyOnce),
        (.heldPushesForgotten, .exactlyOnce),
        (.reconnectWithoutRepublish, .liveness),
        (.rowsSentTwice, .rowsStandStill),
        (.initialValuesNotResent, .liveness),
        (.rolledBackToIncompleteCheckpoint, .checkpoint),
        (.newPushesOvertakeReplay, .refusal),
    ])
    func defectIsFoundByItsChecker(_ defect: Defect, _ checker: Checker) {
        let summary = simulate(seeds: 0..<1_000, defect: defect, stopsAtFailure: true)
        #expect(summary.firstFailure?.violation?.checker == checker)
    }

    @Test func everyFaultHappensWithinAThousandSeeds() {
        for counter in simulate(seeds: 0..<1_000).coverage.counters {
            #expect(counter.count > 0, "\(counter.name) never happened")
        }
    }

    @Test(arguments: [UInt64](0..<20))
    func seedRepeatsItsTrace(_ seed: UInt64) {
        let first = Simulation.run(seed: seed)
        let second = Simulation.run(seed: seed, traceLines: 30)
        #expect(first.traceHash == second.traceHash)
        #expect(first.events == second.events)
        #expect(first.virtualMicroseconds == second.virtualMicroseconds)
        #expect(first.coverage == second.coverage)
        #expect(first.trace.isEmpty)
        #expect(second.trace.count <= 30 && !second.trace.isEmpty)
    }

    @Test func seedsHaveTracesOfTheirOwn() {
        let hashes = Set((0..<200).map { Simulation.run(seed: $0).traceHash })
        #expect(hashes.count == 200)
    }

    @Test func summariesOfTheSameSeedsAgree() {
        let hash = simulate(seeds: 100..<200).combinedHash
        #expect(simulate(seeds: 100..<200).combinedHash == hash)
        #expect(simulate(seeds: 100..<201).combinedHash != hash)
    }

    @Test func failureIsALineToPaste() throws {
        let summary = simulate(
            seeds: 0..<1_000, defect: .pushesNotReplayed, stopsAtFailure: true)
        let report = try #require(summary.firstFailure)
        #expect(
            report.command == "geeps simulate --seed \(report.seed) --defect pushesNotReplayed")
        #expect(Simulation.run(seed: 7).command == "geeps simulate --seed 7")
        let again = Simulation.run(seed: report.seed, defect: report.defect)
        #expect(again.outcome == report.outcome)
        #expect(again.traceHash == report.traceHash)
    }

    @Test func deadlockNamesWhoWaitsForWhom() throws {
        let summary = simulate(
            seeds: 0..<1_000, defect: .initialValuesNotResent, stopsAtFailure: true)
        let message = try #require(summary.firstFailure?.violation?.message)
        #expect(message.contains("worker 0 at tick 0 for age 0 of block"))
        #expect(message.contains("for the initial values of block"))
    }
}
