internal import CGeePSKernels
import CGeePSShims

/// Where a device's kernels come from.
public struct CUDAKernelSource: Sendable {
    /// Compiled ones.
    public var cache: KernelCache
    /// Loads a compiler, where the cache has none for the device.
    public var compiler: @Sendable () throws(DeviceError) -> CUDACompiler

    /// Kernels from `cache`, else from `compiler`.
    public init(
        cache: KernelCache, compiler: @escaping @Sendable () throws(DeviceError) -> CUDACompiler
    ) {
        self.cache = cache
        self.compiler = compiler
    }

    /// What this machine has.
    public static var standard: CUDAKernelSource {
        CUDAKernelSource(
            cache: .standard, compiler: { () throws(DeviceError) in try CUDACompiler.load() })
    }

    /// Machine code for `architecture`, compiled where the cache has none.
    func image(architecture: String) throws(DeviceError) -> (image: [UInt8], isCached: Bool) {
        let name = KernelCache.fileName(source: CUDACompiler.source, architecture: architecture)
        if let image = cache.read(name) { return (image, true) }
        let image = try compile(architecture: architecture)
        return (image, false)
    }

    /// Compiles for `architecture` and keeps the result.
    func compile(architecture: String) throws(DeviceError) -> [UInt8] {
        let image = try compiler().compile(architecture: architecture)
        cache.write(
            image,
            as: KernelCache.fileName(source: CUDACompiler.source, architecture: architecture))
        return image
    }
}

/// Our kernels on a GPU.
final class CUDAKernels: @unchecked Sendable {
    // Sendable: constant after init.
    private let context: CUDAContext
    private let module: geeps_cu_module
    private let functions: [String: geeps_cu_function]
    private let blocksMaximum: Int

    /// Threads of a block; every kernel is a loop over its items with the stride of the grid.
    private static let blockSize = 256
    /// Blocks for each multiprocessor: enough to fill it eight times over with 2048 threads.
    private static let blocksPerMultiprocessor = 32

    /// Loads the kernels; compiles them where the cache has none, or none that the driver takes.
    init(
        _ source: CUDAKernelSource, context: CUDAContext, properties: CUDAProperties
    ) throws(DeviceError) {
        let capability = properties.capability
        let architecture = "sm_\(capability.major)\(capability.minor)"
        var found = try source.image(architecture: architecture)
        try context.makeCurrent()
        var module: geeps_cu_module?
        var status = context.driver.functions.cuModuleLoadData(&module, found.image)
        if status != 0, found.isCached {
            found.image = try source.compile(architecture: architecture)
            status = context.driver.functions.cuModuleLoadData(&module, found.image)
        }
        try context.check(status, "cuModuleLoadData", "load kernels for \(architecture)")
        guard let module else {
            throw DeviceError(.failed, "\(context.name): cuModuleLoadData gave no module")
        }
        do throws(DeviceError) {
            functions = try Self.functions(of: module, context)
        } catch {
            _ = context.driver.functions.cuModuleUnload(module)
            throw error
        }
        self.context = context
        self.module = module
        blocksMaximum = max(1, properties.multiprocessors) * Self.blocksPerMultiprocessor
    }

    deinit {
        // Nobody is left to be told.
        guard (try? context.makeCurrent()) != nil else { return }
        _ = context.driver.functions.cuModuleUnload(module)
    }

    private static func functions(
        of module: geeps_cu_module, _ context: CUDAContext
    ) throws(DeviceError) -> [String: geeps_cu_function] {
        var functions: [String: geeps_cu_function] = [:]
        var index: Int32 = 0
        while let pointer = geeps_cuda_kernel_name(index) {
            var function: geeps_cu_function?
            try context.check(
                context.driver.functions.cuModuleGetFunction(&function, module, pointer),
                "cuModuleGetFunction", "find kernel \(String(cString: pointer))")
            functions[String(cString: pointer)] = function
            index += 1
        }
        return functions
    }

    /// Launches kernel `name` over `count` items; `parameters` are addresses of its arguments.
    func launch(
        _ name: String, count: Int, on stream: geeps_cu_stream?,
        _ parameters: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    ) throws(DeviceError) {
        guard count > 0 else { return }
        guard let function = functions[name] else {
            preconditionFailure("there is no kernel \(name)")
        }
        let blocks = min((count - 1) / Self.blockSize + 1, blocksMaximum)
        try context.check(
            context.driver.functions.cuLaunchKernel(
                function, UInt32(blocks), 1, 1, UInt32(Self.blockSize), 1, 1, 0, stream, parameters,
                nil), "cuLaunchKernel", "launch \(name) over \(count) items")
    }
}

/// Calls `body` with the addresses of copies of `arguments`, on the stack.
func withKernelParameters<each Argument: BitwiseCopyable, R>(
    _ arguments: repeat each Argument,
    body: (UnsafeMutablePointer<UnsafeMutableRawPointer?>) throws(DeviceError) -> R
) throws(DeviceError) -> R {
    // A rule of an optimiser is the largest argument, and no kernel has more than twelve.
    let (slotBytes, slots) = (64, 16)
    return try withUnsafeTemporaryAllocation(byteCount: slotBytes * slots, alignment: 16) {
        storage throws(DeviceError) in
        try withUnsafeTemporaryAllocation(of: UnsafeMutableRawPointer?.self, capacity: slots) {
            pointers throws(DeviceError) in
            guard let base = storage.baseAddress, let first = pointers.baseAddress else {
                preconditionFailure("a temporary allocation has an address")
            }
            var count = 0
            func add<T: BitwiseCopyable>(_ argument: T) {
                precondition(
                    MemoryLayout<T>.size <= slotBytes && count < slots,
                    "a kernel's arguments are at most \(slots) of \(slotBytes) bytes")
                let slot = base + count * slotBytes
                slot.storeBytes(of: argument, as: T.self)
                first[count] = slot
                count += 1
            }
            repeat add(each arguments)
            return try body(first)
        }
    }
}
