import GeePSMemory
import Testing

/// Updates of a whole table that are added up on the device.
@Suite struct AccumulationTests {
    private let kilo = 1024

    /// A table updated in `count` steps of 2 kB, between which `busy` bytes are in use.
    private func problem(
        updates count: Int, busy: Int, isRun: Bool = true, isWholeTable: Bool = false,
        reads: Bool = false
    ) -> PlanProblem {
        var net = NetworkSketch()
        let batch = net.table("layer", 2 * kilo, isRun)
        net.problem.batches[batch].isWholeTable = isWholeTable
        let large = net.local("busy", busy)
        for _ in 0..<count {
            net.step([], read: reads ? batch : nil, update: batch)
            net.step([(large, false, false)], read: nil, update: nil)
        }
        net.problem.accesses.append(Access(.clock))
        return net.problem
    }

    private func check(_ placement: Placement, _ problem: PlanProblem, _ budget: Int?) {
        #expect(
            PlacementChecker.faults(of: placement, for: problem, budgetBytes: budget).isEmpty)
    }

    @Test(arguments: [2, 4]) func theSumLeavesOnceWhereThereIsRoomForIt(_ count: Int) throws {
        // The sum beside the busy step, and beside another update: 5 kB.
        let problem = problem(updates: count, busy: 3 * kilo)
        let planner = try PlacementPlanner(problem)
        let placement = try planner.placement(budgetBytes: 5 * kilo)
        #expect(placement.bytesOfUpdates == 2 * kilo && placement.bytesOut == 2 * kilo)
        let sum = try #require(placement.stays.firstIndex { $0.savesOut })
        #expect(placement.stays.count { $0.addsInto == sum } == count - 1)
        check(placement, problem, 5 * kilo)
        let tight = try planner.placement(budgetBytes: 5 * kilo - 1)
        #expect(tight.bytesOfUpdates == count * 2 * kilo)
        #expect(tight.stays.allSatisfy { $0.addsInto == nil })
        check(tight, problem, 5 * kilo - 1)
    }

    @Test func aSingleUpdateIsNoSum() throws {
        let problem = problem(updates: 1, busy: kilo)
        let placement = try PlacementPlanner(problem).placement(budgetBytes: nil)
        #expect(placement.stays.allSatisfy { $0.addsInto == nil })
        #expect(placement.bytesOfUpdates == 2 * kilo)
    }

    @Test func rowsThatAreNotTheWholeTableAreNotAddedUp() throws {
        for isWholeTable in [false, true] {
            let list = problem(updates: 3, busy: kilo, isRun: false, isWholeTable: isWholeTable)
            let placement = try PlacementPlanner(list).placement(budgetBytes: nil)
            #expect(placement.bytesOfUpdates == (isWholeTable ? 1 : 3) * 2 * kilo)
        }
        var part = problem(updates: 3, busy: kilo, isWholeTable: true)
        part.tables[0].cacheBytes += 4
        let placement = try PlacementPlanner(part).placement(budgetBytes: nil)
        #expect(placement.bytesOfUpdates == 3 * 2 * kilo)
    }

    @Test func updatesOfTwoBatchesAreNotAddedUp() throws {
        var problem = problem(updates: 2, busy: kilo)
        problem.batches.append(problem.batches[0])
        for position in problem.accesses.indices.suffix(5)
        where problem.accesses[position].kind == .update
            || problem.accesses[position].kind == .endUpdate
        {
            problem.accesses[position].batch = 1
        }
        let placement = try PlacementPlanner(problem).placement(budgetBytes: nil)
        #expect(placement.bytesOfUpdates == 2 * 2 * kilo)
    }

    @Test func underThePapersPolicyTablesOnTheDeviceAddUpAndOthersDoNot() throws {
        let problem = problem(updates: 3, busy: 3 * kilo, reads: true)
        let planner = try PlacementPlanner(problem)
        // Twice the peak of 4 kB, and 4 kB for cache and log.
        let roomy = try planner.placement(budgetBytes: 13 * kilo, policy: .paper)
        #expect(roomy.cacheHomes == [.device])
        #expect(roomy.bytesOfUpdates == 2 * kilo)
        check(roomy, problem, 13 * kilo)
        let tight = try planner.placement(budgetBytes: 8 * kilo, policy: .paper)
        #expect(tight.cacheHomes == [.host])
        #expect(tight.bytesOfUpdates == 3 * 2 * kilo)
        let ours = try planner.placement(budgetBytes: 8 * kilo)
        #expect(ours.bytesMoved <= tight.bytesMoved)
    }
}
