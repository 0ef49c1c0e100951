import GeePSMemory
import Testing

/// Small sequences whose answers can be found by hand; sizes are multiples of the granule.
@Suite struct PaperPolicyTests {
    private let kilo = 1024

    /// Step n holds local n alone, fetched and kept every iteration.
    private func chain(_ sizes: [Int]) -> PlanProblem {
        var sketch = NetworkSketch()
        for (index, size) in sizes.enumerated() {
            let id = sketch.local("item\(index)", size)
            sketch.step([(id, true, true)], read: nil, update: nil)
        }
        sketch.problem.accesses.append(Access(.clock))
        return sketch.problem
    }

    private func plan(_ problem: PlanProblem, budget: Int) throws -> Placement {
        try PlacementPlanner(problem).placement(budgetBytes: budget, policy: .paper)
    }

    @Test func theItemAtThePeakIsPinnedFirst() throws {
        // The large item costs 8 and lowers twice the peak by 14: pool 2 x 1.
        let problem = chain([8 * kilo, kilo, kilo, kilo])
        let placement = try plan(problem, budget: 12 * kilo)
        #expect(placement.homes[0] == .pinned)
    }

    @Test func otherItemsFollowAndTheRestIsMoved() throws {
        let problem = chain([8 * kilo, kilo, kilo, kilo, kilo])
        // 8 pinned, pool of 2, one more kilobyte.
        let placement = try plan(problem, budget: 11 * kilo + 512)
        #expect(placement.homes.count { $0 == .pinned } == 2)
        #expect(placement.homes.count { $0 == .moves } == 3)
        #expect(placement.bytesIn == 3 * kilo)
        #expect(placement.bytesOut == 3 * kilo)
    }

    @Test func aBudgetBelowTwiceThePeakIsNotRefused() throws {
        // j-14: peak 500 rows of which 450 are one item; pinned, 550 are enough, and the original asks for 1000.
        var sketch = NetworkSketch()
        let large = sketch.local("large", 450 * 512)
        let small = sketch.local("small", 50 * 512)
        let other = sketch.local("other", 50 * 512)
        sketch.step([(large, true, true), (small, true, true)], read: nil, update: nil)
        sketch.step([(other, true, true)], read: nil, update: nil)
        sketch.step([], read: nil, update: nil)
        sketch.problem.accesses.append(Access(.clock))
        let placement = try plan(sketch.problem, budget: 560 * 512)
        #expect(placement.homes[large] == .pinned)
        #expect(placement.homes[other] == .pinned || placement.homes[other] == .moves)
        #expect(placement.arenaBytes <= 560 * 512)
    }

    @Test func parametersComeAfterAllLocalDataAndCountTwice() throws {
        var sketch = NetworkSketch()
        let item = sketch.local("item", 4 * kilo)
        let batch = sketch.table("layer", 2 * kilo)
        sketch.step([], read: batch, update: nil)
        sketch.step([(item, true, true)], read: nil, update: nil)
        sketch.step([], read: batch, update: nil)
        sketch.problem.accesses.append(Access(.clock))
        // 4 pinned and a pool of 2 x 2 leave less than cache and log together need.
        let tight = try plan(sketch.problem, budget: 11 * kilo)
        #expect(tight.homes[item] == .pinned)
        #expect(tight.cacheHomes == [.host])
        let roomy = try plan(sketch.problem, budget: 13 * kilo)
        #expect(roomy.cacheHomes == [.device])
        // A read is a copy even then.
        #expect(roomy.stays.contains { $0.item == .read(batch) && !$0.fetchesIn })
    }

    @Test func dataThatNobodyFetchesIsNeverPinned() throws {
        var sketch = NetworkSketch()
        let item = sketch.local("scratch", 4 * kilo)
        sketch.step([(item, false, false)], read: nil, update: nil)
        let other = sketch.local("momentum", kilo)
        sketch.step([(other, true, true)], read: nil, update: nil)
        sketch.problem.accesses.append(Access(.clock))
        let placement = try plan(sketch.problem, budget: 64 * kilo)
        #expect(placement.homes == [.transient, .pinned])
    }
}
