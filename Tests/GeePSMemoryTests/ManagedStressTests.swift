import GeePSCore
import GeePSDevice
import GeePSMemory
import Testing

/// Random plans, executed under random budgets with streams that dawdle at random, against a plain model.
///
/// `make sanitize` runs this suite under the thread sanitizer.
@Suite struct ManagedStressTests {
    /// Two thousand plans; in slices, so that a failure names a small range of seeds.
    @Test(arguments: 0..<40)
    func randomPlansLendWhatAPlainModelHas(slice: Int) throws {
        for seed in (slice * 50)..<(slice * 50 + 50) {
            try Self.run(seed: UInt64(seed))
        }
    }

    /// - Parameter makeDevice: makes the device for a budget; nil for the host, with jitter.
    static func run(
        seed: UInt64, on makeDevice: ((MemoryConfiguration) throws -> any Device)? = nil
    ) throws {
        var random = PlanRandom(seed: seed &* 77 &+ 5)
        let generated = PlanGenerator.problem(seed: seed)
        let subject = PlanDriver.Subject(generated, random: &random)
        let staleness: Staleness =
            random.chance(70)
            ? .bulkSynchronous : (random.chance(70) ? .clocks(1) : .unbounded)
        var memory = MemoryConfiguration()
        memory.policy = random.chance(50) ? .benefit : .paper
        memory.prefersPinnedHost = random.chance(70)
        memory.planGridPoints = 4
        memory.waitTimeout = .seconds(30)
        memory.budgetBytes = try budget(for: subject, memory, staleness, &random)
        let pinnedLimitBytes = random.chance(20) ? 10_000 : nil
        let device: any Device =
            try makeDevice?(memory)
            ?? HostDevice(
                limitBytes: memory.budgetBytes, pinnedLimitBytes: pinnedLimitBytes,
                jitter: Jitter(seed: seed, delayMicrosecondsMaximum: 60))
        let stream = random.chance(50) ? try device.makeStream(name: "application") : nil
        let driver = try PlanDriver(
            subject, device: device, memory: memory, staleness: staleness, stream: stream,
            seed: seed, longestDelay: random.chance(50) ? 200 : 0)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        for _ in 0..<5 { try driver.iterate() }
        try driver.settle()
        try driver.checkSums()
        if let fault = driver.faults.first {
            Issue.record("seed \(seed): \(fault)")
        }
        let counters = try #require(driver.manager.managedCounters)
        let placement = try #require(driver.manager.placement)
        #expect(driver.manager.counters.planDeviations == 0, "seed \(seed)")
        #expect(counters.onDemand == 0, "seed \(seed)")
        #expect(counters.bytesOut == 5 * UInt64(placement.bytesOut), "seed \(seed)")
        #expect(counters.highWaterBytes <= placement.arenaBytes, "seed \(seed)")
        #expect(device.bytesPeak <= memory.budgetBytes ?? .max, "seed \(seed)")
    }

    /// Somewhere between the least and the full need, often at the edges.
    private static func budget(
        for subject: PlanDriver.Subject, _ memory: MemoryConfiguration, _ staleness: Staleness,
        _ random: inout PlanRandom
    ) throws -> Int {
        let probe = try PlanDriver(
            subject, device: HostDevice(), memory: memory, staleness: staleness, stream: nil,
            seed: 0, longestDelay: 0)
        defer { probe.close() }
        let planner = try PlacementPlanner(probe.manager.problem(for: probe.plan))
        let share = [0, 5, 20, 35, 60, 100][random.below(6)]
        // The device rounds the arena up to 64 bytes as the planner does, and never lends less than that.
        return max(
            64, planner.leastBytes + (planner.fullBytes - planner.leastBytes) * share / 100 + 63)
    }
}
