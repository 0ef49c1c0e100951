import CGeePSShims
import GeePSCore

/// A stream of the driver's and what can be put on it; the caller has made the context current.
///
/// Nothing here allocates.
struct CUDAQueue: @unchecked Sendable {
    // Sendable: constant; the driver's functions may be called from any thread.
    let context: CUDAContext
    let kernels: CUDAKernels
    /// Nil is the default stream, which only other programs' code works on.
    let handle: geeps_cu_stream?

    func copy(
        from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int,
        direction: CopyDirection
    ) throws(DeviceError) {
        guard byteCount > 0 else { return }
        let functions = context.driver.functions
        switch direction {
        case .hostToDevice:
            try context.check(
                functions.cuMemcpyHtoDAsync_v2(address(target), source, byteCount, handle),
                "cuMemcpyHtoDAsync_v2", "copy \(byteCount) bytes to the device")
        case .deviceToHost:
            try context.check(
                functions.cuMemcpyDtoHAsync_v2(target, address(source), byteCount, handle),
                "cuMemcpyDtoHAsync_v2", "copy \(byteCount) bytes to the host")
        case .deviceToDevice:
            try context.check(
                functions.cuMemcpyDtoDAsync_v2(address(target), address(source), byteCount, handle),
                "cuMemcpyDtoDAsync_v2", "copy \(byteCount) bytes inside the device")
        }
    }

    func zero(_ target: UnsafeMutableRawPointer, byteCount: Int) throws(DeviceError) {
        guard byteCount > 0 else { return }
        try context.check(
            context.driver.functions.cuMemsetD8Async(address(target), 0, byteCount, handle),
            "cuMemsetD8Async", "clear \(byteCount) bytes")
    }

    func fill(
        _ target: UnsafeMutablePointer<Float>, with value: Float, count: Int
    ) throws(DeviceError) {
        guard count > 0 else { return }
        try context.check(
            context.driver.functions.cuMemsetD32Async(
                address(target), value.bitPattern, count, handle), "cuMemsetD32Async",
            "fill \(count) values")
    }

    /// Launches kernel `name` over `count` items.
    func launch<each Argument: BitwiseCopyable>(
        _ name: String, count: Int, _ arguments: repeat each Argument
    ) throws(DeviceError) {
        try withKernelParameters(
            repeat each arguments,
            body: { parameters throws(DeviceError) in
                try kernels.launch(name, count: count, on: handle, parameters)
            })
    }

    func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) throws(DeviceError) {
        try launch(
            "geeps_gather_rows", count: Self.items(count, rowWidth), target, source, indexes,
            Int64(count), Int64(rowWidth))
    }

    func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>
    ) throws(DeviceError) {
        try launch(
            "geeps_scatter_add_rows", count: Self.items(count, rowWidth), target, source, indexes,
            Int64(count), Int64(rowWidth))
    }

    /// Threads that have something to do: rows are moved in lanes of four values.
    private static func items(_ rowCount: Int, _ rowWidth: Int) -> Int {
        rowCount * (rowWidth % 4 == 0 ? rowWidth / 4 : rowWidth)
    }

    func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>
    ) throws(DeviceError) {
        try launch("geeps_add", count: count, target, source, Int64(count))
    }

    func scale(
        _ target: UnsafeMutablePointer<Float>, by factor: Float, count: Int
    ) throws(DeviceError) {
        try launch("geeps_scale", count: count, target, factor, Int64(count))
    }

    func synchronise() throws(DeviceError) {
        try context.check(
            context.driver.functions.cuStreamSynchronize(handle), "cuStreamSynchronize",
            "wait for a stream")
    }

    private func address(_ pointer: UnsafeRawPointer) -> geeps_cu_address {
        geeps_cu_address(UInt(bitPattern: pointer))
    }
}

extension CUDAContext {
    /// A stream beside the default one, which would wait for all others.
    func makeStreamHandle() throws(DeviceError) -> geeps_cu_stream {
        try makeCurrent()
        var handle: geeps_cu_stream?
        try check(
            driver.functions.cuStreamCreate(
                &handle, UInt32(GEEPS_CU_STREAM_NON_BLOCKING)), "cuStreamCreate",
            "make a stream")
        guard let handle else {
            throw DeviceError(.failed, "\(name): cuStreamCreate gave no stream")
        }
        return handle
    }

    /// Asks until `query` answers something else than "not ready".
    ///
    /// The driver has no wait with a bound: this looks again after 10 microseconds, then ever later, up to 0.2 ms.
    ///
    /// - Returns: the answer; nil when `deadline` has passed.
    func poll(until deadline: Deadline, _ query: () -> Int32) -> Int32? {
        var pause: UInt64 = 10_000
        while true {
            let status = query()
            guard status == Int32(GEEPS_CU_NOT_READY) else { return status }
            guard !deadline.hasPassed else { return nil }
            sleepRoughly(until: monotonicNanoseconds() + pause)
            pause = min(pause * 2, 200_000)
        }
    }
}
