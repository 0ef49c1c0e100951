import CGeePSShims
public import GeePSDevice

extension CUDACompute {
    /// Opens cuBLAS and cuDNN as this machine has them and binds them to `stream`.
    ///
    /// - Throws: `.unavailable` with what is missing, where it was looked for and how to get it.
    public static func load(
        stream: CUDAStream, precision: ComputePrecision = .float32,
        workspaceLimitBytes: Int = CUDACompute.workspaceLimitBytesDefault
    ) throws(NNError) -> CUDACompute {
        var cublas = geeps_cuda_cublas()
        var cudnn = geeps_cuda_cudnn()
        try open(.cublas) { geeps_cuda_cublas_load(&cublas, $0) }
        try open(.cudnn) { geeps_cuda_cudnn_load(&cudnn, $0) }
        return try CUDACompute(
            stream: stream, cublas: cublas, cudnn: cudnn, precision: precision,
            workspaceLimitBytes: workspaceLimitBytes)
    }

    private static func open(
        _ library: CUDALibrary, _ fill: (UnsafeMutableRawPointer) -> UnsafePointer<CChar>?
    ) throws(NNError) {
        let found: (handle: UnsafeMutableRawPointer, path: String)
        do {
            found = try library.open()
        } catch {
            throw NNError(.unavailable, error.message)
        }
        guard let missing = fill(found.handle) else { return }
        throw NNError(
            .unavailable,
            "found \(library.name) (\(found.path)) without \(String(cString: missing)), expected "
                + "\(library.expected); \(library.advice)")
    }
}
