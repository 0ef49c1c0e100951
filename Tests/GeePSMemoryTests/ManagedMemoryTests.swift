import GeePSCore
import GeePSDevice
import GeePSMemory
import Synchronization
import Testing

/// What managed memory promises, on a chain of layers.
@Suite struct ManagedMemoryTests {
    private static let kilo = 1024

    /// Six layers with momentum; activations of 64 KB, parameters of 16 KB.
    private static func subject() -> PlanDriver.Subject {
        var sketch = NetworkSketch()
        sketch.build(
            activations: Array(repeating: 64 * kilo, count: 7),
            parameters: Array(repeating: 16 * kilo, count: 6), hasMomentum: true)
        var random = PlanRandom(seed: 1)
        return PlanDriver.Subject(sketch.problem, random: &random)
    }

    /// Least and full need.
    private static let needs: (least: Int, full: Int)? = {
        guard let planner = try? planner() else { return nil }
        return (planner.leastBytes, planner.fullBytes)
    }()

    private static func planner() throws -> PlacementPlanner {
        let driver = try PlanDriver(
            subject(), device: HostDevice(), memory: MemoryConfiguration(),
            staleness: .bulkSynchronous, stream: nil, seed: 1, longestDelay: 0)
        defer { driver.close() }
        return try PlacementPlanner(driver.manager.problem(for: driver.plan))
    }

    private static func driver(
        _ device: HostDevice, budgetBytes: Int?, staleness: Staleness = .bulkSynchronous,
        stream: (any DeviceStream)? = nil
    ) throws -> PlanDriver {
        try PlanDriver(
            subject(), device: device, memory: memory(budgetBytes: budgetBytes),
            staleness: staleness, stream: stream, seed: 1, longestDelay: 0)
    }

    private static func memory(budgetBytes: Int?) -> MemoryConfiguration {
        var memory = MemoryConfiguration(budgetBytes: budgetBytes)
        memory.planGridPoints = 8
        return memory
    }

    private static func budget(percent: Int) throws -> Int {
        let needs = try #require(needs)
        return max(needs.least, needs.full * percent / 100)
    }

    @Test(arguments: [0, 35, 60, 100])
    func everyClockMovesExactlyThePlannedBytes(percent: Int) throws {
        let device = HostDevice()
        let driver = try Self.driver(device, budgetBytes: try Self.budget(percent: percent))
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        let placement = try #require(driver.manager.placement)
        for _ in 0..<3 { try driver.iterate() }
        try driver.settle()
        // What is fetched ahead is the same at every clock once nothing moves any more.
        let before = Self.whenQuiet(device)
        for _ in 0..<4 { try driver.iterate() }
        try driver.settle()
        let after = Self.whenQuiet(device)
        #expect(after.hostToDeviceBytes - before.hostToDeviceBytes == 4 * placement.bytesIn)
        #expect(after.deviceToHostBytes - before.deviceToHostBytes == 4 * placement.bytesOut)
        if percent == 100 {
            // Only what comes from and goes to the network crosses the link.
            #expect(placement.bytesOfLocalData == 0)
            #expect(placement.bytesIn == placement.bytesOfArrivingRows)
            #expect(placement.bytesOut == placement.bytesOfUpdates)
        }
        #expect(driver.faults.first == nil)
    }

    /// Traffic once it has not changed for a while.
    private static func whenQuiet(_ device: HostDevice) -> CopyTraffic {
        var last = device.traffic
        var same = 0
        while same < 25 {
            sleepMicroseconds(2000)
            let now = device.traffic
            same = now == last ? same + 1 : 0
            last = now
        }
        return last
    }

    @Test(arguments: [0, 35, 100])
    func nothingIsAllocatedOnceAPlacementIsFollowed(percent: Int) throws {
        let budget = try Self.budget(percent: percent)
        let device = HostDevice(limitBytes: budget)
        let driver = try Self.driver(device, budgetBytes: budget)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        let placement = try #require(driver.manager.placement)
        let (count, inUse) = (device.allocationCount, device.bytesInUse)
        for _ in 0..<6 { try driver.iterate() }
        try driver.settle()
        #expect(device.allocationCount == count)
        #expect(device.bytesInUse == inUse)
        #expect(inUse.reduce(0, +) == placement.arenaBytes)
        let highest = placement.stays.map { $0.offset + $0.byteCount }.max()
        #expect(driver.manager.managedCounters?.highWaterBytes == highest)
    }

    @Test func onlyLocalDataThatMovesHasHostMemory() throws {
        let device = HostDevice()
        let driver = try Self.driver(device, budgetBytes: try Self.budget(percent: 50))
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        try driver.iterate()
        let placement = try #require(driver.manager.placement)
        let purpose = MemoryPurpose.allCases.firstIndex(of: .localData) ?? 0
        let moving = zip(placement.homes, Self.subject().localBytes)
            .filter { $0.0 == .moves }.map(\.1)
        #expect(!moving.isEmpty && moving.count < placement.homes.count)
        #expect(device.pinnedBytesInUse[purpose] == moving.reduce(0, +))
    }

    @Test func pinnedLocalDataIsLentAtOneAddress() throws {
        let driver = try Self.driver(HostDevice(), budgetBytes: nil)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        let placement = try #require(driver.manager.placement)
        // Momentum lives across the clock, so with room for everything it is pinned.
        let momentum = try #require(
            placement.stays.first { stay in
                guard case .local(let id) = stay.item else { return false }
                return stay.isPinned && id >= 14
            })
        for _ in 0..<3 { try driver.iterate() }
        #expect(!momentum.fetchesIn && !momentum.savesOut)
        #expect(driver.faults.first == nil)
    }

    @Test func rowsThatTheNetworkOwesDoNotHoldUpLocalData() throws {
        // Rows first, then data that has to make room for a scratch: both are fetched at every clock.
        var sketch = NetworkSketch()
        let data = sketch.local("data", 40 * Self.kilo)
        let scratch = sketch.local("scratch", 40 * Self.kilo)
        let table = sketch.table("table", 4 * Self.kilo, false)
        sketch.step([], read: table, update: table)
        sketch.step([(data, true, true)], read: nil, update: nil)
        sketch.step([(scratch, false, false)], read: nil, update: nil)
        sketch.step([(scratch, false, false)], read: nil, update: nil)
        sketch.problem.accesses.append(Access(.clock))
        var random = PlanRandom(seed: 1)
        let device = HostDevice()
        let driver = try PlanDriver(
            PlanDriver.Subject(sketch.problem, random: &random), device: device,
            memory: Self.memory(budgetBytes: 50 * Self.kilo), staleness: .bulkSynchronous,
            stream: nil, seed: 1, longestDelay: 0)
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        try driver.iterate()
        try driver.settle()
        let placement = try #require(driver.manager.placement)
        #expect(placement.cacheHomes == [.host] && placement.homes[data] == .moves)
        // From now on no rows come: the next iteration cannot begin, but what it needs can be fetched.
        driver.store.setOpen(false)
        try driver.iterate()
        // The data of three iterations, the rows of two.
        let isFetched = Self.eventually {
            device.traffic.hostToDeviceBytes == 3 * 40 * Self.kilo + 2 * 4 * Self.kilo
        }
        #expect(isFetched, "\(device.traffic)")
        #expect(driver.store.freshness(of: 0)?.age == Tick(1))
        driver.store.setOpen(true)
        try driver.iterate()
        try driver.settle()
        #expect(driver.faults.first == nil)
    }

    private static func eventually(_ condition: () -> Bool) -> Bool {
        let deadline = Deadline.after(.seconds(10))
        while !deadline.hasPassed {
            if condition() { return true }
            sleepMicroseconds(1000)
        }
        return condition()
    }

    /// The timeline of emulated layers: what layer n + 1 needs is there before layer n ends.
    @Test func buffersOfTheNextLayerAreReadyBeforeALayerEnds() throws {
        // 64 KB at 100 MB/s take 0.7 ms, a layer computes for 15: copies are far shorter than compute.
        let timeline = Timeline(isRecording: true)
        let device = HostDevice(
            link: LinkEmulation(bytesPerSecond: 100e6), timeline: timeline)
        let stream = try device.makeStream(name: "compute")
        let driver = try Self.driver(
            device, budgetBytes: try Self.budget(percent: 65), stream: stream)
        driver.usesContents = false
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        let placement = try #require(driver.manager.placement)
        var phase = -1
        for iteration in 0..<3 {
            for (position, access) in driver.plan.accesses.enumerated() {
                // The first release of a phase: everything is held, so the layer computes.
                let isRelease = [.endRead, .endUpdate, .endLocal].contains(access.kind)
                if isRelease, placement.phaseOfAccess[position] != phase {
                    phase = placement.phaseOfAccess[position]
                    stream.compute(nanoseconds: 15_000_000, label: "\(iteration).\(phase)")
                }
                try driver.perform(access)
            }
        }
        try driver.settle()
        let computes = timeline.spans.filter { $0.operation == "compute" }
        let phases = placement.phaseBytes.count
        #expect(computes.count >= 3 * (phases - 1))
        // After the first iteration a layer begins when the one before has ended, not later by a copy.
        let steady = Array(zip(computes, computes.dropFirst()).dropFirst(phases))
        let late = steady.filter { $1.startNanoseconds > $0.endNanoseconds + 5_000_000 }
        #expect(late.count <= steady.count / 10, "\(late.count) of \(steady.count) layers waited")
        let copies = timeline.spans.filter { $0.operation.hasPrefix("copy") }
        #expect(!copies.isEmpty)
        let hidden = copies.filter { copy in
            let middle = (copy.startNanoseconds + copy.endNanoseconds) / 2
            return computes.contains {
                $0.startNanoseconds <= middle && middle < $0.endNanoseconds
            }
        }
        #expect(
            hidden.count * 10 >= copies.count * 7,
            "\(hidden.count) of \(copies.count), single \(placement.singleBufferedCount)")
        #expect(driver.faults.first == nil)
    }

    // MARK: Faults

    @Test(arguments: [true, false])
    func everyAllocationMayFail(prefersPinned: Bool) throws {
        var failures = 0
        var fallbacks = 0
        for number in 1...200 {
            let warnings = Mutex<[String]>([])
            let device = HostDevice(onWarning: { warning in
                warnings.withLock { $0.append(warning) }
            })
            device.failAllocation(number: number)
            var isOver = false
            do {
                var memory = Self.memory(budgetBytes: try Self.budget(percent: 40))
                memory.prefersPinnedHost = prefersPinned
                let driver = try PlanDriver(
                    Self.subject(), device: device, memory: memory, staleness: .bulkSynchronous,
                    stream: nil, seed: 1, longestDelay: 0)
                defer { driver.close() }
                do {
                    try driver.manager.follow(driver.plan)
                } catch {
                    #expect(error.code == .outOfMemory)
                    #expect(error.message.contains("made to fail"), "\(error.message)")
                    failures += 1
                }
                // With the placement, or without it where its memory could not be had.
                for _ in 0..<2 { try driver.iterate() }
                try driver.settle()
                try driver.checkSums()
                #expect(driver.faults.first == nil, "allocation \(number)")
                let said = warnings.withLock { $0 }
                fallbacks += said.count
                #expect(said.count <= 1)
                isOver =
                    said.isEmpty && driver.manager.managedCounters?.placements == 1
                    && failures > 0
            }
            #expect(device.bytesInUse.allSatisfy { $0 == 0 }, "allocation \(number)")
            #expect(device.pinnedBytesInUse.allSatisfy { $0 == 0 }, "allocation \(number)")
            if isOver { break }
            #expect(number < 200, "some allocation fails for ever")
        }
        #expect(failures > 0)
        #expect((fallbacks > 0) == prefersPinned)
    }

    @Test func whenPinnedMemoryRunsOutPageableTakesItsPlaceWithOneWarning() throws {
        let warnings = Mutex(0)
        let device = HostDevice(
            pinnedLimitBytes: 100 * Self.kilo, onWarning: { _ in warnings.withLock { $0 += 1 } })
        let driver = try Self.driver(device, budgetBytes: try Self.budget(percent: 0))
        defer { driver.close() }
        try driver.manager.follow(driver.plan)
        for _ in 0..<3 { try driver.iterate() }
        try driver.settle()
        try driver.checkSums()
        #expect(driver.faults.first == nil)
        #expect(warnings.withLock { $0 } == 1)
        #expect(device.traffic.pageableBytes > 0)
    }
}
