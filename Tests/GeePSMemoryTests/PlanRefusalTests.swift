import GeePSMemory
import Testing

@Suite struct PlanRefusalTests {
    private func network(batch: Int) -> PlanProblem {
        var sketch = NetworkSketch()
        sketch.build(
            activations: [4096 * batch, 8192 * batch, 4096 * batch], parameters: [65_536, 65_536],
            hasMomentum: false)
        var problem = sketch.problem
        for index in problem.locals.indices {
            problem.locals[index].bytesPerSample = problem.locals[index].byteCount / batch
        }
        problem.batchSize = batch
        problem.phaseNames = [
            "load", "fc1 forward", "fc2 forward", "loss", "fc2 backward", "fc1 backward",
        ]
        return problem
    }

    private func refused(_ problem: PlanProblem, budget: Int) -> PlanRefusal? {
        do {
            let planner = try PlacementPlanner(problem)
            _ = try planner.placement(budgetBytes: budget)
            return nil
        } catch {
            return error
        }
    }

    @Test func itNamesTheStepTheBudgetAndWhatWouldDo() throws {
        let refusal = try #require(refused(network(batch: 64), budget: 1 << 20))
        #expect(refusal.phaseName == "fc2 backward")
        #expect(refusal.phaseBytes == 64 * (8192 + 4096 + 8192) + 2 * 65_536)
        #expect(
            refusal.message.hasPrefix(
                "fc2 backward needs 1.38 MiB on the device at the same time, the budget is 1 MiB"))
        #expect(refusal.message.contains("the least that would do is "))
    }

    @Test func theBatchItProposesFits() throws {
        let refusal = try #require(refused(network(batch: 64), budget: 1 << 20))
        let fitting = try #require(refusal.fittingBatchSize)
        #expect(fitting > 32)
        #expect(refused(network(batch: fitting), budget: 1 << 20) == nil)
    }

    @Test func noBatchIsProposedWhereParametersAloneAreTooLarge() throws {
        let refusal = try #require(refused(network(batch: 64), budget: 100_000))
        #expect(refusal.fittingBatchSize == nil)
        #expect(!refusal.message.contains("a batch of"))
    }

    @Test func fixedMemoryCountsAgainstTheBudget() throws {
        var problem = network(batch: 4)
        let least = try PlacementPlanner(problem).leastBytes
        problem.fixedBytes = 1000
        #expect(try PlacementPlanner(problem).leastBytes == least + 1000)
        #expect(refused(problem, budget: least + 999) != nil)
        #expect(refused(problem, budget: least + 1000) == nil)
    }

    private static let broken: [[Access]] = [
        [Access(.local)],
        [Access(.local), Access(.clock)],
        [Access(.endLocal), Access(.clock)],
        [Access(.clock), Access(.local), Access(.endLocal), Access(.clock)],
        [Access(.local, batch: 7), Access(.endLocal, batch: 7), Access(.clock)],
        [Access(.read), Access(.endUpdate), Access(.clock)],
    ]

    @Test(arguments: broken)
    func anIterationThatDoesNotPairUpIsMalformed(accesses: [Access]) {
        let problem = PlanProblem(
            accesses: accesses, locals: [PlanProblem.Local(name: "a", byteCount: 4)],
            batches: [PlanProblem.Batch(table: 0, byteCount: 4)],
            tables: [PlanProblem.Table(name: "t", cacheBytes: 4)])
        #expect(refused(problem, budget: 1 << 20)?.code == .malformed)
    }
}
