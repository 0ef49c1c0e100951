public import CGeePSShims
import GeePSCore
import GeePSDevice
import Glibc

extension CUDAEmulator {
    /// The driver's functions.
    public var driver: geeps_cuda_driver {
        var table = geeps_cuda_driver()
        Self.fillDevices(&table)
        Self.fillMemory(&table)
        Self.fillStreams(&table)
        Self.fillKernels(&table)
        return table
    }

    private static func fillDevices(_ table: inout geeps_cuda_driver) {
        table.cuInit = { _ in
            CUDAEmulator.call("cuInit", needs: .nothing) { call throws(Refusal) in
                guard call.emulator.configuration.deviceCount > 0 else {
                    throw call.fail(Int32(GEEPS_CU_NO_DEVICE))
                }
                call.state.isInitialised = true
            }
        }
        table.cuDriverGetVersion = { version in
            CUDAEmulator.call("cuDriverGetVersion", needs: .nothing) { call throws(Refusal) in
                try call.out(version).pointee = call.emulator.configuration.driverVersion
            }
        }
        // Texts of statuses are asked for while something else is reported: they are not counted.
        table.cuGetErrorName = { status, name in
            name?.pointee = StatusText.name
            return status == 0 ? 0 : Status.success
        }
        table.cuGetErrorString = { _, text in
            text?.pointee = StatusText.text
            return Status.success
        }
        table.cuDeviceGetCount = { count in
            CUDAEmulator.call("cuDeviceGetCount", needs: .initialisation) { call throws(Refusal) in
                try call.out(count).pointee = Int32(call.emulator.configuration.deviceCount)
            }
        }
        table.cuDeviceGet = { device, ordinal in
            CUDAEmulator.call("cuDeviceGet", needs: .initialisation) { call throws(Refusal) in
                guard 0..<Int32(call.emulator.configuration.deviceCount) ~= ordinal else {
                    throw call.fail(Status.invalidDevice)
                }
                try call.out(device).pointee = ordinal
            }
        }
        table.cuDeviceGetName = { name, capacity, device in
            CUDAEmulator.call("cuDeviceGetName", needs: .initialisation) { call throws(Refusal) in
                try call.write("Emulated GPU \(device)", to: name, capacity)
            }
        }
        table.cuDeviceGetPCIBusId = { name, capacity, device in
            CUDAEmulator.call("cuDeviceGetPCIBusId", needs: .initialisation) {
                call throws(Refusal) in
                try call.write("0000:0\(device):00.0", to: name, capacity)
            }
        }
        table.cuDeviceTotalMem_v2 = { bytes, _ in
            CUDAEmulator.call("cuDeviceTotalMem_v2", needs: .initialisation) {
                call throws(Refusal) in
                try call.out(bytes).pointee = call.emulator.configuration.memoryBytes
            }
        }
        table.cuDeviceGetAttribute = { value, attribute, _ in
            CUDAEmulator.call("cuDeviceGetAttribute", needs: .initialisation) {
                call throws(Refusal) in
                let configuration = call.emulator.configuration
                let answers: [Int: Int32] = [
                    Int(GEEPS_CU_MULTIPROCESSOR_COUNT): 4, Int(GEEPS_CU_ASYNC_ENGINE_COUNT): 2,
                    Int(GEEPS_CU_PCI_BUS_ID): 0,
                    Int(GEEPS_CU_COMPUTE_CAPABILITY_MAJOR): configuration.capability.major,
                    Int(GEEPS_CU_COMPUTE_CAPABILITY_MINOR): configuration.capability.minor,
                ]
                guard let answer = answers[Int(attribute)] else {
                    throw call.refuse(Status.invalidValue, "attribute \(attribute) is not emulated")
                }
                try call.out(value).pointee = answer
            }
        }
        table.cuDevicePrimaryCtxRetain = { context, device in
            CUDAEmulator.call("cuDevicePrimaryCtxRetain", needs: .initialisation) {
                call throws(Refusal) in try call.retain(context, device)
            }
        }
        table.cuDevicePrimaryCtxRelease_v2 = { device in
            CUDAEmulator.call("cuDevicePrimaryCtxRelease_v2", needs: .initialisation) {
                call throws(Refusal) in try call.release(device)
            }
        }
        table.cuCtxSetCurrent = { context in
            CUDAEmulator.call("cuCtxSetCurrent", needs: .initialisation) { call throws(Refusal) in
                try call.setCurrent(context)
            }
        }
        table.cuCtxGetCurrent = { context in
            CUDAEmulator.call("cuCtxGetCurrent", needs: .initialisation) { call throws(Refusal) in
                try call.out(context).pointee = ThreadState.context
            }
        }
    }

    private static func fillMemory(_ table: inout geeps_cuda_driver) {
        table.cuMemGetInfo_v2 = { free, total in
            CUDAEmulator.call("cuMemGetInfo_v2") { call throws(Refusal) in
                let all = call.emulator.configuration.memoryBytes
                let used = call.state.memory.deviceBytes[try call.currentContext().handle] ?? 0
                try call.out(total).pointee = all
                try call.out(free).pointee = all - used
            }
        }
        table.cuMemAlloc_v2 = { address, bytes in
            CUDAEmulator.call("cuMemAlloc_v2") { call throws(Refusal) in
                try call.allocate(address, bytes)
            }
        }
        table.cuMemFree_v2 = { address in
            CUDAEmulator.call("cuMemFree_v2") { call throws(Refusal) in
                try call.free(UInt(address), .device)
            }
        }
        table.cuMemHostAlloc = { address, bytes, flags in
            CUDAEmulator.call("cuMemHostAlloc") { call throws(Refusal) in
                try call.allocateHost(address, bytes, flags: flags)
            }
        }
        table.cuMemFreeHost = { address in
            CUDAEmulator.call("cuMemFreeHost") { call throws(Refusal) in
                try call.free(UInt(bitPattern: address), .pinned)
            }
        }
        table.cuMemcpyHtoD_v2 = { target, source, bytes in
            CUDAEmulator.callAndWait("cuMemcpyHtoD_v2") { call throws(Refusal) in
                try call.copyNow(.toDevice, to: UInt(target), from: UInt(bitPattern: source), bytes)
            }
        }
        table.cuMemcpyDtoH_v2 = { target, source, bytes in
            CUDAEmulator.callAndWait("cuMemcpyDtoH_v2") { call throws(Refusal) in
                try call.copyNow(.toHost, to: UInt(bitPattern: target), from: UInt(source), bytes)
            }
        }
        table.cuMemcpyHtoDAsync_v2 = { target, source, bytes, stream in
            CUDAEmulator.callAndWait("cuMemcpyHtoDAsync_v2") { call throws(Refusal) in
                try call.copy(
                    .toDevice, to: UInt(target), from: UInt(bitPattern: source), bytes, on: stream)
            }
        }
        table.cuMemcpyDtoHAsync_v2 = { target, source, bytes, stream in
            CUDAEmulator.callAndWait("cuMemcpyDtoHAsync_v2") { call throws(Refusal) in
                try call.copy(
                    .toHost, to: UInt(bitPattern: target), from: UInt(source), bytes, on: stream)
            }
        }
        table.cuMemcpyDtoDAsync_v2 = { target, source, bytes, stream in
            CUDAEmulator.callAndWait("cuMemcpyDtoDAsync_v2") { call throws(Refusal) in
                try call.copy(.inside, to: UInt(target), from: UInt(source), bytes, on: stream)
            }
        }
        table.cuMemsetD8Async = { target, value, count, stream in
            CUDAEmulator.call("cuMemsetD8Async") { call throws(Refusal) in
                try call.set(UInt(target), count: count, bytes: 1, on: stream) {
                    memset(pointer(UInt(target)), Int32(value), count)
                }
            }
        }
        table.cuMemsetD32Async = { target, value, count, stream in
            CUDAEmulator.call("cuMemsetD32Async") { call throws(Refusal) in
                try call.set(UInt(target), count: count, bytes: 4, on: stream) {
                    let words = pointer(UInt(target)).assumingMemoryBound(to: UInt32.self)
                    for index in 0..<count { words[index] = value }
                }
            }
        }
    }

    private static func fillStreams(_ table: inout geeps_cuda_driver) {
        table.cuStreamCreate = { stream, flags in
            CUDAEmulator.call("cuStreamCreate") { call throws(Refusal) in
                try call.makeStream(stream, flags: flags)
            }
        }
        table.cuStreamDestroy_v2 = { stream in
            CUDAEmulator.call("cuStreamDestroy_v2") { call throws(Refusal) in
                try call.destroyStream(stream)
            }
        }
        table.cuStreamSynchronize = { stream in
            CUDAEmulator.callAndWait("cuStreamSynchronize") { call throws(Refusal) in
                call.emulator.wait(for: try call.stream(stream))
            }
        }
        table.cuStreamQuery = { stream in
            CUDAEmulator.call("cuStreamQuery") { call throws(Refusal) in
                try call.query(try call.stream(stream))
            }
        }
        table.cuStreamWaitEvent = { stream, event, _ in
            CUDAEmulator.call("cuStreamWaitEvent") { call throws(Refusal) in
                try call.wait(stream, for: event)
            }
        }
        table.cuEventCreate = { event, flags in
            CUDAEmulator.call("cuEventCreate") { call throws(Refusal) in
                try call.makeEvent(event, flags: flags)
            }
        }
        table.cuEventDestroy_v2 = { event in
            CUDAEmulator.call("cuEventDestroy_v2") { call throws(Refusal) in
                try call.destroyEvent(event)
            }
        }
        table.cuEventRecord = { event, stream in
            CUDAEmulator.call("cuEventRecord") { call throws(Refusal) in
                try call.record(event, on: stream)
            }
        }
        table.cuEventQuery = { event in
            CUDAEmulator.call("cuEventQuery") { call throws(Refusal) in
                try call.query(try call.living(event))
            }
        }
        table.cuEventSynchronize = { event in
            CUDAEmulator.callAndWait("cuEventSynchronize") { call throws(Refusal) in
                call.wait(for: try call.living(event))
            }
        }
        table.cuEventElapsedTime = { milliseconds, start, end in
            CUDAEmulator.call("cuEventElapsedTime") { call throws(Refusal) in
                try call.elapsed(milliseconds, start, end)
            }
        }
        table.cuLaunchHostFunc = { stream, function, user in
            CUDAEmulator.call("cuLaunchHostFunc") { call throws(Refusal) in
                try call.launchHost(stream, function, user)
            }
        }
    }

    private static func fillKernels(_ table: inout geeps_cuda_driver) {
        table.cuModuleLoadData = { module, image in
            CUDAEmulator.call("cuModuleLoadData") { call throws(Refusal) in
                try call.load(module, image)
            }
        }
        table.cuModuleUnload = { module in
            CUDAEmulator.call("cuModuleUnload") { call throws(Refusal) in try call.unload(module) }
        }
        table.cuModuleGetFunction = { function, module, name in
            CUDAEmulator.call("cuModuleGetFunction") { call throws(Refusal) in
                try call.function(function, module, name)
            }
        }
        table.cuLaunchKernel = { function, gx, gy, gz, bx, by, bz, shared, stream, parameters, _ in
            CUDAEmulator.call("cuLaunchKernel") { call throws(Refusal) in
                try call.launch(
                    function, grid: (gx, gy, gz), block: (bx, by, bz), sharedBytes: shared,
                    on: stream, parameters)
            }
        }
    }
}

extension DriverCall {
    fileprivate func write(
        _ text: String, to name: UnsafeMutablePointer<CChar>?, _ capacity: Int32
    ) throws(Refusal) {
        let target = try out(name)
        for (index, byte) in text.utf8CString.prefix(Int(capacity)).enumerated() {
            target[index] = byte
        }
    }
}

/// What a status is called; one text will do.
private enum StatusText {
    nonisolated(unsafe) static let name = UnsafePointer(strdup("CUDA_ERROR_EMULATED"))
    nonisolated(unsafe) static let text = UnsafePointer(strdup("as a test asked for, or found"))
}

extension CUDAEmulator {
    /// Waits for the streams, runs the libraries' checks and reports what is left over.
    func close() {
        for stream in lock.withLock({ state.allStreams }) {
            Self.drain(stream)
            stream.host.close()
        }
        for check in lock.withLock({ state.closeChecks }) { check(self) }
        lock.withLock {
            state.reportHiddenRaces()
            for allocation in state.memory.alive {
                state.findings.append("leak: never freed: \(allocation.description)")
            }
            for stream in state.streams.values.sorted(by: { $0.agent < $1.agent }) {
                state.findings.append("leak: \(stream.name) was never destroyed")
            }
            if !state.events.isEmpty {
                state.findings.append("leak: \(state.events.count) events were never destroyed")
            }
            if !state.modules.isEmpty {
                state.findings.append("leak: \(state.modules.count) modules were never unloaded")
            }
            if !state.programs.isEmpty {
                state.findings.append("leak: \(state.programs.count) programs were never destroyed")
            }
            for context in state.contexts.values {
                state.findings.append(
                    "leak: the context of device \(context.device) is held \(context.retainCount) times"
                )
            }
            state.memory.drop()
        }
    }
}
