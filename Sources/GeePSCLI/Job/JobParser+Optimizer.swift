import GeePSCore

extension JobParser {
    /// The optimizer section: keys and defaults are those of torch.optim.
    func optimizer(_ map: MapReader) -> OptimizerConfiguration? {
        var map = map
        let names = ["sgd", "adam", "adamw", "adagrad", "rmsprop", "add"]
        guard let name = map.choice("name", of: names) else { return nil }
        map.owner = "optimizer (\(name))"
        let learningRate = map.number("lr", .positive, default: Self.defaultLearningRate(of: name))
        let rule = rule(name, &map)
        let weightDecay =
            name == "add"
            ? 0
            : map.number("weight_decay", .nonNegative, default: name == "adamw" ? 0.01 : 0)
        let reduction = map.choice(
            "reduction", of: Reduction.allCases.map(\.rawValue), default: Reduction.mean.rawValue)
        let schedule =
            map.map("schedule").flatMap { self.schedule($0, learningRate: learningRate) }
            ?? Schedule(.constant)
        map.finish()
        return OptimizerConfiguration(
            rule: rule, learningRate: learningRate, weightDecay: weightDecay,
            reduction: reduction.flatMap { Reduction(rawValue: $0) } ?? .mean, schedule: schedule)
    }

    private static func defaultLearningRate(of name: String) -> Double {
        name == "adagrad" || name == "rmsprop" ? 0.01 : 0.001
    }

    private func rule(_ name: String, _ map: inout MapReader) -> OptimizerRule {
        switch name {
        case "sgd": return sgd(&map)
        case "adam", "adamw":
            let (beta1, beta2) = betas(&map)
            let epsilon = map.number("eps", .nonNegative, default: 1e-8)
            refuseAMSGrad(&map)
            return name == "adam"
                ? .adam(beta1: beta1, beta2: beta2, epsilon: epsilon)
                : .adamW(beta1: beta1, beta2: beta2, epsilon: epsilon)
        case "adagrad":
            return .adaGrad(
                learningRateDecay: map.number("lr_decay", .nonNegative, default: 0),
                initialAccumulator: map.number(
                    "initial_accumulator_value", .nonNegative, default: 0),
                epsilon: map.number("eps", .nonNegative, default: 1e-10))
        case "rmsprop":
            return .rmsProp(
                alpha: map.number("alpha", .upToOne, default: 0.99),
                epsilon: map.number("eps", .nonNegative, default: 1e-8),
                momentum: map.number("momentum", .nonNegative, default: 0),
                centered: map.flag("centered", default: false))
        default: return .add
        }
    }

    private func sgd(_ map: inout MapReader) -> OptimizerRule {
        let momentum = map.number("momentum", .nonNegative, default: 0)
        let dampening = map.number("dampening", .any, default: 0)
        let nesterov = map.flag("nesterov", default: false)
        if nesterov && (momentum <= 0 || dampening != 0) {
            map.report(
                at: map.origin(of: "nesterov"),
                "found nesterov with momentum \(momentum) and dampening \(dampening), expected a "
                    + "momentum above 0 and no dampening")
        }
        return .sgd(momentum: momentum, dampening: dampening, nesterov: nesterov)
    }

    private func betas(_ map: inout MapReader) -> (Double, Double) {
        let expected = "a list of two numbers, each at least 0 and below 1"
        let betas = map.value("betas", fallback: [0.9, 0.999], expected: expected) {
            (node) -> [Double]? in
            guard case .list(let elements) = node.value, elements.count == 2 else { return nil }
            let numbers = elements.compactMap(MapReader.number)
            return numbers.count == 2 && numbers.allSatisfy(NumberRule.belowOne.accepts)
                ? numbers : nil
        }
        return betas.map { ($0[0], $0[1]) } ?? (0.9, 0.999)
    }

    private func refuseAMSGrad(_ map: inout MapReader) {
        // Asked for only when given, so that lists of keys do not offer it.
        guard map.has("amsgrad"), map.flag("amsgrad", default: false) else { return }
        map.report(
            at: map.origin(of: "amsgrad"),
            "found amsgrad: true, expected false: a keeper holds two states a weight and amsgrad needs "
                + "a third, the largest second moment so far")
    }

    /// The schedule section, in clocks; keys are those of torch.optim.lr_scheduler.
    private func schedule(_ map: MapReader, learningRate: Double) -> Schedule? {
        var map = map
        let names = ["constant", "step", "multistep", "exponential", "polynomial", "cosine"]
        guard let name = map.choice("name", of: names) else { return nil }
        map.owner = "optimizer.schedule (\(name))"
        let shape = shape(name, &map, learningRate: learningRate)
        let warmup: UInt64 = map.integer("warmup", in: 0...UInt64(Int.max), default: 0)
        map.finish()
        return Schedule(shape, warmup: warmup)
    }

    private func shape(_ name: String, _ map: inout MapReader, learningRate: Double)
        -> Schedule.Shape
    {
        let clocks = 1...UInt64(Int.max)
        switch name {
        case "step":
            return .step(
                stepSize: map.integer("step_size", in: clocks),
                gamma: map.number("gamma", .positive, default: 0.1))
        case "multistep":
            let milestones = map.integers("milestones", in: clocks) ?? []
            if !zip(milestones, milestones.dropFirst()).allSatisfy({ $0 < $1 }) {
                map.report(
                    at: map.origin(of: "milestones"),
                    "found milestones \(milestones), expected each above the one before")
            }
            return .multistep(
                milestones: milestones, gamma: map.number("gamma", .positive, default: 0.1))
        case "exponential": return .exponential(gamma: map.number("gamma", .positive))
        case "polynomial":
            return .polynomial(
                total: map.integer("total_iters", in: clocks),
                power: map.number("power", .positive, default: 1))
        case "cosine":
            let period = map.integer("T_max", in: clocks)
            let minimum = map.number("eta_min", .nonNegative, default: 0)
            return .cosine(period: period, minimumFactor: minimum / learningRate)
        default: return .constant
        }
    }
}
