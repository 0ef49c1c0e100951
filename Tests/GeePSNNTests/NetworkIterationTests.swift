import GeePSMemory
import Testing

@testable import GeePSNN

@Suite struct NetworkIterationTests {
    private func network() throws -> Network {
        try Network(.lenet(), input: Shape(channels: 1, height: 8, width: 8), batchSize: 4)
    }

    @Test(arguments: [1, 2, 4]) func stepsAreRepeatedBeforeOneClock(_ count: Int) throws {
        let network = try network()
        let once = network.planProblem()
        let problem = network.planProblem(batchesPerClock: count)
        let steps = once.accesses.dropLast()
        #expect(problem.accesses.count == count * steps.count + 1)
        for batch in 0..<count {
            let slice = problem.accesses[(batch * steps.count)..<((batch + 1) * steps.count)]
            #expect(slice.elementsEqual(steps))
        }
        #expect(problem.accesses.last == Access(.clock))
        #expect(problem.accesses.count { $0.kind == .clock } == 1)
        #expect(problem.phaseCount == count * network.steps.count)
        #expect(problem.locals == once.locals)
    }

    @Test func phasesSayWhichMiniBatchTheyBelongTo() throws {
        let network = try network()
        #expect(network.planProblem().phaseNames[1] == "conv1 forward")
        let names = network.planProblem(batchesPerClock: 4).phaseNames
        #expect(names.count == 4 * network.steps.count)
        #expect(names[0] == "load (1/4)")
        #expect(names[network.steps.count + 1] == "conv1 forward (2/4)")
        #expect(names.last == "conv1 backward (4/4)")
    }

    @Test func twoMiniBatchesNeedNoMoreMemoryThanOneButMoveMore() throws {
        let network = try network()
        let one = try PlacementPlanner(network.planProblem())
        let two = try PlacementPlanner(network.planProblem(batchesPerClock: 2))
        #expect(two.leastBytes == one.leastBytes)
        let bytes = one.leastBytes
        let least = (
            try one.placement(budgetBytes: bytes), try two.placement(budgetBytes: bytes)
        )
        #expect(least.1.bytesOfLocalData == 2 * least.0.bytesOfLocalData)
    }
}
