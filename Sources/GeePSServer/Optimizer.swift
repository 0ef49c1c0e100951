import CGeePSKernels
import Glibc
public import GeePSCore

/// An update rule made ready to run over blocks of rows, with PyTorch's arithmetic bit for bit.
///
/// A value without state: the moving averages belong to the caller (`RowStore`), one array of the rows'
/// shape for each of `stateKinds`.
///
/// - Note: Bit-equal means equal to torch.optim's default implementation on float32 with correctly
///   rounded square roots (IEEE 754). PyTorch builds that call MKL on the CPU take its roots, which can be
///   one unit in the last place off, by processor; rules without a root are equal there too.
public struct Optimizer: @unchecked Sendable {
    // Sendable: `kernels` points to constant data.

    /// One array of optimiser state.
    public struct StateKind: Hashable, Sendable {
        /// Its name in a state_dict of torch.optim, such as `exp_avg`.
        public let name: String
        /// Its value before the first step.
        public let initialValue: Float
    }

    /// The state arrays of one block, in the order of `stateKinds`; nil where a rule needs fewer.
    public struct StatePointers {
        /// State array 0.
        public var first: UnsafeMutablePointer<Float>?
        /// State array 1.
        public var second: UnsafeMutablePointer<Float>?
        /// State array 2.
        public var third: UnsafeMutablePointer<Float>?

        /// The arrays that a rule needs, in order.
        public init(
            _ first: UnsafeMutablePointer<Float>? = nil,
            _ second: UnsafeMutablePointer<Float>? = nil,
            _ third: UnsafeMutablePointer<Float>? = nil
        ) {
            self.first = first
            self.second = second
            self.third = third
        }
    }

    /// The rule and its options.
    public let configuration: OptimizerConfiguration
    /// The state arrays a block needs: none to three.
    public let stateKinds: [StateKind]

    private let kernels: UnsafePointer<geeps_kernels>

    /// The rule of `configuration`, at the best instruction set of this processor.
    public init(_ configuration: OptimizerConfiguration) {
        self.init(configuration, kernels: geeps_kernels_best())
    }

    /// The same with chosen kernels: every level must give the same bits, and tests say so.
    init(_ configuration: OptimizerConfiguration, kernels: UnsafePointer<geeps_kernels>) {
        self.configuration = configuration
        self.kernels = kernels
        stateKinds = Self.stateKinds(of: configuration.rule)
    }

    private static func stateKinds(of rule: OptimizerRule) -> [StateKind] {
        func zero(_ name: String) -> StateKind { StateKind(name: name, initialValue: 0) }
        switch rule {
        case .add: return []
        case .sgd(let momentum, _, _): return momentum == 0 ? [] : [zero("momentum_buffer")]
        case .adam, .adamW: return [zero("exp_avg"), zero("exp_avg_sq")]
        case .adaGrad(_, let initialAccumulator, _):
            return [StateKind(name: "sum", initialValue: Float(initialAccumulator))]
        case .rmsProp(_, _, let momentum, let centered):
            return [zero("square_avg")]
                + (momentum == 0 ? [] : [zero("momentum_buffer")])
                + (centered ? [zero("grad_avg")] : [])
        }
    }

    /// Runs one step over `count` values, in one pass.
    ///
    /// - Parameters:
    ///   - values: the parameters, changed in place.
    ///   - gradient: the sum of the workers' contributions; read only.
    ///   - state: as many arrays as `stateKinds`, of `count` values each, changed in place.
    ///   - step: which step of these values this is; the first is 1.
    ///   - learningRate: with the schedule's factor already in it; `add` does not use it.
    ///   - gradientScale: what the gradient is multiplied by, such as a clipping factor.
    ///   - workerCount: what the sum is divided by when the reduction is the mean.
    /// - Precondition: no two arrays overlap.
    public func step(
        values: UnsafeMutablePointer<Float>, gradient: UnsafePointer<Float>, state: StatePointers,
        count: Int, step: UInt64, learningRate: Double, gradientScale: Float = 1,
        workerCount: Int = 1
    ) {
        precondition(step > 0, "optimiser steps count from 1, got 0")
        let reduced = reduction(scale: gradientScale, workerCount: workerCount)
        let count = Int64(count)
        let decay = configuration.weightDecay
        switch configuration.rule {
        case .add:
            kernels.pointee.step_add(values, gradient, count, reduced)
        case .sgd(let momentum, let dampening, let nesterov):
            let rule = geeps_sgd(
                weight_decay: Float(decay), momentum: Float(momentum),
                one_minus_dampening: Float(1 - dampening),
                negative_learning_rate: Float(-learningRate),
                is_first: step == 1 ? 1 : 0, nesterov: nesterov ? 1 : 0)
            requireState(state)
            kernels.pointee.step_sgd(values, gradient, state.first, count, reduced, rule)
        case .adam(let beta1, let beta2, let epsilon), .adamW(let beta1, let beta2, let epsilon):
            let rule = adam(
                beta1: beta1, beta2: beta2, epsilon: epsilon, step: step, learningRate: learningRate
            )
            guard let mean = state.first, let square = state.second else { missingState() }
            kernels.pointee.step_adam(values, gradient, mean, square, count, reduced, rule)
        case .adaGrad(let learningRateDecay, _, let epsilon):
            let decayed = learningRate / (1 + Double(step - 1) * learningRateDecay)
            let rule = geeps_adagrad(
                weight_decay: Float(decay), epsilon: Float(epsilon),
                negative_learning_rate: Float(-decayed))
            guard let total = state.first else { missingState() }
            kernels.pointee.step_adagrad(values, gradient, total, count, reduced, rule)
        case .rmsProp(let alpha, let epsilon, let momentum, let centered):
            let rule = geeps_rmsprop(
                weight_decay: Float(decay), alpha: Float(alpha), one_minus_alpha: Float(1 - alpha),
                epsilon: Float(epsilon), momentum: Float(momentum),
                negative_learning_rate: Float(-learningRate), centered: centered ? 1 : 0)
            requireState(state)
            guard let square = state.first else { missingState() }
            let buffer = momentum == 0 ? nil : state.second
            let mean = centered ? (momentum == 0 ? state.second : state.third) : nil
            kernels.pointee.step_rmsprop(
                values, gradient, square, buffer, mean, count, reduced, rule)
        }
    }

    // Scalars are computed in double and rounded once, where torch hands them to a float kernel.
    private func adam(
        beta1: Double, beta2: Double, epsilon: Double, step: UInt64, learningRate: Double
    ) -> geeps_adam {
        let correction1 = 1 - pow(beta1, Double(step))
        let correction2 = 1 - pow(beta2, Double(step))
        let isDecoupled = if case .adamW = configuration.rule { true } else { false }
        let decay = configuration.weightDecay
        return geeps_adam(
            weight_decay: isDecoupled ? 0 : Float(decay),
            decay_factor: isDecoupled ? Float(1 - learningRate * decay) : 1,
            one_minus_beta1: Float(1 - beta1), beta2: Float(beta2),
            one_minus_beta2: Float(1 - beta2), root_correction2: Float(pow(correction2, 0.5)),
            epsilon: Float(epsilon), negative_step_size: Float(-(learningRate / correction1)))
    }

    // A power of two divides exactly, so it joins the scale and saves the division.
    private func reduction(scale: Float, workerCount: Int) -> geeps_gradient {
        precondition(workerCount > 0, "a mean needs at least one worker, got \(workerCount)")
        guard configuration.reduction == .mean else {
            return geeps_gradient(divisor: 1, scale: scale)
        }
        let isPowerOfTwo = workerCount & (workerCount - 1) == 0
        return isPowerOfTwo
            ? geeps_gradient(divisor: 1, scale: scale / Float(workerCount))
            : geeps_gradient(divisor: Float(workerCount), scale: scale)
    }

    private func requireState(_ state: StatePointers) {
        let given =
            (state.first == nil ? 0 : 1) + (state.second == nil ? 0 : 1)
            + (state.third == nil ? 0 : 1)
        if given < stateKinds.count { missingState() }
    }

    private func missingState() -> Never {
        preconditionFailure(
            "\(configuration.rule) needs \(stateKinds.count) state arrays: "
                + stateKinds.map(\.name).joined(separator: ", "))
    }
}
