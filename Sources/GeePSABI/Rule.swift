internal import CGeePS
internal import GeePS

/// Rules as C gives them.
extension OptimizerConfiguration {
    /// The rule that `rule` describes.
    ///
    /// - Throws: naming the number that no rule of torch.optim would take.
    init(_ rule: geeps_rule) throws(ABIError) {
        let kind: OptimizerRule
        switch UInt32(bitPattern: rule.kind) {
        case GEEPS_RULE_ADD.rawValue: kind = .add
        case GEEPS_RULE_SGD.rawValue:
            kind = .sgd(
                momentum: try atLeastZero(rule.momentum, "momentum"),
                dampening: try finite(rule.dampening, "dampening"), nesterov: rule.nesterov != 0)
        case GEEPS_RULE_ADAM.rawValue:
            kind = .adam(
                beta1: try share(rule.beta1, "beta1"), beta2: try share(rule.beta2, "beta2"),
                epsilon: try atLeastZero(rule.epsilon, "epsilon"))
        case GEEPS_RULE_ADAMW.rawValue:
            kind = .adamW(
                beta1: try share(rule.beta1, "beta1"), beta2: try share(rule.beta2, "beta2"),
                epsilon: try atLeastZero(rule.epsilon, "epsilon"))
        case GEEPS_RULE_ADAGRAD.rawValue:
            kind = .adaGrad(
                learningRateDecay: try atLeastZero(rule.learning_rate_decay, "learning_rate_decay"),
                initialAccumulator: try atLeastZero(
                    rule.initial_accumulator, "initial_accumulator"),
                epsilon: try atLeastZero(rule.epsilon, "epsilon"))
        case GEEPS_RULE_RMSPROP.rawValue:
            kind = .rmsProp(
                alpha: try atLeastZero(rule.alpha, "alpha"),
                epsilon: try atLeastZero(rule.epsilon, "epsilon"),
                momentum: try atLeastZero(rule.momentum, "momentum"), centered: rule.centered != 0)
        default:
            throw .argument("rule kind \(rule.kind) is not a geeps_rule_kind")
        }
        self.init(
            rule: kind, learningRate: try finite(rule.learning_rate, "learning_rate"),
            weightDecay: try finite(rule.weight_decay, "weight_decay"),
            reduction: rule.sums == 0 ? .mean : .sum)
    }

    /// Whether the two rules differ in numbers only.
    func isOfKind(of other: OptimizerConfiguration) -> Bool {
        switch (rule, other.rule) {
        case (.add, .add), (.sgd, .sgd), (.adam, .adam), (.adamW, .adamW), (.adaGrad, .adaGrad),
            (.rmsProp, .rmsProp):
            true
        default: false
        }
    }
}

private func finite(_ value: Double, _ name: String) throws(ABIError) -> Double {
    guard value.isFinite else { throw .argument("\(name) is \(value), expected a finite number") }
    return value
}

private func atLeastZero(_ value: Double, _ name: String) throws(ABIError) -> Double {
    guard value.isFinite, value >= 0 else {
        throw .argument("\(name) is \(value), expected a number of 0 or more")
    }
    return value
}

private func share(_ value: Double, _ name: String) throws(ABIError) -> Double {
    guard value >= 0, value < 1 else {
        throw .argument("\(name) is \(value), expected a number from 0 to below 1")
    }
    return value
}
