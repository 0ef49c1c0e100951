/// How gradients of several workers become one.
public enum Reduction: String, Hashable, Sendable, CaseIterable {
    /// Divided by the number of workers, as PyTorch DDP does.
    case mean
    /// Added up, as the original GeePS does.
    case sum
}

/// The update rule that runs at the keeper, with PyTorch's names, defaults and arithmetic.
public enum OptimizerRule: Hashable, Sendable {
    /// Plain addition of what workers send (the paper's mode): they make the step, learning rate included.
    case add
    case sgd(momentum: Double, dampening: Double, nesterov: Bool)
    case adam(beta1: Double, beta2: Double, epsilon: Double)
    case adamW(beta1: Double, beta2: Double, epsilon: Double)
    case adaGrad(learningRateDecay: Double, initialAccumulator: Double, epsilon: Double)
    case rmsProp(alpha: Double, epsilon: Double, momentum: Double, centered: Bool)
}

/// An update rule with everything it needs, equal on all processes of a job.
public struct OptimizerConfiguration: Hashable, Sendable {
    /// The rule.
    public var rule: OptimizerRule
    /// Base learning rate; the schedule multiplies it.
    public var learningRate: Double
    /// L2 penalty, or decoupled decay for adamW; added once, not once a worker.
    public var weightDecay: Double
    /// How the workers' gradients are joined.
    public var reduction: Reduction
    /// Learning rate by clock.
    public var schedule: Schedule

    /// A rule with its learning rate.
    public init(
        rule: OptimizerRule, learningRate: Double, weightDecay: Double = 0,
        reduction: Reduction = .mean, schedule: Schedule = Schedule(.constant)
    ) {
        self.rule = rule
        self.learningRate = learningRate
        self.weightDecay = weightDecay
        self.reduction = reduction
        self.schedule = schedule
    }

    /// The learning rate of the update that completes clock `tick` (the first is tick 1).
    public func learningRate(at tick: UInt64) -> Double {
        learningRate * schedule.factor(step: tick - 1)
    }
}

/// How the learning rate changes with the clock; torch.optim.lr_scheduler's rules in closed form.
public struct Schedule: Hashable, Sendable {
    /// The shape after the warm-up.
    public enum Shape: Hashable, Sendable {
        case constant
        /// Times `gamma` every `stepSize` clocks.
        case step(stepSize: UInt64, gamma: Double)
        /// Times `gamma` at each milestone.
        case multistep(milestones: [UInt64], gamma: Double)
        /// Times `gamma` every clock.
        case exponential(gamma: Double)
        /// (1 - t / total) ^ power, zero from `total` on.
        case polynomial(total: UInt64, power: Double)
        /// Half a cosine from 1 to `minimumFactor` over `period` clocks; stays there.
        case cosine(period: UInt64, minimumFactor: Double)
    }

    /// The shape.
    public var shape: Shape
    /// Clocks over which the factor first rises linearly, from 1 / (warmup + 1); the shape starts after.
    public var warmup: UInt64

    /// A shape with a warm-up.
    public init(_ shape: Shape, warmup: UInt64 = 0) {
        self.shape = shape
        self.warmup = warmup
    }
}
