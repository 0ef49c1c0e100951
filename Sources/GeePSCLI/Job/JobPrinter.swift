import GeePSCore
import GeePSMemory
import GeePSNN
import GeePSTransport

extension Job {
    /// The job as a job file with every default spelled out; reading it gives an equal job.
    var yaml: String {
        var lines: [String] = []
        lines += modelLines
        lines += ["data:"] + indented(data.pairs)
        lines += ["optimizer:"] + indented(optimizer.pairs)
        lines += ["train:"] + indented(trainPairs)
        lines +=
            ["consistency:"]
            + indented([
                ("staleness", "\(staleness)"), ("refresh", "\(refreshesReads)"),
            ])
        lines += ["cluster:"] + indented(cluster.pairs)
        if let memory { lines += ["memory:"] + indented(memory.pairs) }
        if let initialWeights { lines.append("init: \(quoted(initialWeights))") }
        if let outputDirectory {
            lines += ["output:"] + indented([("directory", quoted(outputDirectory))])
        }
        if let checkpoint { lines += ["checkpoint:"] + indented(checkpoint.pairs) }
        if let pace { lines += ["emulate:"] + indented(pace.pairs) }
        return lines.joined(separator: "\n") + "\n"
    }

    private var modelLines: [String] {
        switch model {
        case .builtIn(let name): ["model:"] + indented([("name", quoted(name))])
        case .layers(let model):
            ["model:", "  layers:"] + model.layers.map { "    - \(flow($0.pairs))" }
        }
    }

    private var trainPairs: [(String, String)] {
        let length =
            switch length {
            case .epochs(let count): ("epochs", "\(count)")
            case .steps(let count): ("steps", "\(count)")
            }
        return [
            length, ("seed", "\(seed)"), ("batches_per_clock", "\(batchesPerClock)"),
            ("precision", precision.rawValue),
        ] + (clocksPerValidation.map { [("validate_every", "\($0)")] } ?? [])
    }
}

extension MemorySettings {
    fileprivate var pairs: [(String, String)] {
        var pairs = [("device", quoted("\(device)"))]
        if let budget { pairs.append(("budget", quoted(budget.text))) }
        pairs += [("policy", policy.rawValue), ("pinned_host", "\(pinnedHost)")]
        if isCPUSide { pairs += [("parameter_cache", "host"), ("background", "false")] }
        if let pinnedLimitBytes { pairs.append(("pinned_limit", "\(pinnedLimitBytes)")) }
        if let linkBytesPerSecond {
            pairs.append(("link", quoted(LinkSpeed.text(linkBytesPerSecond))))
        }
        return pairs
    }
}

extension CheckpointSettings {
    fileprivate var pairs: [(String, String)] {
        [
            ("directory", quoted(directory)), ("every", every.text), ("keep", "\(keep)"),
            ("resume", quoted(resume.text)), ("restarts", "\(restarts)"),
        ]
    }
}

extension EmulatedPace {
    fileprivate var pairs: [(String, String)] {
        let clock = ("clock", Duration.nanoseconds(clockNanoseconds).jobText)
        guard delayNanoseconds > 0 else { return [clock] }
        let whose =
            switch delayed {
            case .inTurn: "turns"
            case .worker(let rank): "\(rank)"
            }
        return [
            clock, ("delay", Duration.nanoseconds(delayNanoseconds).jobText), ("delayed", whose),
        ]
    }
}

private func indented(_ pairs: [(String, String)]) -> [String] {
    pairs.map { "  \($0.0): \($0.1)" }
}

private func flow(_ pairs: [(String, String)]) -> String {
    "{" + pairs.map { "\($0.0): \($0.1)" }.joined(separator: ", ") + "}"
}

/// A text as a YAML scalar; in quotes unless it is plainly a word or a path.
private func quoted(_ text: String) -> String {
    let isSafe = { (scalar: Unicode.Scalar) in
        scalar.isASCII
            && (scalar.properties.isAlphabetic || "0123456789_./-".unicodeScalars.contains(scalar))
    }
    let words = ["null", "true", "false", "yes", "no", "on", "off"]
    let startsPlainly = text.unicodeScalars.first.map {
        $0.isASCII && ($0.properties.isAlphabetic || $0 == "/")
    }
    if startsPlainly == true, text.unicodeScalars.allSatisfy(isSafe),
        !words.contains(text.lowercased())
    {
        return text
    }
    return jsonString(text)
}

extension LayerConfiguration {
    fileprivate var pairs: [(String, String)] {
        [("name", quoted(name))] + kind.pairs
    }
}

extension LayerKind {
    fileprivate var pairs: [(String, String)] {
        switch self {
        case .linear(let out): [("type", "linear"), ("out", "\(out)")]
        case .convolution(let out, let kernel, let stride, let padding):
            [("type", "conv"), ("out", "\(out)")] + Self.window(kernel, stride, padding)
        case .maxPooling(let kernel, let stride, let padding):
            [("type", "maxpool")] + Self.window(kernel, stride, padding)
        case .averagePooling(let kernel, let stride, let padding):
            [("type", "avgpool")] + Self.window(kernel, stride, padding)
        case .relu: [("type", "relu")]
        case .tanh: [("type", "tanh")]
        case .sigmoid: [("type", "sigmoid")]
        case .dropout(let probability): [("type", "dropout"), ("p", "\(probability)")]
        case .localResponseNormalisation(let size, let alpha, let beta, let k):
            [
                ("type", "lrn"), ("size", "\(size)"), ("alpha", "\(alpha)"), ("beta", "\(beta)"),
                ("k", "\(k)"),
            ]
        case .batchNormalisation(let epsilon, let momentum, let isAffine):
            [
                ("type", "batch_norm"), ("eps", "\(epsilon)"), ("momentum", "\(momentum)"),
                ("affine", "\(isAffine)"),
            ]
        case .flatten: [("type", "flatten")]
        case .lstm(let out, let steps, let keeps):
            [("type", "lstm"), ("out", "\(out)"), ("steps", "\(steps)"), ("keep", keeps.rawValue)]
        }
    }

    private static func window(_ kernel: Int, _ stride: Int, _ padding: Int) -> [(String, String)] {
        [("kernel", "\(kernel)"), ("stride", "\(stride)"), ("pad", "\(padding)")]
    }
}

extension DataConfiguration {
    fileprivate var pairs: [(String, String)] {
        source.pairs + [("batch_size", "\(batchSize)"), ("shuffle", "\(isShuffled)")]
    }
}

extension DataConfiguration.Source {
    fileprivate var pairs: [(String, String)] {
        switch self {
        case .mnist(let directory): [("format", "mnist"), ("path", quoted(directory))]
        case .cifar10(let directory): [("format", "cifar10"), ("path", quoted(directory))]
        case .synthetic(let samples, let shape, let classes, let seed):
            [
                ("format", "synthetic"), ("samples", "\(samples)"), ("shape", "\(shape)"),
                ("classes", "\(classes)"), ("seed", "\(seed)"),
            ]
        }
    }
}

extension OptimizerConfiguration {
    fileprivate var pairs: [(String, String)] {
        var pairs = [("name", rule.name), ("lr", "\(learningRate)")] + rule.pairs
        if rule != .add { pairs.append(("weight_decay", "\(weightDecay)")) }
        pairs.append(("reduction", reduction.rawValue))
        pairs.append(("schedule", flow(schedule.pairs(learningRate: learningRate))))
        return pairs
    }
}

extension OptimizerRule {
    fileprivate var name: String {
        switch self {
        case .add: "add"
        case .sgd: "sgd"
        case .adam: "adam"
        case .adamW: "adamw"
        case .adaGrad: "adagrad"
        case .rmsProp: "rmsprop"
        }
    }

    fileprivate var pairs: [(String, String)] {
        switch self {
        case .add: []
        case .sgd(let momentum, let dampening, let nesterov):
            [
                ("momentum", "\(momentum)"), ("dampening", "\(dampening)"),
                ("nesterov", "\(nesterov)"),
            ]
        case .adam(let beta1, let beta2, let epsilon), .adamW(let beta1, let beta2, let epsilon):
            [("betas", "[\(beta1), \(beta2)]"), ("eps", "\(epsilon)")]
        case .adaGrad(let decay, let initial, let epsilon):
            [
                ("lr_decay", "\(decay)"), ("initial_accumulator_value", "\(initial)"),
                ("eps", "\(epsilon)"),
            ]
        case .rmsProp(let alpha, let epsilon, let momentum, let centered):
            [
                ("alpha", "\(alpha)"), ("eps", "\(epsilon)"), ("momentum", "\(momentum)"),
                ("centered", "\(centered)"),
            ]
        }
    }
}

extension Schedule {
    fileprivate func pairs(learningRate: Double) -> [(String, String)] {
        shape.pairs(learningRate: learningRate) + [("warmup", "\(warmup)")]
    }
}

extension Schedule.Shape {
    fileprivate func pairs(learningRate: Double) -> [(String, String)] {
        switch self {
        case .constant: [("name", "constant")]
        case .step(let stepSize, let gamma):
            [("name", "step"), ("step_size", "\(stepSize)"), ("gamma", "\(gamma)")]
        case .multistep(let milestones, let gamma):
            [("name", "multistep"), ("milestones", "\(milestones)"), ("gamma", "\(gamma)")]
        case .exponential(let gamma): [("name", "exponential"), ("gamma", "\(gamma)")]
        case .polynomial(let total, let power):
            [("name", "polynomial"), ("total_iters", "\(total)"), ("power", "\(power)")]
        case .cosine(let period, let minimumFactor):
            [
                ("name", "cosine"), ("T_max", "\(period)"),
                ("eta_min", "\(Self.product(minimumFactor, learningRate))"),
            ]
        }
    }

    /// The number near `factor * rate` that divided by `rate` gives `factor` again, bit for bit.
    private static func product(_ factor: Double, _ rate: Double) -> Double {
        let near = factor * rate
        let candidates = [
            near, near.nextUp, near.nextDown, near.nextUp.nextUp, near.nextDown.nextDown,
        ]
        return candidates.first { $0 >= 0 && $0 / rate == factor } ?? near
    }
}

extension ClusterConfiguration {
    fileprivate var pairs: [(String, String)] {
        var pairs = [
            ("workers", "\(workers)"), ("keepers", "\(keepers)"), ("transport", transport.rawValue),
            ("port", "\(port)"), ("interface", quoted(interface)),
            ("join_timeout", joinTimeout.jobText),
            ("reconnect_timeout", reconnectTimeout.jobText),
        ]
        if let keeperThreads { pairs.append(("keeper_threads", "\(keeperThreads)")) }
        if let lanes { pairs.append(("lanes", "\(lanes)")) }
        if let tls {
            let files = [("certificate", tls.certificate), ("key", tls.key), ("ca", tls.ca)]
            pairs.append(("tls", flow(files.map { ($0, quoted($1)) })))
        }
        return pairs
    }
}
