import GeePSCore
import GeePSDevice
import GeePSMemory
import Testing

/// The plan is a hint: whatever else the application does is served, counted, and planned for.
@Suite struct ManagedDeviationTests {
    @Test(arguments: 0..<10)
    func iterationsThatStrayAreServedAndBecomeThePlan(slice: Int) throws {
        var lost = 0
        for seed in (slice * 30)..<(slice * 30 + 30) {
            if try !Self.run(seed: UInt64(seed)) { lost += 1 }
        }
        // What the plan had no use for may be gone; mostly it is not.
        #expect(lost < 15)
    }

    /// - Returns: false when content was lost, as the error said.
    private static func run(seed: UInt64) throws -> Bool {
        var random = PlanRandom(seed: seed &* 31 &+ 9)
        let generated = PlanGenerator.problem(seed: seed &+ 10_000)
        let subject = PlanDriver.Subject(generated, random: &random)
        var memory = MemoryConfiguration()
        memory.planGridPoints = 4
        memory.policy = random.chance(50) ? .benefit : .paper
        let device = HostDevice(jitter: Jitter(seed: seed, delayMicrosecondsMaximum: 40))
        let staleness: Staleness = random.chance(60) ? .bulkSynchronous : .clocks(1)
        let probe = try PlanDriver(
            subject, device: HostDevice(), memory: memory, staleness: staleness, stream: nil,
            seed: 0, longestDelay: 0)
        let planner = try PlacementPlanner(probe.manager.problem(for: probe.plan))
        probe.close()
        memory.budgetBytes =
            planner.leastBytes + (planner.fullBytes - planner.leastBytes) * random.below(101) / 100
        let stream = random.chance(50) ? try device.makeStream(name: "application") : nil
        let driver = try PlanDriver(
            subject, device: device, memory: memory, staleness: staleness, stream: stream,
            seed: seed, longestDelay: 100)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        do {
            for round in 0..<6 {
                let strays = round == 1 || round == 3
                try driver.iterate(
                    strays ? strayed(driver.plan.accesses, &random) : nil)
            }
        } catch let error as AccessError where error.code == .contentLost {
            #expect(error.message.contains("local"), "seed \(seed): \(error)")
            return false
        }
        try driver.settle()
        try driver.checkTotals()
        if let fault = driver.faults.first { Issue.record("seed \(seed): \(fault)") }
        return true
    }

    /// The accesses without some of the pairs, with others twice.
    private static func strayed(_ accesses: [Access], _ random: inout PlanRandom) -> [Access] {
        var isDropped = accesses.map { _ in false }
        var extra: [Access] = []
        var open: [Access: [Int]] = [:]
        for (position, access) in accesses.enumerated() {
            let key = Access(access.kind.opening, batch: access.batch)
            if access.kind == .clock { continue }
            if access.kind == access.kind.opening {
                open[key, default: []].append(position)
                continue
            }
            guard let start = open[key]?.removeFirst() else { continue }
            if random.chance(15) {
                isDropped[start] = true
                isDropped[position] = true
            } else if random.chance(10) {
                extra += [accesses[start], access]
            }
        }
        return zip(accesses, isDropped).filter { !$0.1 && $0.0.kind != .clock }.map(\.0) + extra
            + [Access(.clock)]
    }

    private static func network() -> PlanDriver.Subject {
        var sketch = NetworkSketch()
        sketch.build(
            activations: [4000, 4000, 4000, 4000], parameters: [1600, 1600, 1600],
            hasMomentum: true)
        var random = PlanRandom(seed: 1)
        return PlanDriver.Subject(sketch.problem, random: &random)
    }

    private func driver(
        _ device: HostDevice = HostDevice(), budgetBytes: Int? = nil
    ) throws -> PlanDriver {
        try PlanDriver(
            Self.network(), device: device, memory: MemoryConfiguration(budgetBytes: budgetBytes),
            staleness: .bulkSynchronous, stream: nil, seed: 1, longestDelay: 0)
    }

    @Test func withoutAPlanEveryAccessIsServedByItselfAndTheFirstIterationBecomesThePlan() throws {
        let driver = try driver()
        defer { driver.close() }
        try driver.iterate()
        let first = try #require(driver.manager.managedCounters)
        #expect(first.onDemand > 0 && first.placements == 1)
        try driver.iterate()
        try driver.settle()
        #expect(driver.manager.managedCounters?.onDemand == first.onDemand)
        #expect(driver.faults.first == nil)
    }

    @Test func aStrayIterationIsCountedAndTheNextPlanIsWhatItDid() throws {
        let driver = try driver()
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        try driver.iterate()
        // The first step, input only, twice.
        let extra = [
            Access(.local, batch: 0, matters: false), Access(.endLocal, batch: 0, matters: true),
        ]
        try driver.iterate(extra + driver.plan.accesses)
        let counters = try #require(driver.manager.managedCounters)
        #expect(counters.abandoned == 1)
        #expect(counters.placements == 2)
        #expect(driver.manager.counters.replans == 1)
        try driver.iterate(extra + driver.plan.accesses)
        #expect(driver.manager.managedCounters?.abandoned == 1)
        try driver.settle()
        try driver.checkTotals()
        #expect(driver.faults.first == nil)
    }

    @Test func contentThatThePlanHadNoUseForIsMissedWithAnError() throws {
        // Kept, but never fetched before it is overwritten: the plan lets it go.
        let device = HostDevice()
        var subject = PlanDriver.Subject(
            PlanProblem(accesses: [], locals: [], batches: [], tables: []), random: &Self.random)
        subject.localBytes = [1000, 2000]
        subject.accesses = [
            Access(.local, batch: 0), Access(.endLocal, batch: 0, matters: true),
            Access(.local, batch: 1), Access(.endLocal, batch: 1), Access(.clock),
        ]
        let driver = try PlanDriver(
            subject, device: device, memory: MemoryConfiguration(budgetBytes: 2048),
            staleness: .bulkSynchronous, stream: nil, seed: 1, longestDelay: 0)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        try driver.iterate()
        try driver.perform(subject.accesses[0])
        try driver.perform(subject.accesses[1])
        let error = #expect(throws: AccessError.self) {
            try driver.perform(Access(.local, batch: 0, matters: true))
        }
        #expect(error?.code == .contentLost)
        #expect(error?.message.contains("local0") == true)
    }

    nonisolated(unsafe) private static var random = PlanRandom(seed: 3)

    @Test func outsideThePlanTheBudgetStillHolds() throws {
        let probe = try driver()
        let least = try PlacementPlanner(probe.manager.problem(for: probe.plan)).leastBytes
        probe.close()
        let device = HostDevice(limitBytes: least)
        let driver = try driver(device, budgetBytes: least)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        // Every local batch at once is more than the least budget, and not what was planned.
        let error = #expect(throws: AccessError.self) {
            for id in driver.plan.accesses.indices.prefix(11) {
                try driver.perform(Access(.local, batch: id))
            }
        }
        #expect(error?.code == .outOfMemory)
        #expect(error?.message.contains("not where the plan has it") == true)
        #expect(device.bytesPeak <= least)
    }

    @Test func aBudgetBelowTheLeastIsRefusedWithTheLeast() throws {
        let driver = try driver(budgetBytes: 5000)
        defer { driver.close() }
        let error = #expect(throws: AccessError.self) {
            try driver.manager.follow(driver.plan)
        }
        #expect(error?.code == .budgetTooSmall)
        #expect(error?.message.contains("the least that would do is") == true)
    }

    @Test func aStalenessChangedWhileRunningIsPlannedForAtTheNextClock() throws {
        let device = HostDevice()
        let driver = try PlanDriver(
            Self.network(), device: device, memory: MemoryConfiguration(),
            staleness: .clocks(2), stream: nil, seed: 1, longestDelay: 500)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        for _ in 0..<4 { try driver.iterate() }
        driver.manager.staleness = .clocks(1)
        for _ in 0..<4 { try driver.iterate() }
        try driver.settle()
        try driver.checkTotals()
        #expect(driver.faults.first == nil)
        #expect(driver.manager.managedCounters?.placements == 2)
    }
}

extension Access.Kind {
    fileprivate var opening: Access.Kind {
        switch self {
        case .read, .endRead: .read
        case .update, .endUpdate: .update
        case .local, .endLocal: .local
        case .clock: .clock
        }
    }
}
