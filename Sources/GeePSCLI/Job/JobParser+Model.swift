import GeePSNN

extension JobParser {
    private static let layerTypes = [
        "linear", "conv", "maxpool", "avgpool", "relu", "tanh", "sigmoid", "dropout", "lrn",
        "batch_norm", "flatten", "lstm",
    ]

    /// `{name: lenet}` or `{layers: [...]}`.
    func model(_ map: MapReader) -> ModelSource? {
        var map = map
        defer { map.finish() }
        let layers = map.node("layers")
        let hasName = map.node("name") != nil
        if let layers {
            if hasName {
                map.report(
                    at: max(map.origin(of: "name"), map.origin(of: "layers")),
                    "found both model.name and model.layers, expected one of them")
            }
            return self.layers(layers).map { .layers(ModelConfiguration(layers: $0)) }
        }
        guard hasName else {
            map.report(
                at: map.origin, "missing key 'layers' or 'name' in model, expected one of them")
            return nil
        }
        return map.choice("name", of: ModelSource.builtInNames).map { .builtIn($0) }
    }

    private func layers(_ node: JobNode) -> [LayerConfiguration]? {
        guard case .list(let elements) = node.value, !elements.isEmpty else {
            problems.report(
                at: node.origin,
                "found \(node.summary) for model.layers, expected a list of layers such as "
                    + "{type: linear, out: 10}")
            return nil
        }
        var origins: [String: Origin] = [:]
        return elements.enumerated().compactMap { index, element in
            guard
                let map = MapReader(element, path: "model.layers.\(index)", problems: problems),
                let (layer, origin) = layer(map, index: index)
            else { return nil }
            guard let first = origins.updateValue(origin, forKey: layer.name) else { return layer }
            problems.report(
                at: origin,
                "found another layer named '\(layer.name)', expected a name of its own"
                    + (first.line.map { "; line \($0) has that name too" } ?? ""))
            return layer
        }
    }

    /// A layer with the place where its name is written; an unnamed one is named by type and position.
    private func layer(_ map: MapReader, index: Int) -> (LayerConfiguration, Origin)? {
        var map = map
        let name = map.text("name", expected: "a name")
        guard let type = map.choice("type", of: Self.layerTypes) else { return nil }
        map.owner = "\(map.path) (\(type))"
        let kind = kind(type, &map)
        map.finish()
        let origin = name == nil ? map.origin : map.node("name")?.origin ?? map.origin
        return (LayerConfiguration(name: name ?? "\(type)\(index)", kind: kind), origin)
    }

    private func kind(_ type: String, _ map: inout MapReader) -> LayerKind {
        switch type {
        case "linear": return .linear(out: map.integer("out", in: 1...Int.max))
        case "conv":
            return .convolution(
                out: map.integer("out", in: 1...Int.max),
                kernel: map.integer("kernel", in: 1...Int.max),
                stride: map.integer("stride", in: 1...Int.max, default: 1),
                padding: map.integer("pad", in: 0...Int.max, default: 0))
        case "maxpool":
            let (kernel, stride, padding) = pooling(&map)
            return .maxPooling(kernel: kernel, stride: stride, padding: padding)
        case "avgpool":
            let (kernel, stride, padding) = pooling(&map)
            return .averagePooling(kernel: kernel, stride: stride, padding: padding)
        case "tanh": return .tanh
        case "sigmoid": return .sigmoid
        case "dropout": return .dropout(probability: map.number("p", .belowOne, default: 0.5))
        case "lrn":
            return .localResponseNormalisation(
                size: map.integer("size", in: 1...Int.max),
                alpha: map.number("alpha", .nonNegative, default: 1e-4),
                beta: map.number("beta", .nonNegative, default: 0.75),
                k: map.number("k", .positive, default: 1))
        case "batch_norm":
            return .batchNormalisation(
                epsilon: map.number("eps", .positive, default: 1e-5),
                momentum: map.number("momentum", .upToOne, default: 0.1),
                isAffine: map.flag("affine", default: true))
        case "flatten": return .flatten
        case "lstm":
            return .lstm(
                out: map.integer("out", in: 1...Int.max),
                steps: map.integer("steps", in: 1...Int.max),
                keeps: map.choice("keep", of: KeptSteps.allCases.map(\.rawValue), default: "last")
                    .flatMap(KeptSteps.init) ?? .last)
        default: return .relu
        }
    }

    private func pooling(_ map: inout MapReader) -> (kernel: Int, stride: Int, padding: Int) {
        let kernel = map.integer("kernel", in: 1...Int.max)
        let stride = map.integer("stride", in: 1...Int.max, default: kernel)
        let padding = map.integer("pad", in: 0...Int.max, default: 0)
        if padding > kernel / 2 {
            map.report(
                at: map.origin(of: "pad"),
                "found pad \(padding) with kernel \(kernel), expected at most half the kernel "
                    + "(\(kernel / 2)): a window must see at least one value")
        }
        return (kernel, stride, padding)
    }
}

extension Origin {
    /// The line of the job file, nil for a flag.
    var line: Int? {
        if case .file(let line, _) = self { line } else { nil }
    }
}
