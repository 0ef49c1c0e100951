public import GeePSDevice

extension CUDAEmulator {
    /// The driver, as a program takes it.
    public var cudaDriver: CUDADriver { CUDADriver(functions: driver) }

    /// Kernels compiled by the emulated compiler; nothing is kept on disk.
    public var kernelSource: CUDAKernelSource {
        let compiler = CUDACompiler(functions: nvrtc, path: "emulated")
        return CUDAKernelSource(
            cache: KernelCache(directories: [], home: nil),
            compiler: { () throws(DeviceError) in compiler })
    }

    /// A device of the program's on an emulated GPU.
    public func makeDevice(
        ordinal: Int = 0, limitBytes: Int? = nil, pinnedLimitBytes: Int? = nil,
        onWarning: @escaping @Sendable (String) -> Void = { _ in }
    ) throws(DeviceError) -> CUDADevice {
        try CUDADevice(
            driver: cudaDriver, ordinal: ordinal, limitBytes: limitBytes,
            pinnedLimitBytes: pinnedLimitBytes, kernels: kernelSource, onWarning: onWarning)
    }
}
