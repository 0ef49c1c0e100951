import GeePSCore
import CGeePSKernels
import CGeePSShims

/// An image of machine code, as the emulated compiler makes it: this text, then names of kernels.
enum EmulatedImage {
    static let magic = "emulated machine code\n"

    static var bytes: [UInt8] {
        Array((magic + kernelNames.joined(separator: "\n") + "\n\0").utf8)
    }

    static var kernelNames: [String] {
        var names: [String] = []
        while let name = geeps_cuda_kernel_name(Int32(names.count)) {
            names.append(String(cString: name))
        }
        return names
    }
}

extension CUDAKernelRunner {
    /// The text of the kernels, built for the host.
    static let standard = CUDAKernelRunner { name, parameters, grid, block in
        guard let kernel = geeps_cuda_kernel_on_host(name) else { return false }
        kernel(parameters, grid, block)
        return true
    }
}

extension DriverCall {
    func load(
        _ result: UnsafeMutablePointer<OpaquePointer?>?, _ image: UnsafeRawPointer?
    ) throws(Refusal) {
        let result = try out(result)
        let context = try currentContext()
        guard let image else { throw refuse(Status.invalidValue, "the image is null") }
        let magic = Array(EmulatedImage.magic.utf8)
        for (offset, byte) in magic.enumerated()
        where (image + offset).load(as: UInt8.self) != byte {
            throw fail(Status.invalidImage)
        }
        let text = String(cString: (image + magic.count).assumingMemoryBound(to: CChar.self))
        let module = ModuleObject(
            handle: CUDAEmulator.makeHandle(), context: context.handle,
            kernels: Set(text.split(separator: "\n").map(String.init)))
        state.modules[module.handle] = module
        result.pointee = module.handle
    }

    func unload(_ handle: OpaquePointer?) throws(Refusal) {
        guard let handle, let module = state.modules.removeValue(forKey: handle) else {
            throw refuse(Status.invalidHandle, "\(name(handle)) is no loaded module")
        }
        for function in module.functions.values { state.functions[function] = nil }
    }

    func function(
        _ result: UnsafeMutablePointer<OpaquePointer?>?, _ handle: OpaquePointer?,
        _ name: UnsafePointer<CChar>?
    ) throws(Refusal) {
        let result = try out(result)
        guard let handle, let module = state.modules[handle], let name else {
            throw refuse(Status.invalidHandle, "\(self.name(handle)) is no loaded module")
        }
        let text = String(cString: name)
        guard module.kernels.contains(text) else { throw fail(Status.notFound) }
        let function = module.functions[text] ?? CUDAEmulator.makeHandle()
        module.functions[text] = function
        state.functions[function] = FunctionObject(name: text, context: module.context)
        result.pointee = function
    }

    func launch(
        _ handle: OpaquePointer?, grid: (UInt32, UInt32, UInt32), block: (UInt32, UInt32, UInt32),
        sharedBytes: UInt32, on streamHandle: OpaquePointer?,
        _ parameters: UnsafeMutablePointer<UnsafeMutableRawPointer?>?
    ) throws(Refusal) {
        let stream = try stream(streamHandle)
        guard let handle, let function = state.functions[handle] else {
            throw refuse(Status.invalidHandle, "\(name(handle)) is no kernel of a loaded module")
        }
        guard function.context == stream.context else {
            throw refuse(Status.invalidContext, "\(function.name) is of another context")
        }
        guard grid.0 > 0, block.0 > 0, block.0 <= 1024, grid.0 <= Int32.max,
            grid.1 == 1, grid.2 == 1, block.1 == 1, block.2 == 1
        else {
            throw refuse(
                Status.invalidValue, "\(function.name): a launch of \(grid) blocks of \(block)")
        }
        guard let signature = KernelSignature.all[function.name], let parameters,
            let arguments = KernelArguments(signature.sizes, parameters)
        else { throw refuse(Status.invalidValue, "\(function.name): parameters are missing") }
        try start(function.name, signature, arguments, (grid.0, block.0), on: stream)
    }

    private func start(
        _ name: String, _ signature: KernelSignature, _ arguments: KernelArguments,
        _ shape: (grid: UInt32, block: UInt32), on stream: StreamObject
    ) throws(Refusal) {
        var places: [(Access, Allocation)] = []
        for touch in signature.touches(arguments) {
            for isWrite in [false, true] where isWrite ? touch.writes : touch.reads {
                guard
                    let access = Access(touch.address, bytes: touch.byteCount, isWrite: isWrite)
                else { continue }
                places.append((access, try deviceMemory(access.range)))
            }
        }
        let operation = state.makeOperation(name, on: stream)
        for (access, memory) in places {
            state.note([access.range], of: memory, by: operation, isWrite: access.isWrite)
        }
        let rows = signature.rows?(arguments)
        if rows != nil { state.lateOperations += 1 }
        let runner = emulator.configuration.kernelRunner ?? .standard
        emulator.submit(operation, on: stream) { [emulator] in
            if let rows { emulator.noteRows(rows, of: operation) }
            if !runner.run(name, arguments.addresses, shape.grid, shape.block) {
                emulator.report("\(name): no kernel of that name runs on the host")
            }
        }
    }
}

extension CUDAEmulator {
    /// Notes the rows that a kernel whose turn has come finds by its index.
    fileprivate func noteRows(_ rows: KernelRows, of operation: Operation) {
        let ranges = rows.ranges
        lock.withLock {
            state.lateOperations -= 1
            guard let first = ranges.first, let last = ranges.last else { return }
            guard let memory = state.memory.find(first.lowerBound), memory.kind == .device,
                memory.freedBy == nil, last.upperBound <= memory.range.upperBound
            else {
                state.findings.append(
                    "\(operation.description): rows \(hex(first.lowerBound..<last.upperBound)) are not in "
                        + "living device memory")
                return
            }
            for isWrite in [false, true] where isWrite ? rows.writes : rows.reads {
                state.note(ranges, of: memory, by: operation, isWrite: isWrite, isLate: true)
            }
        }
    }
}
