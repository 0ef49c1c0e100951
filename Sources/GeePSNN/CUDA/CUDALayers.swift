import CGeePSShims
import GeePSDevice

/// Layers on cuDNN, cuBLAS and kernels of our own; values are channels first everywhere.
struct CUDALayers: LayerFactory {
    let compute: CUDACompute

    func linear(_ site: LayerSite, out: Int) throws(NNError) -> any Layer {
        try CUDALinearLayer(site, compute, out: out)
    }

    func convolution(_ site: LayerSite, out: Int, window: Window) throws(NNError) -> any Layer {
        try CUDAConvolutionLayer(site, compute, out: out, window: window)
    }

    func pooling(
        _ site: LayerSite, _ kind: PoolingKind, window: Window
    ) throws(NNError) -> any Layer {
        try CUDAPoolingLayer(site, compute, kind, window: window)
    }

    func activation(
        _ site: LayerSite, _ function: ActivationFunction
    ) throws(NNError) -> any Layer {
        try CUDAActivationLayer(site, compute, function)
    }

    func dropout(_ site: LayerSite, probability: Double) throws(NNError) -> any Layer {
        try CUDADropoutLayer(site, compute, probability: probability)
    }

    func response(_ site: LayerSite, _ rule: ResponseRule) throws(NNError) -> any Layer {
        try CUDAResponseLayer(site, compute, rule)
    }

    func batchNormalisation(_ site: LayerSite, _ rule: BatchRule) throws(NNError) -> any Layer {
        try CUDABatchNormalisationLayer(site, compute, rule)
    }
}

/// A bias for each channel of `[outer, channels, inner]`: our own kernels, since a bias lies behind its weights,
/// aligned to 4 bytes only, and its gradient is summed in a fixed order.
struct CUDABias {
    let compute: CUDACompute
    let layer: String
    let outer: Int
    let channels: Int
    let inner: Int

    func add(_ bias: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>) {
        compute.stream.launch(
            "geeps_add_bias", count: outer * channels * inner, label: layer, target, bias,
            Int64(outer), Int64(channels), Int64(inner))
    }

    /// Scratch that `gradient` needs: a sum for each plane of an image.
    var gradientScratchBytes: Int {
        inner > 1 ? outer * channels * MemoryLayout<Float>.stride : 0
    }

    /// Sums a batch's gradients by channel.
    ///
    /// The kernel has a thread a sum. Images are summed by plane first and the planes by channel then: 96
    /// threads that add 387,200 values each would keep a GPU idle.
    func gradient(
        of outputGradient: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>,
        scratch: UnsafeMutableRawPointer? = nil
    ) {
        guard inner > 1 else {
            return sum(outputGradient, into: target, outer: outer, channels: channels, inner: 1)
        }
        guard let scratch else {
            preconditionFailure(
                "layer \(layer) needs \(gradientScratchBytes) bytes of scratch to sum up its bias")
        }
        let planes = scratch.assumingMemoryBound(to: Float.self)
        sum(outputGradient, into: planes, outer: 1, channels: outer * channels, inner: inner)
        sum(planes, into: target, outer: outer, channels: channels, inner: 1)
    }

    private func sum(
        _ source: UnsafePointer<Float>, into target: UnsafeMutablePointer<Float>, outer: Int,
        channels: Int, inner: Int
    ) {
        compute.stream.launch(
            "geeps_bias_gradient", count: channels, label: layer, target, source, Int64(outer),
            Int64(channels), Int64(inner))
    }
}

/// Fully connected: `output = input weight^T + bias`.
final class CUDALinearLayer: Layer {
    let name: String
    let parameters: LayerParameters?
    let outputShape: Shape
    let outputLayout = Layout.channelsFirst
    let traits: LayerTraits
    private let compute: CUDACompute
    private let bias: CUDABias
    private let batchSize: Int
    private let inputs: Int
    private let out: Int

    var reports: [KernelReport] {
        ["compute forward", "compute the gradient of its parameters"].map {
            KernelReport(
                layer: name, operation: $0, implementation: "cublas:gemm", isReference: false)
        }
    }

    init(_ site: LayerSite, _ compute: CUDACompute, out: Int) throws(NNError) {
        name = site.name
        outputShape = Shape(channels: out)
        inputs = site.input.count
        parameters = LayerParameters(
            name: name, position: site.parameterPosition, weight: [out, inputs], outputCount: out)
        traits = LayerTraits(
            backwardReads: site.needsInputGradient ? [.input, .parameters] : .input)
        self.compute = compute
        self.out = out
        batchSize = site.batchSize
        _ = try CUDNNSizes(
            [batchSize, inputs, out], .cublas("multiply", layer: site.name))
        bias = CUDABias(
            compute: compute, layer: name, outer: batchSize, channels: out, inner: 1)
    }

    // Matrices lie row by row here and cuBLAS counts by columns: each is its own transpose to it.

    func forward(_ context: ForwardContext) throws(NNError) {
        guard let values = context.parameters else {
            preconditionFailure("layer \(name) needs its parameters to compute forward")
        }
        compute.multiply(
            .cublas("compute forward", layer: name), m: out, n: batchSize, k: inputs, a: values,
            strideA: inputs, transposesA: true, b: context.input, strideB: inputs,
            transposesB: false, c: context.output)
        bias.add(values + out * inputs, to: context.output)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        if let gradients = context.parameterGradients, let input = context.input {
            compute.multiply(
                .cublas("compute the gradient of its weights", layer: name), m: inputs, n: out,
                k: batchSize, a: input, strideA: inputs, transposesA: false,
                b: context.outputGradient, strideB: out, transposesB: true, c: gradients)
            bias.gradient(of: context.outputGradient, into: gradients + out * inputs)
        }
        if let inputGradient = context.inputGradient, let values = context.parameters {
            compute.multiply(
                .cublas("compute the gradient of its input", layer: name), m: inputs, n: batchSize,
                k: out, a: values, strideA: inputs, transposesA: false, b: context.outputGradient,
                strideB: out, transposesB: false, c: inputGradient)
        }
    }
}

/// Maximum or mean of a sliding window.
///
/// The maximum's backward pass looks for it in the input again; nothing is kept for it.
final class CUDAPoolingLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout = Layout.channelsFirst
    let traits: LayerTraits
    private let compute: CUDACompute
    private let pooling: CUDNNPooling
    private let source: CUDNNTensor
    private let target: CUDNNTensor

    var reports: [KernelReport] {
        [
            KernelReport(
                layer: name, operation: "compute forward", implementation: "cudnn:pooling",
                isReference: false)
        ]
    }

    init(
        _ site: LayerSite, _ compute: CUDACompute, _ kind: PoolingKind, window: Window
    ) throws(NNError) {
        name = site.name
        let positions = try window.positions(over: site.input, layer: site.name)
        try window.checkPoolingPadding(layer: site.name)
        outputShape = Shape(
            channels: site.input.channels, height: positions.height, width: positions.width)
        let call = CUDALibraryCall.cudnn("describe a pooling", layer: site.name)
        self.compute = compute
        // The mean's gradient needs neither, but nothing promises that cuDNN reads neither.
        traits = LayerTraits(backwardReads: [.input, .output])
        pooling = try CUDNNPooling(kind, window, compute, call)
        source = try CUDNNTensor(site.batchSize, site.input, compute, call)
        target = try CUDNNTensor(site.batchSize, outputShape, compute, call)
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        compute.put(.cudnn("compute forward", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnPoolingForward(
                handle, pooling.handle, &one, source.handle, context.input, &zero, target.handle,
                context.output)
        }
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let inputGradient = context.inputGradient, let input = context.input,
            let output = context.output
        else { return }
        compute.put(.cudnn("compute the gradient of its input", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnPoolingBackward(
                handle, pooling.handle, &one, target.handle, output, target.handle,
                context.outputGradient, source.handle, input, &zero, source.handle, inputGradient)
        }
    }
}

/// relu, tanh or sigmoid, in place where the network allows it.
final class CUDAActivationLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout: Layout
    let traits = LayerTraits(
        backwardReads: .output, isForwardInPlace: true, isBackwardInPlace: true)
    private let compute: CUDACompute
    private let activation: CUDNNActivation
    private let values: CUDNNTensor

    var reports: [KernelReport] {
        [
            KernelReport(
                layer: name, operation: "compute forward", implementation: "cudnn:activation",
                isReference: false)
        ]
    }

    init(
        _ site: LayerSite, _ compute: CUDACompute, _ function: ActivationFunction
    ) throws(NNError) {
        name = site.name
        outputShape = site.input
        outputLayout = site.layout
        self.compute = compute
        let call = CUDALibraryCall.cudnn("describe an activation", layer: site.name)
        activation = try CUDNNActivation(function, compute, call)
        values = try CUDNNTensor(site.batchSize, site.input, compute, call)
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        compute.put(.cudnn("compute forward", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnActivationForward(
                handle, activation.handle, &one, values.handle, context.input, &zero, values.handle,
                context.output)
        }
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let inputGradient = context.inputGradient, let output = context.output else { return }
        compute.put(.cudnn("compute the gradient of its input", layer: name)) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            // The output for the input: of the three functions each is positive where the other is, and their
            // derivatives are functions of the output.
            return functions.cudnnActivationBackward(
                handle, activation.handle, &one, values.handle, output, values.handle,
                context.outputGradient, values.handle, output, &zero, values.handle, inputGradient)
        }
    }
}

/// Zeroes values by the same draws as the host's layer, in the order in which values lie.
///
/// Not cuDNN's: it keeps states, and a layer that runs again must drop the same values.
final class CUDADropoutLayer: Layer {
    let name: String
    let parameters: LayerParameters? = nil
    let outputShape: Shape
    let outputLayout: Layout
    let traits = LayerTraits(isForwardInPlace: true, isBackwardInPlace: true)
    let reports: [KernelReport] = []
    private let compute: CUDACompute
    private let draw: DropoutDraw
    private let count: Int

    init(_ site: LayerSite, _ compute: CUDACompute, probability: Double) throws(NNError) {
        name = site.name
        outputShape = site.input
        outputLayout = site.layout
        self.compute = compute
        draw = try DropoutDraw(probability: probability, layer: site.name)
        count = site.inputCount
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        drop(context.input, context.output, context.noise)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let inputGradient = context.inputGradient else { return }
        drop(context.outputGradient, inputGradient, context.noise)
    }

    private func drop(
        _ source: UnsafePointer<Float>, _ target: UnsafeMutablePointer<Float>, _ key: UInt64
    ) {
        compute.stream.launch(
            "geeps_dropout", count: count, label: name, target, source, key, draw.threshold,
            draw.scale, Int64(count))
    }
}
