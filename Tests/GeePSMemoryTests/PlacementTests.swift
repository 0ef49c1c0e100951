import GeePSMemory
import Testing

/// Small iterations whose placement can be found by hand.
@Suite struct PlacementTests {
    private let kilo = 1024

    private func plan(_ sketch: NetworkSketch, budget: Int?) throws -> Placement {
        try PlacementPlanner(sketch.problem).placement(budgetBytes: budget)
    }

    private func clocked(_ build: (inout NetworkSketch) -> Void) -> NetworkSketch {
        var sketch = NetworkSketch()
        build(&sketch)
        sketch.problem.accesses.append(Access(.clock))
        return sketch
    }

    /// 4 kB and 1 kB, made in steps 0 and 1 and used again in the last two; between them 2 kB are busy.
    private func twoActivations() -> NetworkSketch {
        clocked { net in
            let first = net.local("first", 4 * kilo)
            let second = net.local("second", kilo)
            let busy = net.local("busy", 2 * kilo)
            net.step([(first, false, true)], read: nil, update: nil)
            net.step([(second, false, true)], read: nil, update: nil)
            for _ in 0..<4 { net.step([(busy, false, false)], read: nil, update: nil) }
            net.step([(second, true, false)], read: nil, update: nil)
            net.step([(first, true, false)], read: nil, update: nil)
        }
    }

    @Test func contentThatNobodyFetchesLaterNeedsNoHostMemory() throws {
        let sketch = clocked { net in
            let item = net.local("scratch", kilo)
            net.step([(item, false, true)], read: nil, update: nil)
            let other = net.local("other", kilo)
            net.step([(other, false, true)], read: nil, update: nil)
        }
        let placement = try plan(sketch, budget: kilo)
        #expect(placement.homes == [.transient, .transient])
        #expect(placement.bytesMoved == 0)
        #expect(placement.arenaBytes == kilo)
    }

    @Test func ofTwoActivationsTheOneThatFitsStays() throws {
        let sketch = twoActivations()
        let placement = try plan(sketch, budget: 4 * kilo)
        #expect(placement.homes[0] == .moves)
        #expect(placement.homes[1] == .transient)
        #expect(placement.bytesIn == 4 * kilo && placement.bytesOut == 4 * kilo)
    }

    @Test func contentIsLeftWithTheCallerWhereItFitsBesideTheRest() throws {
        // 7 kB at once, all told.
        var sketch = twoActivations()
        sketch.problem.locals[0].mayBeLeft = true
        sketch.problem.locals[1].mayBeLeft = true
        let all = try plan(sketch, budget: 7 * kilo)
        #expect(all.leftBytes == 5 * kilo && all.arenaBytes == 2 * kilo && all.bytesMoved == 0)
        // What moves is not left, and the other, which shares no memory then, has to fit.
        let tight = try plan(sketch, budget: 4 * kilo)
        #expect(tight.homes[0] == .moves && tight.leftBytes == 0)
        let both = try plan(sketch, budget: 5 * kilo)
        #expect(both.homes[0] == .moves && both.leftBytes == kilo && both.arenaBytes == 4 * kilo)
    }

    @Test func anUpdateThatAKeeperInPlaceTakesNeedsNoRoom() throws {
        var sketch = clocked { net in
            let table = net.table("layer", 4 * kilo)
            net.step([], read: table, update: table)
        }
        let made = try PlacementPlanner(sketch.problem)
        sketch.problem.updatesNeedRoom = false
        let taken = try PlacementPlanner(sketch.problem)
        #expect(made.leastBytes == 8 * kilo && taken.leastBytes == 4 * kilo)
        let placement = try taken.placement()
        #expect(placement.bytesOut == 4 * kilo && placement.bytesOfUpdates == 4 * kilo)
    }

    @Test func keepIsStickyAcrossHoldersThatOverlap() throws {
        var problem = clocked { net in _ = net.local("shared", kilo) }.problem
        problem.locals.append(PlanProblem.Local(name: "large", byteCount: 4 * kilo))
        problem.accesses = [
            Access(.local, batch: 0), Access(.local, batch: 0),
            Access(.endLocal, batch: 0, matters: true), Access(.endLocal, batch: 0),
            Access(.local, batch: 1), Access(.endLocal, batch: 1), Access(.local, batch: 1),
            Access(.endLocal, batch: 1), Access(.local, batch: 1), Access(.endLocal, batch: 1),
            Access(.local, batch: 0, matters: true), Access(.endLocal, batch: 0), Access(.clock),
        ]
        let placement = try PlacementPlanner(problem).placement(budgetBytes: 4 * kilo)
        #expect(placement.bytesOut == kilo && placement.bytesIn == kilo)
    }

    @Test func aCacheOnTheDeviceLendsRunsInPlaceAndGathersLists() throws {
        for isRun in [true, false] {
            let sketch = clocked { net in
                let batch = net.table("layer", kilo, isRun)
                net.step([], read: batch, update: nil)
                net.step([], read: batch, update: batch)
                net.step([], read: batch, update: nil)
            }
            let placement = try plan(sketch, budget: nil)
            #expect(placement.cacheHomes == [.device])
            #expect(placement.stays.contains { $0.item == .read(0) } == !isRun)
            #expect(placement.bytesIn == kilo, "only the rows that arrive")
            #expect(placement.bytesOut == kilo, "only the update")
        }
    }

    @Test func copiesOverlapComputeWhereThereIsRoomAndWaitWhereThereIsNone() throws {
        var problem = clocked { net in
            let items = (0..<6).map { net.local("item\($0)", 6000) }
            for item in items { net.step([(item, true, true)], read: nil, update: nil) }
        }.problem
        problem.phaseNanoseconds = Array(repeating: 10_000, count: 6)
        problem.link = PlanLink(bytesPerSecondIn: 1e9, bytesPerSecondOut: 1e9)
        let planner = try PlacementPlanner(problem)
        let least = try planner.placement(budgetBytes: planner.leastBytes)
        // In, compute and out follow one another: 6 + 10 + 6 microseconds a step.
        #expect(least.forecast?.iterationNanoseconds == 6 * 22_000)
        let triple = try planner.placement(budgetBytes: 3 * planner.leastBytes)
        #expect(triple.forecast?.stallNanoseconds == 0)
        #expect(triple.bytesOfLocalData > 0)
    }

    @Test func noStayIsReadyBeforeItsContentWasSaved() throws {
        let sketch = clocked { net in
            let momentum = net.local("momentum", 4 * kilo)
            net.step([(momentum, true, true)], read: nil, update: nil)
            let busy = net.local("busy", 4 * kilo)
            for _ in 0..<3 { net.step([(busy, false, false)], read: nil, update: nil) }
        }
        let placement = try plan(sketch, budget: 4 * kilo)
        let stay = try #require(placement.stays.first { $0.item == .local(0) })
        #expect(stay.fetchesIn && stay.savesOut)
        #expect(stay.source?.iterationsBack == 1)
        #expect(stay.predecessors.map(\.iterationsBack) == [1])
    }
}
