public import CGeePSShims
import Glibc

extension CUDAEmulator {
    /// cuDNN's functions.
    public var cudnn: geeps_cuda_cudnn {
        var table = geeps_cuda_cudnn()
        Self.fillHandles(&table)
        Self.fillTensors(&table)
        Self.fillOperations(&table)
        Self.fillConvolutions(&table)
        Self.fillPointwise(&table)
        Self.fillPooling(&table)
        Self.fillNormalisation(&table)
        return table
    }

    private static func fillHandles(_ table: inout geeps_cuda_cudnn) {
        table.cudnnGetVersion = { 91_300 }
        // Asked while something else is reported: not counted.
        table.cudnnGetErrorString = { _ in LibraryText.cudnn }
        table.cudnnGetLastErrorString = { message, capacity in
            guard let message, capacity > 0, let emulator = CUDAEmulator.current else { return }
            let text = LibraryObjects.of(emulator).lastError.utf8.prefix(capacity - 1)
            for (index, byte) in text.enumerated() { message[index] = CChar(bitPattern: byte) }
            message[text.count] = 0
        }
        table.cudnnCreate = { result in
            LibraryCall.run("cudnnCreate", .cudnn) { call throws(Refusal) in
                try call.make(CUDNNHandle(context: try call.currentContext()), result)
            }
        }
        table.cudnnDestroy = { handle in
            LibraryCall.run("cudnnDestroy", .cudnn) { call throws(Refusal) in
                try call.destroy(handle, CUDNNHandle.self)
            }
        }
        table.cudnnSetStream = { handle, stream in
            LibraryCall.run("cudnnSetStream", .cudnn) { call throws(Refusal) in
                var own: CUDNNHandle = try call.own(handle)
                own.stream = UInt(bitPattern: stream)
                try call.set(handle, own)
            }
        }
    }

    private static func fillTensors(_ table: inout geeps_cuda_cudnn) {
        table.cudnnCreateTensorDescriptor = { result in
            LibraryCall.run("cudnnCreateTensorDescriptor", .cudnn) { call throws(Refusal) in
                try call.make(TensorDescriptor(), result)
            }
        }
        table.cudnnDestroyTensorDescriptor = { handle in
            LibraryCall.run("cudnnDestroyTensorDescriptor", .cudnn) { call throws(Refusal) in
                try call.destroy(handle, TensorDescriptor.self)
            }
        }
        table.cudnnSetTensor4dDescriptor = { handle, format, type, n, c, h, w in
            LibraryCall.run("cudnnSetTensor4dDescriptor", .cudnn) { call throws(Refusal) in
                try call.set(
                    handle, TensorDescriptor(sizes: try call.sizes([n, c, h, w], format, type)))
            }
        }
        table.cudnnCreateFilterDescriptor = { result in
            LibraryCall.run("cudnnCreateFilterDescriptor", .cudnn) { call throws(Refusal) in
                try call.make(FilterDescriptor(), result)
            }
        }
        table.cudnnDestroyFilterDescriptor = { handle in
            LibraryCall.run("cudnnDestroyFilterDescriptor", .cudnn) { call throws(Refusal) in
                try call.destroy(handle, FilterDescriptor.self)
            }
        }
        table.cudnnSetFilter4dDescriptor = { handle, type, format, k, c, h, w in
            LibraryCall.run("cudnnSetFilter4dDescriptor", .cudnn) { call throws(Refusal) in
                try call.set(
                    handle, FilterDescriptor(sizes: try call.sizes([k, c, h, w], format, type)))
            }
        }
    }

    private static func fillOperations(_ table: inout geeps_cuda_cudnn) {
        table.cudnnCreateConvolutionDescriptor = { result in
            LibraryCall.run("cudnnCreateConvolutionDescriptor", .cudnn) { call throws(Refusal) in
                try call.make(ConvolutionDescriptor(), result)
            }
        }
        table.cudnnDestroyConvolutionDescriptor = { handle in
            LibraryCall.run("cudnnDestroyConvolutionDescriptor", .cudnn) { call throws(Refusal) in
                try call.destroy(handle, ConvolutionDescriptor.self)
            }
        }
        table.cudnnSetConvolution2dDescriptor = {
            handle, paddingH, paddingW, strideH, strideW, dilationH, dilationW, mode, type in
            LibraryCall.run("cudnnSetConvolution2dDescriptor", .cudnn) { call throws(Refusal) in
                try call.requireSupport(
                    mode == Int32(GEEPS_CUDNN_CROSS_CORRELATION)
                        && type == Int32(GEEPS_CUDNN_FLOAT32),
                    "mode \(mode) with sums of type \(type)")
                try call.require(
                    min(strideH, strideW, dilationH, dilationW) > 0 && min(paddingH, paddingW) >= 0,
                    "padding \(paddingH), \(paddingW), stride \(strideH), \(strideW), "
                        + "dilation \(dilationH), \(dilationW)")
                let steps = WindowSteps(
                    padding: [Int(paddingH), Int(paddingW)], stride: [Int(strideH), Int(strideW)],
                    dilation: [Int(dilationH), Int(dilationW)])
                try call.set(handle, ConvolutionDescriptor(steps: steps))
            }
        }
        table.cudnnSetConvolutionMathType = { handle, math in
            LibraryCall.run("cudnnSetConvolutionMathType", .cudnn) { call throws(Refusal) in
                var convolution: ConvolutionDescriptor = try call.get(handle)
                convolution.math = math
                try call.set(handle, convolution)
            }
        }
        table.cudnnCreatePoolingDescriptor = { result in
            LibraryCall.run("cudnnCreatePoolingDescriptor", .cudnn) { call throws(Refusal) in
                try call.make(PoolingDescriptor(), result)
            }
        }
        table.cudnnDestroyPoolingDescriptor = { handle in
            LibraryCall.run("cudnnDestroyPoolingDescriptor", .cudnn) { call throws(Refusal) in
                try call.destroy(handle, PoolingDescriptor.self)
            }
        }
        table.cudnnCreateActivationDescriptor = { result in
            LibraryCall.run("cudnnCreateActivationDescriptor", .cudnn) { call throws(Refusal) in
                try call.make(ActivationDescriptor(), result)
            }
        }
        table.cudnnDestroyActivationDescriptor = { handle in
            LibraryCall.run("cudnnDestroyActivationDescriptor", .cudnn) { call throws(Refusal) in
                try call.destroy(handle, ActivationDescriptor.self)
            }
        }
        table.cudnnSetActivationDescriptor = { handle, mode, _, _ in
            LibraryCall.run("cudnnSetActivationDescriptor", .cudnn) { call throws(Refusal) in
                try call.requireSupport(0...2 ~= mode, "mode \(mode)")
                try call.set(handle, ActivationDescriptor(mode: mode))
            }
        }
        table.cudnnCreateLRNDescriptor = { result in
            LibraryCall.run("cudnnCreateLRNDescriptor", .cudnn) { call throws(Refusal) in
                try call.make(LRNDescriptor(), result)
            }
        }
        table.cudnnDestroyLRNDescriptor = { handle in
            LibraryCall.run("cudnnDestroyLRNDescriptor", .cudnn) { call throws(Refusal) in
                try call.destroy(handle, LRNDescriptor.self)
            }
        }
    }
}

extension LibraryCall {
    fileprivate func sizes(
        _ sizes: [Int32], _ format: Int32, _ type: Int32
    ) throws(Refusal) -> [Int] {
        try requireSupport(
            format == Int32(GEEPS_CUDNN_NCHW) && type == Int32(GEEPS_CUDNN_FLOAT32),
            "format \(format) of type \(type)")
        try require(sizes.allSatisfy { $0 > 0 }, "sizes \(sizes)")
        return sizes.map(Int.init)
    }

    /// The values of a tensor's argument.
    func tensor(
        _ handle: OpaquePointer?, _ pointer: UnsafeRawPointer?, _ name: String,
        like sizes: [Int]? = nil
    ) throws(Refusal) -> Tensor {
        let descriptor: TensorDescriptor = try get(handle)
        if let sizes {
            try require(
                descriptor.sizes == sizes, "\(name) is \(descriptor.sizes), expected \(sizes)")
        }
        return Tensor(
            descriptor: descriptor, values: try values(pointer, descriptor.count, name))
    }
}

/// A tensor's argument.
struct Tensor: Sendable {
    let descriptor: TensorDescriptor
    let values: Values

    var sizes: [Int] { descriptor.sizes }
    var start: UnsafeMutablePointer<Float> { values.start }

    /// `body` with each value's place and channel.
    func forEach(_ body: (_ index: Int, _ channel: Int) -> Void) {
        var index = 0
        for _ in 0..<descriptor.n {
            for channel in 0..<descriptor.c {
                for _ in 0..<descriptor.plane {
                    body(index, channel)
                    index += 1
                }
            }
        }
    }
}
