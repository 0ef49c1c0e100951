import GeePSMemory
import Glibc
import Testing

@Suite struct PlacementPlannerTests {
    /// Seeds from `first` on, in ten parts; `GEEPS_PLAN_SEEDS` asks for more of them.
    static func blocks(from first: UInt64) -> [Range<UInt64>] {
        let wish = getenv("GEEPS_PLAN_SEEDS").flatMap { UInt64(String(cString: $0)) }
        let count = max(10, wish ?? 250)
        return blocks(from: first, count: count)
    }

    private static func blocks(from first: UInt64, count: UInt64) -> [Range<UInt64>] {
        (0..<10).map { (first + count / 10 * $0)..<(first + count / 10 * ($0 + 1)) }
    }

    static func planner(_ problem: PlanProblem) throws -> PlacementPlanner {
        try PlacementPlanner(problem, gridPoints: 8)
    }

    @Test(arguments: blocks(from: 10000))
    func placementsOfRandomPlansAreSound(seeds: Range<UInt64>) throws {
        for seed in seeds {
            let problem = PlanGenerator.problem(seed: seed)
            let planner = try Self.planner(problem)
            for budget in Self.budgets(planner) {
                for policy in PlanPolicy.allCases {
                    let placement = try planner.placement(budgetBytes: budget, policy: policy)
                    let faults = PlacementChecker.faults(
                        of: placement, for: problem, budgetBytes: budget)
                    #expect(faults.isEmpty, "seed \(seed), budget \(budget), \(policy)")
                }
            }
        }
    }

    @Test(arguments: blocks(from: 15000))
    func placementsThatLeaveContentWithTheCallerAreSound(seeds: Range<UInt64>) throws {
        var leaving = 0
        for seed in seeds {
            let problem = PlanGenerator.leavingProblem(seed: seed)
            let planner = try Self.planner(problem)
            var budgets: [Int?] = Self.budgets(planner)
            budgets.append(nil)
            for budget in budgets {
                let placement = try planner.placement(budgetBytes: budget)
                let faults = PlacementChecker.faults(
                    of: placement, for: problem, budgetBytes: budget)
                #expect(faults.isEmpty, "seed \(seed), budget \(budget ?? -1)")
                leaving += placement.leftBytes > 0 ? 1 : 0
            }
        }
        #expect(leaving > 0)
    }

    @Test(arguments: blocks(from: 20000))
    func moreBudgetNeverMovesMoreAndNeverMoreThanThePaper(seeds: Range<UInt64>) throws {
        for seed in seeds {
            let planner = try Self.planner(PlanGenerator.problem(seed: seed))
            var previous = [Int.max, Int.max]
            for budget in Self.budgets(planner, steps: 7) {
                let ours = try planner.placement(budgetBytes: budget)
                let theirs = try planner.placement(budgetBytes: budget, policy: .paper)
                #expect(ours.bytesMoved <= previous[0], "seed \(seed), budget \(budget)")
                #expect(theirs.bytesMoved <= previous[1], "seed \(seed), budget \(budget)")
                #expect(ours.bytesMoved <= theirs.bytesMoved, "seed \(seed), budget \(budget)")
                previous = [ours.bytesMoved, theirs.bytesMoved]
            }
        }
    }

    @Test(arguments: blocks(from: 30000))
    func withoutABudgetNoLocalDataMoves(seeds: Range<UInt64>) throws {
        for seed in seeds {
            let problem = PlanGenerator.problem(seed: seed)
            let planner = try Self.planner(problem)
            let placement = try planner.placement(budgetBytes: nil)
            #expect(placement.bytesOfLocalData == 0, "seed \(seed)")
            #expect(!placement.homes.contains(.moves), "seed \(seed)")
            let full = try planner.placement(budgetBytes: planner.fullBytes)
            #expect(full.bytesMoved == placement.bytesMoved, "seed \(seed)")
            let faults = PlacementChecker.faults(of: placement, for: problem, budgetBytes: nil)
            #expect(faults.isEmpty, "seed \(seed)")
        }
    }

    @Test(arguments: blocks(from: 40000))
    func theLeastBudgetIsAcceptedAndOneByteLessRefused(seeds: Range<UInt64>) throws {
        for seed in seeds {
            var problem = PlanGenerator.problem(seed: seed)
            let planner = try Self.planner(problem)
            for policy in PlanPolicy.allCases {
                problem.policy = policy
                problem.budgetBytes = planner.leastBytes
                #expect(throws: Never.self, "seed \(seed)") {
                    _ = try PlacementPlanner.placement(for: problem)
                }
                problem.budgetBytes = planner.leastBytes - 1
                let refusal = #expect(throws: PlanRefusal.self, "seed \(seed)") {
                    _ = try PlacementPlanner.placement(for: problem)
                }
                #expect(refusal?.code == .budgetTooSmall)
                #expect(refusal?.leastBytes == planner.leastBytes)
            }
        }
    }

    /// From the least to more than everything.
    static func budgets(_ planner: PlacementPlanner, steps: Int = 3) -> [Int] {
        let least = planner.leastBytes
        let most = planner.fullBytes + (planner.fullBytes - least) / 2 + 64
        return (0..<steps).map { least + (most - least) * $0 / (steps - 1) }
    }
}
