import GeePSCore
import Testing

@testable import GeePSServer

/// A configuration to try, with what torch calls it.
struct OptimizerCase: Sendable, CustomTestStringConvertible {
    let name: String
    let rule: OptimizerRule
    let weightDecay: Double
    /// Rule and options in torch.optim's words, as JSON members.
    let torchRule: String
    let torchOptions: String

    var testDescription: String { name }

    var configuration: OptimizerConfiguration {
        OptimizerConfiguration(rule: rule, learningRate: 1, weightDecay: weightDecay)
    }

    /// Every combination of options that PyTorch allows.
    static let all: [OptimizerCase] = sgd + adam + adaGrad + rmsProp

    private static let decays = [0, 0.013]

    private static let sgd: [OptimizerCase] = decays.flatMap { decay in
        [
            (0.0, 0.0, false), (0.9, 0.0, false), (0.9, 0.0, true), (0.87, 0.3, false),
            (0, 0.5, false), (0.5, -0.25, false),
        ].map { momentum, dampening, nesterov in
            OptimizerCase(
                name: "sgd-m\(momentum)-d\(dampening)-n\(nesterov)-w\(decay)",
                rule: .sgd(momentum: momentum, dampening: dampening, nesterov: nesterov),
                weightDecay: decay, torchRule: "sgd",
                torchOptions: "\"momentum\":\(momentum),\"dampening\":\(dampening),"
                    + "\"nesterov\":\(nesterov),\"weight_decay\":\(decay)")
        }
    }

    private static let adam: [OptimizerCase] = decays.flatMap { decay in
        // A first beta under one half takes the other branch of lerp.
        [(0.9, 0.999, 1e-8), (0.4, 0.95, 1e-6), (0.5, 0.9, 1e-3)].flatMap { beta1, beta2, epsilon in
            ["adam", "adamw"].map { name in
                OptimizerCase(
                    name: "\(name)-b\(beta1)-\(beta2)-e\(epsilon)-w\(decay)",
                    rule: name == "adam"
                        ? .adam(beta1: beta1, beta2: beta2, epsilon: epsilon)
                        : .adamW(beta1: beta1, beta2: beta2, epsilon: epsilon),
                    weightDecay: decay, torchRule: name,
                    torchOptions: "\"betas\":[\(beta1),\(beta2)],\"eps\":\(epsilon),"
                        + "\"weight_decay\":\(decay)")
            }
        }
    }

    private static let adaGrad: [OptimizerCase] = decays.flatMap { decay in
        [(0.0, 0.0), (0.05, 0.1)].map { learningRateDecay, initial in
            OptimizerCase(
                name: "adagrad-l\(learningRateDecay)-i\(initial)-w\(decay)",
                rule: .adaGrad(
                    learningRateDecay: learningRateDecay, initialAccumulator: initial,
                    epsilon: 1e-10),
                weightDecay: decay, torchRule: "adagrad",
                torchOptions: "\"lr_decay\":\(learningRateDecay),\"eps\":1e-10,"
                    + "\"initial_accumulator_value\":\(initial),\"weight_decay\":\(decay)")
        }
    }

    private static let rmsProp: [OptimizerCase] = decays.flatMap { decay in
        [(0.0, false), (0.9, false), (0.0, true), (0.9, true)].flatMap { momentum, centered in
            [0.99, 0.3].map { alpha in
                OptimizerCase(
                    name: "rmsprop-a\(alpha)-m\(momentum)-c\(centered)-w\(decay)",
                    rule: .rmsProp(
                        alpha: alpha, epsilon: 1e-8, momentum: momentum, centered: centered),
                    weightDecay: decay, torchRule: "rmsprop",
                    torchOptions: "\"alpha\":\(alpha),\"eps\":1e-8,\"momentum\":\(momentum),"
                        + "\"centered\":\(centered),\"weight_decay\":\(decay)")
            }
        }
    }
}

/// A run of steps over fixed gradients.
struct OptimizerRun {
    static let count = 1003  // no multiple of any vector's width
    static let stepCount = 12
    static let learningRates = (0..<stepCount).map { 0.1 / Double($0 + 3) }

    /// Values, then a gradient for each step.
    static let inputs: [[Float]] = {
        var numbers = TestNumbers(seed: 77)
        return (0...stepCount).map { _ in numbers.floats(count) }
    }()

    /// The values after each step.
    static func history(_ optimizer: Optimizer) -> [[Float]] {
        let store = TestState(optimizer, count: count)
        var values = inputs[0]
        return (1...stepCount).map { step in
            optimizer.step(
                values: &values, gradient: inputs[step], state: store.pointers, count: count,
                step: UInt64(step), learningRate: learningRates[step - 1])
            return values
        }
    }
}

/// State arrays of one optimiser, freed at the end.
final class TestState {
    let arrays: [UnsafeMutablePointer<Float>]

    init(_ optimizer: Optimizer, count: Int) {
        arrays = optimizer.stateKinds.map {
            let array = UnsafeMutablePointer<Float>.allocate(capacity: count)
            array.initialize(repeating: $0.initialValue, count: count)
            return array
        }
    }

    deinit { for array in arrays { array.deallocate() } }

    var pointers: Optimizer.StatePointers {
        .init(arrays.first, arrays.dropFirst().first, arrays.dropFirst(2).first)
    }
}
