import GeePSMemory
import Testing

@Suite struct PlacementPlannerTests {
    static let seedBlocks: [Range<UInt64>] = (0..<10).map { UInt64($0 * 200)..<UInt64($0 * 200 + 200) }

    @Test(arguments: seedBlocks)
    func placementsOfRandomPlansAreSound(seeds: Range<UInt64>) throws {
        for seed in seeds {
            let problem = PlanGenerator.problem(seed: seed)
            let planner = try PlacementPlanner(problem)
            for budget in Self.budgets(planner) {
                for policy in PlanPolicy.allCases {
                    let placement = try planner.placement(budgetBytes: budget, policy: policy)
                    PlacementChecker(
                        problem: problem, placement: placement,
                        comment: "seed \(seed), budget \(budget), \(policy)"
                    ).checkAll(budgetBytes: budget)
                }
            }
        }
    }

    @Test(arguments: seedBlocks)
    func moreBudgetNeverMovesMoreAndNeverMoreThanThePaper(seeds: Range<UInt64>) throws {
        for seed in seeds {
            let planner = try PlacementPlanner(PlanGenerator.problem(seed: seed))
            var previous = [Int.max, Int.max]
            for budget in Self.budgets(planner, steps: 17) {
                let ours = try planner.placement(budgetBytes: budget)
                let theirs = try planner.placement(budgetBytes: budget, policy: .paper)
                #expect(ours.bytesMoved <= previous[0], "seed \(seed), budget \(budget)")
                #expect(theirs.bytesMoved <= previous[1], "seed \(seed), budget \(budget)")
                #expect(ours.bytesMoved <= theirs.bytesMoved, "seed \(seed), budget \(budget)")
                previous = [ours.bytesMoved, theirs.bytesMoved]
            }
        }
    }

    @Test(arguments: seedBlocks)
    func withoutABudgetNoLocalDataMoves(seeds: Range<UInt64>) throws {
        for seed in seeds {
            let problem = PlanGenerator.problem(seed: seed)
            let planner = try PlacementPlanner(problem)
            let placement = try planner.placement(budgetBytes: nil)
            #expect(placement.bytesOfLocalData == 0, "seed \(seed)")
            #expect(!placement.homes.contains(.moves), "seed \(seed)")
            let full = try planner.placement(budgetBytes: planner.fullBytes)
            #expect(full.bytesMoved == placement.bytesMoved, "seed \(seed)")
            PlacementChecker(
                problem: problem, placement: placement, comment: "seed \(seed), unlimited"
            ).checkAll(budgetBytes: nil)
        }
    }

    @Test(arguments: seedBlocks)
    func theLeastBudgetIsAcceptedAndOneByteLessRefused(seeds: Range<UInt64>) throws {
        for seed in seeds {
            var problem = PlanGenerator.problem(seed: seed)
            let planner = try PlacementPlanner(problem)
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
    static func budgets(_ planner: PlacementPlanner, steps: Int = 5) -> [Int] {
        let least = planner.leastBytes
        let most = planner.fullBytes + (planner.fullBytes - least) / 2 + 64
        return (0..<steps).map { least + (most - least) * $0 / (steps - 1) }
    }
}
