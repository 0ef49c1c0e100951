/// Puts a network together from the input upward: shapes, layouts, local tensors.
struct NetworkBuilder {
    /// Where the top of the network, so far, keeps its values.
    struct Top {
        var activation: Int
        /// Nil where no gradient is needed.
        var gradient: Int?
        /// Whether the layer above may overwrite the values: nobody reads them again.
        var mayOverwrite: Bool
    }

    let batchSize: Int
    let isTraining: Bool
    let inputTensor = 0
    let labelsTensor = 1
    private(set) var inputGradientTensor: Int?
    private(set) var scratchTensor: Int?
    private(set) var tensors: [LocalTensor] = []
    private(set) var placements: [LayerPlacement] = []
    private(set) var current: Top
    private(set) var shape: Shape
    private(set) var resultsTensor: Int?
    private let target: ComputeTarget
    private let compute: LayerCompute
    private let factory: any LayerFactory
    private var layout = Layout.channelsFirst
    private var names: Set<String> = []
    private var parameterCount = 0
    private var scratchBytes = 0

    /// A network without layers.
    init(
        input: Shape, batchSize: Int, isTraining: Bool, target: ComputeTarget = .host,
        wantsInputGradient: Bool
    ) throws(NNError) {
        guard input.channels > 0 && input.height > 0 && input.width > 0 else {
            throw NNError(
                .model, "the model's input is \(input), expected at least 1 channel, row and column"
            )
        }
        guard batchSize > 0 else {
            throw NNError(.model, "the batch has \(batchSize) samples, expected at least 1")
        }
        try Self.checkSize(input, batchSize, "the input")
        self.target = target
        switch target {
        case .host:
            compute = .host(try DNNEngine())
            factory = HostLayers()
        case .cuda(let cuda):
            compute = .cuda(cuda)
            factory = CUDALayers(compute: cuda)
        }
        self.batchSize = batchSize
        self.isTraining = isTraining
        shape = input
        current = Top(activation: inputTensor, gradient: nil, mayOverwrite: false)
        tensors = [
            LocalTensor(name: "input", byteCount: batchSize * input.count * 4, role: .input),
            LocalTensor(name: "labels", byteCount: batchSize * 4, role: .labels),
        ]
        if wantsInputGradient && isTraining {
            tensors.append(
                LocalTensor(
                    name: "input.gradient", byteCount: tensors[0].byteCount, role: .gradient))
            inputGradientTensor = tensors.count - 1
            current.gradient = inputGradientTensor
        }
    }

    /// Adds the layers of `configuration`.
    mutating func append(_ configuration: ModelConfiguration) throws(NNError) {
        guard !configuration.layers.isEmpty else {
            throw NNError(.model, "the model has no layers, expected at least 1")
        }
        for layer in configuration.layers {
            guard !layer.name.isEmpty else {
                throw NNError(.model, "a layer (\(layer.kind)) has an empty name")
            }
            guard names.insert(layer.name).inserted else {
                throw NNError(
                    .model, "layer \(layer.name): found the name twice, expected every name once")
            }
            try append(layer)
        }
    }

    /// Flattens the top to logits and adds the loss's tensors and the scratch.
    mutating func finish() throws(NNError) {
        try flatten(name: freeName("\(placements.last?.layer.name ?? "input").flat"))
        if isTraining && current.gradient == nil {
            // No layer has parameters: the loss still wants a place for its gradient.
            current.gradient = addTensor("logits.gradient", tensorBytes(shape), .gradient)
        }
        if case .cuda = target {
            resultsTensor = addTensor("results", batchSize * CUDALoss.bytesPerSample, .results)
            // Log probabilities need a place where there is no gradient to hold them.
            if !isTraining { scratchBytes = max(scratchBytes, tensorBytes(shape)) }
        }
        if scratchBytes > 0 {
            scratchTensor = addTensor("scratch", scratchBytes, .scratch)
        }
    }

    private mutating func append(_ layer: LayerConfiguration) throws(NNError) {
        switch layer.kind {
        case .linear(let out):
            try Self.checkCount(out, layer.name, "outputs")
            try flatten(name: freeName("\(layer.name).input"))
            try Self.checkValues(shape.count, out, layer.name)
            try Self.checkSize(Shape(channels: out), batchSize, "layer \(layer.name)")
            try place(try factory.linear(site(layer.name), out: out))
        case .convolution(let out, let kernel, let stride, let padding):
            try Self.checkCount(out, layer.name, "output channels")
            let window = Window(kernel: kernel, stride: stride, padding: padding)
            let positions = try window.positions(over: shape, layer: layer.name)
            try Self.checkValues(shape.channels * kernel * kernel, out, layer.name)
            try Self.checkSize(
                Shape(channels: out, height: positions.height, width: positions.width), batchSize,
                "layer \(layer.name)")
            try arrange(target.imageLayout, name: freeName("\(layer.name).input"))
            try place(try factory.convolution(site(layer.name), out: out, window: window))
        case .maxPooling(let kernel, let stride, let padding):
            try pool(layer.name, .maximum, Window(kernel: kernel, stride: stride, padding: padding))
        case .averagePooling(let kernel, let stride, let padding):
            try pool(layer.name, .average, Window(kernel: kernel, stride: stride, padding: padding))
        case .relu: try place(try factory.activation(site(layer.name), .relu))
        case .tanh: try place(try factory.activation(site(layer.name), .tanh))
        case .sigmoid: try place(try factory.activation(site(layer.name), .sigmoid))
        case .dropout(let probability):
            let dropout = try factory.dropout(site(layer.name), probability: probability)
            if isTraining { try place(dropout) }
        case .localResponseNormalisation(let size, let alpha, let beta, let k):
            let rule = ResponseRule(size: size, alpha: alpha, beta: beta, k: k)
            try rule.check(layer: layer.name)
            try arrange(target.imageLayout, name: freeName("\(layer.name).input"))
            try place(try factory.response(site(layer.name), rule))
        case .batchNormalisation(let epsilon, let momentum, let isAffine):
            let rule = BatchRule(epsilon: epsilon, momentum: momentum, isAffine: isAffine)
            try rule.check(layer: layer.name)
            try arrange(target.imageLayout, name: freeName("\(layer.name).input"))
            try place(try factory.batchNormalisation(site(layer.name), rule))
        case .flatten: try flatten(name: layer.name)
        }
    }

    private mutating func pool(
        _ name: String, _ kind: PoolingKind, _ window: Window
    ) throws(NNError) {
        _ = try window.positions(over: shape, layer: name)
        try arrange(target.imageLayout, name: freeName("\(name).input"))
        try place(try factory.pooling(site(name), kind, window: window))
    }

    /// Makes the top a vector in C, H, W order; free unless its values lie in another order.
    private mutating func flatten(name: String) throws(NNError) {
        if layout == .channelsLast && !shape.isOrderFree {
            try place(try LayoutLayer(site(name), to: .channelsFirst, isFlat: true))
        }
        shape = shape.flattened
        layout = .channelsFirst
    }

    private mutating func arrange(_ wanted: Layout, name: String) throws(NNError) {
        if layout != wanted && !shape.isOrderFree {
            try place(try LayoutLayer(site(name), to: wanted, isFlat: false))
        }
        layout = wanted
    }

    /// A name for a layer that the network adds itself.
    private func freeName(_ wish: String) -> String {
        var name = wish
        while names.contains(name) { name += "'" }
        return name
    }

    private func site(_ name: String) -> LayerSite {
        LayerSite(
            name: name, input: shape, layout: layout, batchSize: batchSize, compute: compute,
            isTraining: isTraining, needsInputGradient: current.gradient != nil,
            parameterPosition: parameterCount)
    }

    private func tensorBytes(_ shape: Shape) -> Int {
        batchSize * shape.count * MemoryLayout<Float>.stride
    }

    private mutating func addTensor(_ name: String, _ bytes: Int, _ role: LocalTensor.Role) -> Int {
        tensors.append(LocalTensor(name: name, byteCount: bytes, role: role))
        return tensors.count - 1
    }

    private mutating func place(_ layer: any Layer) throws(NNError) {
        let traits = layer.traits
        let bytes = tensorBytes(layer.outputShape)
        let isOverwriting = traits.isForwardInPlace && current.mayOverwrite
        let output =
            isOverwriting
            ? current.activation : addTensor("\(layer.name).output", bytes, .activation)
        let needsBackward = isTraining && (layer.parameters != nil || current.gradient != nil)
        var outputGradient: Int?
        if needsBackward {
            outputGradient =
                traits.isBackwardInPlace && current.gradient != inputGradientTensor
                ? current.gradient
                : addTensor("\(layer.name).output.gradient", bytes, .gradient)
        }
        placements.append(
            LayerPlacement(
                layer: layer, noiseStream: placements.count { !($0.layer is LayoutLayer) },
                input: current.activation, output: output,
                outputGradient: outputGradient, inputGradient: current.gradient,
                workspace: traits.workspaceBytes > 0
                    ? addTensor("\(layer.name).workspace", traits.workspaceBytes, .workspace) : nil,
                state: layer.state.map {
                    addTensor("\(layer.name).state", $0.byteCount, .state)
                },
                parameterIndex: layer.parameters == nil ? nil : parameterCount,
                needsBackward: needsBackward))
        if layer.parameters != nil { parameterCount += 1 }
        scratchBytes = max(scratchBytes, traits.forwardScratchBytes, traits.backwardScratchBytes)
        current = Top(
            activation: output, gradient: outputGradient,
            mayOverwrite: !(needsBackward && traits.backwardReads.contains(.output)))
        shape = layer.outputShape
        layout = layer.outputLayout
    }
}

extension NetworkBuilder {
    /// Values of one tensor: byte counts and oneDNN's indexes stay far from overflow.
    private static let valuesMaximum = 1 << 40

    private static func checkCount(_ count: Int, _ layer: String, _ what: String) throws(NNError) {
        guard 1...(1 << 30) ~= count else {
            throw NNError(
                .model, "layer \(layer): found \(count) \(what), expected 1 to \(1 << 30)")
        }
    }

    private static func checkValues(_ inputs: Int, _ out: Int, _ layer: String) throws(NNError) {
        let (product, overflow) = inputs.multipliedReportingOverflow(by: out)
        guard !overflow && product <= valuesMaximum else {
            throw NNError(
                .model,
                "layer \(layer): found a weight of \(out) x \(inputs) values, expected at most "
                    + "\(valuesMaximum)")
        }
    }

    private static func checkSize(
        _ shape: Shape, _ batchSize: Int, _ what: String
    ) throws(NNError) {
        var values = batchSize
        for factor in [shape.channels, shape.height, shape.width] {
            let (product, overflow) = values.multipliedReportingOverflow(by: factor)
            guard !overflow && product <= valuesMaximum else {
                throw NNError(
                    .model,
                    "\(what): found a batch of \(batchSize) x \(shape) values, expected at most "
                        + "\(valuesMaximum)")
            }
            values = product
        }
    }
}
