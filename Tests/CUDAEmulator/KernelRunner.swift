/// Runs kernels by name on the host.
public struct CUDAKernelRunner: Sendable {
    /// Runs all threads of a launch; false: it knows no kernel of that name.
    ///
    /// Parameters: the kernel's name, the addresses of its parameters, blocks, threads a block.
    public var run:
        @Sendable (
            _ kernel: String, _ parameters: UnsafePointer<UnsafeMutableRawPointer?>,
            _ grid: UInt32, _ block: UInt32
        ) -> Bool

    /// A runner.
    public init(
        _ run:
            @escaping @Sendable (
                _ kernel: String, _ parameters: UnsafePointer<UnsafeMutableRawPointer?>,
                _ grid: UInt32, _ block: UInt32
            ) -> Bool
    ) {
        self.run = run
    }
}
