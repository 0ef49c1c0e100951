import CGeePSShims

// Descriptors with one owner, destroyed with it. Setting one up asks the GPU for nothing.

/// A batch `[n, c, h, w]` of float32, channels first.
final class CUDNNTensor {
    let handle: geeps_cudnn_tensor
    private let compute: CUDACompute

    init(_ count: Int, _ shape: Shape, _ compute: CUDACompute, _ call: CUDALibraryCall)
        throws(NNError)
    {
        var handle: geeps_cudnn_tensor?
        try compute.ask(call) { functions, _ in functions.cudnnCreateTensorDescriptor(&handle) }
        guard let handle else { throw NNError(.kernel, "cuDNN made no descriptor of a tensor") }
        self.handle = handle
        self.compute = compute
        let sizes = try CUDNNSizes([count, shape.channels, shape.height, shape.width], call)
        try compute.ask(call) { functions, _ in
            functions.cudnnSetTensor4dDescriptor(
                handle, Int32(GEEPS_CUDNN_NCHW), Int32(GEEPS_CUDNN_FLOAT32),
                sizes[0], sizes[1], sizes[2], sizes[3])
        }
    }

    deinit { _ = compute.cudnn.cudnnDestroyTensorDescriptor(handle) }
}

/// Weights `[out, in, height, width]` of float32.
final class CUDNNFilter {
    let handle: geeps_cudnn_filter
    private let compute: CUDACompute

    init(
        out: Int, channels: Int, side: Int, _ compute: CUDACompute, _ call: CUDALibraryCall
    ) throws(NNError) {
        var handle: geeps_cudnn_filter?
        try compute.ask(call) { functions, _ in functions.cudnnCreateFilterDescriptor(&handle) }
        guard let handle else { throw NNError(.kernel, "cuDNN made no descriptor of weights") }
        self.handle = handle
        self.compute = compute
        let sizes = try CUDNNSizes([out, channels, side, side], call)
        try compute.ask(call) { functions, _ in
            functions.cudnnSetFilter4dDescriptor(
                handle, Int32(GEEPS_CUDNN_FLOAT32), Int32(GEEPS_CUDNN_NCHW),
                sizes[0], sizes[1], sizes[2], sizes[3])
        }
    }

    deinit { _ = compute.cudnn.cudnnDestroyFilterDescriptor(handle) }
}

/// How a window of weights moves.
final class CUDNNConvolution {
    let handle: geeps_cudnn_convolution
    private let compute: CUDACompute

    init(_ window: Window, _ compute: CUDACompute, _ call: CUDALibraryCall) throws(NNError) {
        var handle: geeps_cudnn_convolution?
        try compute.ask(call) { functions, _ in
            functions.cudnnCreateConvolutionDescriptor(&handle)
        }
        guard let handle else {
            throw NNError(.kernel, "cuDNN made no descriptor of a convolution")
        }
        self.handle = handle
        self.compute = compute
        let (padding, stride) = (Int32(window.padding), Int32(window.stride))
        try compute.ask(call) { functions, _ in
            functions.cudnnSetConvolution2dDescriptor(
                handle, padding, padding, stride, stride, 1, 1,
                Int32(GEEPS_CUDNN_CROSS_CORRELATION),
                Int32(GEEPS_CUDNN_FLOAT32))
        }
        try setMath(compute.convolutionMath, call)
    }

    deinit { _ = compute.cudnn.cudnnDestroyConvolutionDescriptor(handle) }

    func setMath(_ math: Int32, _ call: CUDALibraryCall) throws(NNError) {
        try compute.ask(call) { [handle] functions, _ in
            functions.cudnnSetConvolutionMathType(handle, math)
        }
    }
}

/// Maximum or mean of a window.
final class CUDNNPooling {
    let handle: geeps_cudnn_pooling
    private let compute: CUDACompute

    init(
        _ kind: PoolingKind, _ window: Window, _ compute: CUDACompute, _ call: CUDALibraryCall
    ) throws(NNError) {
        var handle: geeps_cudnn_pooling?
        try compute.ask(call) { functions, _ in functions.cudnnCreatePoolingDescriptor(&handle) }
        guard let handle else { throw NNError(.kernel, "cuDNN made no descriptor of a pooling") }
        self.handle = handle
        self.compute = compute
        let mode =
            switch kind {
            case .maximum: GEEPS_CUDNN_POOLING_MAXIMUM_DETERMINISTIC
            case .average: GEEPS_CUDNN_POOLING_AVERAGE_WITH_PADDING
            }
        let (side, padding) = (Int32(window.kernel), Int32(window.padding))
        let stride = Int32(window.stride)
        try compute.ask(call) { functions, _ in
            functions.cudnnSetPooling2dDescriptor(
                handle, Int32(mode), Int32(GEEPS_CUDNN_PROPAGATE_NAN), side, side,
                padding, padding, stride, stride)
        }
    }

    deinit { _ = compute.cudnn.cudnnDestroyPoolingDescriptor(handle) }
}

/// A function of each value.
final class CUDNNActivation {
    let handle: geeps_cudnn_activation
    private let compute: CUDACompute

    init(
        _ function: ActivationFunction, _ compute: CUDACompute, _ call: CUDALibraryCall
    ) throws(NNError) {
        var handle: geeps_cudnn_activation?
        try compute.ask(call) { functions, _ in functions.cudnnCreateActivationDescriptor(&handle) }
        guard let handle else {
            throw NNError(.kernel, "cuDNN made no descriptor of an activation")
        }
        self.handle = handle
        self.compute = compute
        let mode =
            switch function {
            case .relu: GEEPS_CUDNN_RELU
            case .tanh: GEEPS_CUDNN_TANH
            case .sigmoid: GEEPS_CUDNN_SIGMOID
            }
        try compute.ask(call) { functions, _ in
            functions.cudnnSetActivationDescriptor(
                handle, Int32(mode), Int32(GEEPS_CUDNN_PROPAGATE_NAN), 0)
        }
    }

    deinit { _ = compute.cudnn.cudnnDestroyActivationDescriptor(handle) }
}

/// A window of channels whose squares values are divided by.
final class CUDNNResponse {
    let handle: geeps_cudnn_lrn
    private let compute: CUDACompute

    init(
        _ rule: ResponseRule, _ compute: CUDACompute, _ call: CUDALibraryCall
    ) throws(NNError) {
        var handle: geeps_cudnn_lrn?
        try compute.ask(call) { functions, _ in functions.cudnnCreateLRNDescriptor(&handle) }
        guard let handle else {
            throw NNError(.kernel, "cuDNN made no descriptor of a response normalisation")
        }
        self.handle = handle
        self.compute = compute
        // cuDNN divides alpha by the size, as PyTorch does.
        try compute.ask(call) { functions, _ in
            functions.cudnnSetLRNDescriptor(
                handle, UInt32(rule.size), rule.alpha, rule.beta, rule.k)
        }
    }

    deinit { _ = compute.cudnn.cudnnDestroyLRNDescriptor(handle) }
}

/// Sizes as cuDNN takes them: 32 bits.
struct CUDNNSizes {
    private let values: [Int32]

    init(_ sizes: [Int], _ call: CUDALibraryCall) throws(NNError) {
        var values: [Int32] = []
        for size in sizes {
            guard let value = Int32(exactly: size) else {
                throw NNError(
                    .model,
                    "layer \(call.layer): found a size of \(size), expected at most \(Int32.max): "
                        + "\(call.library) counts in 32 bits")
            }
            values.append(value)
        }
        self.values = values
    }

    subscript(_ index: Int) -> Int32 { values[index] }
}
