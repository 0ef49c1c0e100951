import GeePSCore
import Testing

@testable import GeePSServer

@Suite("Optimizer") struct OptimizerTests {
    @Test(arguments: OptimizerCase.all)
    func everyInstructionSetGivesTheSameBits(_ test: OptimizerCase) {
        let histories = kernelLevels.map { level in
            OptimizerRun.history(Optimizer(test.configuration, kernels: kernels(level)))
        }
        for history in histories.dropFirst() {
            #expect(history.map(\.bits) == histories[0].map(\.bits))
        }
        #expect(histories[0].last?.bits != OptimizerRun.inputs[0].bits)
    }

    @Test func momentumStartsFromTheGradientItself() {
        let configuration = OptimizerConfiguration(
            rule: .sgd(momentum: 0.9, dampening: 0.5, nesterov: false), learningRate: 1)
        let optimizer = Optimizer(configuration)
        let state = TestState(optimizer, count: 1)
        var value: [Float] = [1]
        optimizer.step(
            values: &value, gradient: [2], state: state.pointers, count: 1, step: 1,
            learningRate: 0.25)
        #expect(value == [0.5])
        optimizer.step(
            values: &value, gradient: [2], state: state.pointers, count: 1, step: 2,
            learningRate: 0.25)
        #expect(state.arrays[0][0] == 0.9 * 2 + 1)
        #expect(value == [0.5 - 0.25 * 2.8])
    }

    @Test(arguments: [1, 2, 3, 4, 7, 24])
    func theMeanDividesTheSumByTheWorkers(workerCount: Int) {
        let sum = OptimizerRun.inputs[1]
        for reduction in Reduction.allCases {
            let configuration = OptimizerConfiguration(
                rule: .add, learningRate: 9, weightDecay: 0.5, reduction: reduction)
            var values = OptimizerRun.inputs[0]
            let expected = zip(values, sum).map {
                $0 + (reduction == .mean ? $1 / Float(workerCount) : $1) * 0.75
            }
            Optimizer(configuration).step(
                values: &values, gradient: sum, state: .init(), count: values.count, step: 1,
                learningRate: 9, gradientScale: 0.75, workerCount: workerCount)
            #expect(values.bits == expected.bits)
        }
    }

    @Test(
        arguments: [
            (OptimizerRule.add, []),
            (.sgd(momentum: 0, dampening: 0, nesterov: false), []),
            (.sgd(momentum: 0.9, dampening: 0, nesterov: false), ["momentum_buffer"]),
            (.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8), ["exp_avg", "exp_avg_sq"]),
            (.adaGrad(learningRateDecay: 0, initialAccumulator: 0.5, epsilon: 1e-10), ["sum"]),
            (.rmsProp(alpha: 0.9, epsilon: 1e-8, momentum: 0, centered: false), ["square_avg"]),
            (
                .rmsProp(alpha: 0.9, epsilon: 1e-8, momentum: 0.9, centered: true),
                ["square_avg", "momentum_buffer", "grad_avg"]
            ),
        ] as [(OptimizerRule, [String])])
    func stateIsOnlyWhatTheRuleNeeds(rule: OptimizerRule, names: [String]) {
        let kinds = Optimizer(OptimizerConfiguration(rule: rule, learningRate: 1)).stateKinds
        #expect(kinds.map(\.name) == names)
        #expect(kinds.allSatisfy { $0.initialValue == ($0.name == "sum" ? 0.5 : 0) })
    }

    @Test func missingStateStopsTheProgram() async {
        await #expect(processExitsWith: .failure) {
            let rule = OptimizerRule.adam(beta1: 0.9, beta2: 0.999, epsilon: 1e-8)
            let optimizer = Optimizer(OptimizerConfiguration(rule: rule, learningRate: 1))
            var value: [Float] = [1]
            optimizer.step(
                values: &value, gradient: [1], state: .init(), count: 1, step: 1, learningRate: 1)
        }
    }
}
