public import CGeePSShims
public import GeePSDevice

/// cuDNN and cuBLAS bound to a stream of a GPU; layers of any number of networks share it.
///
/// One thread at a time uses it, as one thread at a time runs a network.
public final class CUDACompute: @unchecked Sendable {
    // Sendable: constant after init; the handles are used by one thread at a time, see above.

    /// Where everything runs.
    public let stream: CUDAStream
    /// How factors are rounded.
    public let precision: ComputePrecision
    /// Most memory that an algorithm of a convolution may take beside its tensors.
    public let workspaceLimitBytes: Int
    let cudnn: geeps_cuda_cudnn
    let cublas: geeps_cuda_cublas
    private let cudnnHandle: geeps_cudnn
    private let cublasHandle: geeps_cublas

    /// Workspace of a convolution that is worth its memory: cuDNN's fastest algorithms mostly take less.
    public static let workspaceLimitBytesDefault = 256 << 20

    /// Makes handles of the libraries and binds them to `stream`.
    ///
    /// - Throws: `.kernel` with what a library answered.
    public init(
        stream: CUDAStream, cublas: geeps_cuda_cublas, cudnn: geeps_cuda_cudnn,
        precision: ComputePrecision = .float32,
        workspaceLimitBytes: Int = CUDACompute.workspaceLimitBytesDefault
    ) throws(NNError) {
        self.stream = stream
        self.cublas = cublas
        self.cudnn = cudnn
        self.precision = precision
        self.workspaceLimitBytes = workspaceLimitBytes
        try Self.makeCurrent(stream)
        var dnn: geeps_cudnn?
        var status = cudnn.cudnnCreate(&dnn)
        guard status == 0, let dnn else {
            throw CUDALibraryCall.cudnn("make a handle").error(status, cudnn)
        }
        var blas: geeps_cublas?
        status = cublas.cublasCreate_v2(&blas)
        guard status == 0, let blas else {
            _ = cudnn.cudnnDestroy(dnn)
            throw CUDALibraryCall.cublas("make a handle").error(status, cublas)
        }
        cudnnHandle = dnn
        cublasHandle = blas
        // All members are set: `deinit` frees the handles where these throw.
        status = cudnn.cudnnSetStream(dnn, stream.handle)
        guard status == 0 else { throw CUDALibraryCall.cudnn("take a stream").error(status, cudnn) }
        status = cublas.cublasSetStream_v2(blas, stream.handle)
        guard status == 0 else {
            throw CUDALibraryCall.cublas("take a stream").error(status, cublas)
        }
    }

    deinit {
        // Nobody is left to be told.
        try? stream.device.makeCurrent()
        _ = cublas.cublasDestroy_v2(cublasHandle)
        _ = cudnn.cudnnDestroy(cudnnHandle)
    }

    /// How cuBLAS multiplies at this precision.
    var gemmType: Int32 {
        switch precision {
        case .float32: Int32(GEEPS_CUBLAS_COMPUTE_FLOAT32)
        case .tf32: Int32(GEEPS_CUBLAS_COMPUTE_FAST_TF32)
        case .bf16: Int32(GEEPS_CUBLAS_COMPUTE_FAST_BFLOAT16)
        }
    }

    /// How cuDNN convolves at this precision.
    var convolutionMath: Int32 {
        precision == .float32
            ? Int32(GEEPS_CUDNN_FMA_MATH) : Int32(GEEPS_CUDNN_DEFAULT_MATH)
    }

    /// What an algorithm computes with for which the heuristics say `offered`: where float32 is asked for, never
    /// tensor cores, which round factors to TF32.
    func convolutionMath(_ offered: Int32) -> Int32 {
        precision == .float32 ? convolutionMath : offered
    }

    // MARK: Setting up

    /// Asks cuDNN something outside the stream's work.
    ///
    /// - Throws: `.kernel`, unless `body` returns zero.
    func ask(
        _ call: CUDALibraryCall, _ body: (geeps_cuda_cudnn, geeps_cudnn) -> Int32
    ) throws(NNError) {
        let status = try answer(body)
        if status != 0 { throw call.error(status, cudnn) }
    }

    /// The same, where the caller knows what to make of the status.
    func answer(
        _ body: (geeps_cuda_cudnn, geeps_cudnn) -> Int32
    ) throws(NNError) -> Int32 {
        try Self.makeCurrent(stream)
        return body(cudnn, cudnnHandle)
    }

    private static func makeCurrent(_ stream: CUDAStream) throws(NNError) {
        do {
            try stream.device.makeCurrent()
        } catch {
            throw NNError(.kernel, error.message)
        }
    }

    // MARK: Work on the stream

    /// Puts work of cuDNN on the stream; what it answers sticks to the stream.
    func put(_ call: CUDALibraryCall, _ body: (geeps_cuda_cudnn, geeps_cudnn) -> Int32) {
        stream.perform(label: call.layer) { (_) throws(DeviceError) in
            let status = body(cudnn, cudnnHandle)
            if status != 0 { throw DeviceError(.failed, call.error(status, cudnn).message) }
        }
    }

    /// Multiplies matrices of float32, column by column: `c = op(a) op(b)`, `c` being `[m, n]`.
    ///
    /// - Parameters:
    ///   - transposesA: `a` is `[k, m]`, else `[m, k]`; a column of it is `strideA` values after the one before.
    ///   - transposesB: `b` is `[n, k]`, else `[k, n]`.
    ///   - strideC: from one column of `c` to the next; nil: m.
    ///   - adds: to what `c` holds.
    func multiply(
        _ call: CUDALibraryCall, m: Int, n: Int, k: Int, a: UnsafePointer<Float>, strideA: Int,
        transposesA: Bool, b: UnsafePointer<Float>, strideB: Int, transposesB: Bool,
        c: UnsafeMutablePointer<Float>, strideC: Int? = nil, adds: Bool = false
    ) {
        let float32 = Int32(GEEPS_CUBLAS_FLOAT32)
        let operation = { (transposes: Bool) in
            Int32(transposes ? GEEPS_CUBLAS_TRANSPOSED : GEEPS_CUBLAS_PLAIN)
        }
        stream.perform(label: call.layer) { (_) throws(DeviceError) in
            var (one, kept) = (Float(1), Float(adds ? 1 : 0))
            let status = cublas.cublasGemmEx(
                cublasHandle, operation(transposesA), operation(transposesB), Int32(m), Int32(n),
                Int32(k), &one, a, float32, Int32(strideA), b, float32, Int32(strideB), &kept, c,
                float32, Int32(strideC ?? m), gemmType, Int32(GEEPS_CUBLAS_DEFAULT_ALGORITHM))
            if status != 0 { throw DeviceError(.failed, call.error(status, cublas).message) }
        }
    }
}

/// Which layer calls which library and for what: the words of an error.
struct CUDALibraryCall: Sendable {
    let library: String
    let layer: String
    let operation: String

    static func cudnn(_ operation: String, layer: String = "") -> CUDALibraryCall {
        CUDALibraryCall(library: "cuDNN", layer: layer, operation: operation)
    }

    static func cublas(_ operation: String, layer: String = "") -> CUDALibraryCall {
        CUDALibraryCall(library: "cuBLAS", layer: layer, operation: operation)
    }

    func error(_ status: Int32, _ functions: geeps_cuda_cudnn) -> NNError {
        var last = [CChar](repeating: 0, count: 512)
        functions.cudnnGetLastErrorString(&last, last.count)
        let more = String(
            decoding: last.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
        return error(status, functions.cudnnGetErrorString(status), more)
    }

    func error(_ status: Int32, _ functions: geeps_cuda_cublas) -> NNError {
        error(status, functions.cublasGetStatusString(status), "")
    }

    private func error(_ status: Int32, _ name: UnsafePointer<CChar>?, _ more: String) -> NNError {
        let name = name.map { String(cString: $0) } ?? "no name"
        let who = layer.isEmpty ? "" : "layer \(layer): "
        return NNError(
            .kernel,
            "\(who)\(library) could not \(operation): \(name) (status \(status))"
                + (more.isEmpty ? "" : ", \(more)"))
    }
}
