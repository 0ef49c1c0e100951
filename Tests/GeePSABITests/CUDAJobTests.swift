import CGeePS
import CGeePSShims
import CUDAEmulator
import GeePSDevice
import Synchronization
import Testing

@testable import GeePSABI

/// Jobs on a GPU whose streams and memory are shared with the caller's own code, as with torch's.
@Suite("C interface on a GPU", .serialized)
struct CUDAJobTests {
    @Test func rowsAtHandAreReadyInTheOrderOfTheCallersStream() throws {
        let expected = try onHost(steps: 6)
        let findings = try emulated { caller in
            let job = try caller.job()
            #expect(try caller.train(job, steps: 6) == expected)
            #expect(try memory(of: job).plans_followed == 1)
        }
        #expect(findings == [])
    }

    @Test func aStreamThatIsFollowedGoesOnBehindTheOneBefore() throws {
        let expected = try onHost(steps: 6)
        let findings = try emulated { caller in
            let job = try caller.job()
            let result = try caller.train(job, steps: 6) { step in
                try caller.follow(caller.streams[step % 3], job)
            }
            #expect(result == expected)
        }
        #expect(findings == [])
    }

    @Test func localDataComesBackWithinABudget() throws {
        let expected = try onHost(steps: 6)
        let findings = try emulated { caller in
            let job = try caller.job(["memory": "managed", "budget_bytes": "262144"])
            var local: UInt32 = 0
            try check(geeps_local_create(job.handle, "activation", 4096, &local))
            let kept = (0..<1024).map { Float($0) }
            let result = try caller.train(job, steps: 6) { _ in
                let bytes = try caller.upload(kept)
                try check(geeps_local_put(job.handle, local, bytes.address, nil))
                try caller.free(bytes)
                var (lease, address): (OpaquePointer?, UnsafeRawPointer?) = (nil, nil)
                try check(geeps_local_get(job.handle, local, &lease, &address))
                let found = try caller.download(try #require(address), count: 1024)
                geeps_release(lease)
                #expect(found == kept)
            }
            #expect(result == expected)
        }
        #expect(findings == [])
    }

    @Test func theCallersContextIsLeftAsItWas() throws {
        let findings = try emulated(deviceCount: 2) { caller in
            let job = try caller.job(["device": "cuda:1"])
            let driver = caller.driver
            var current: geeps_cu_context?
            try require(driver.cuCtxGetCurrent(&current))
            #expect(current == caller.context)
            try check(geeps_initialise(job.handle, 0, [1, 2, 3], 3))
            var (lease, values): (OpaquePointer?, UnsafePointer<Float>?) = (nil, nil)
            try check(geeps_read(job.handle, 0, &lease, &values, nil))
            geeps_release(lease)
            try check(geeps_clock(job.handle, nil))
            try require(driver.cuCtxGetCurrent(&current))
            #expect(current == caller.context)
        }
        #expect(findings == [])
    }

    @Test func valuesOutsideTheIterationLieOnTheHost() throws {
        let findings = try emulated { caller in
            let job = try caller.job()
            _ = try caller.train(job, steps: 3)
            var (lease, values): (OpaquePointer?, UnsafePointer<Float>?) = (nil, nil)
            try check(geeps_peek(job.handle, 0, &lease, &values, nil))
            defer { geeps_release(lease) }
            let found = Array(UnsafeBufferPointer(start: values, count: 3))
            #expect(try found == onHost(steps: 3))
        }
        #expect(findings == [])
    }

    @Test func aBudgetMustBeNamed() throws {
        let findings = try emulated { caller in
            let job = try TestJob(["device": "cuda:0", "memory": "managed"])
            try job.add("weights", count: 3, rule: TestJob.sgd(rate: 1))
            let refused = refusal(geeps_join(job.handle))
            #expect(refused.status == GEEPS_ARGUMENT.code)
            #expect(refused.message.contains("budget_bytes"), "\(refused)")
        }
        #expect(findings == [])
    }

    @Test func withoutADriverTheJoinSaysSo() throws {
        let missing = DeviceError(.unavailable, "found no NVIDIA driver")
        try withSource(
            .init(
                driver: { () throws(DeviceError) in throw missing }, kernels: { .standard })
        ) {
            let job = try TestJob(["device": "cuda:0"])
            try job.add("weights", count: 3, rule: TestJob.sgd(rate: 1))
            let refused = refusal(geeps_join(job.handle))
            #expect(refused.status == GEEPS_DEVICE_FAILED.code)
            #expect(refused.message.contains("no NVIDIA driver"), "\(refused)")
        }
    }

    @Test(arguments: ["gpu", "cuda", "auto", "cuda:x"])
    func devicesAreChecked(_ text: String) throws {
        let job = try TestJob()
        let refused = refusal(geeps_set(job.handle, "device", text))
        #expect(refused.message.contains("host, or cuda:N"), "\(refused)")
    }

    @Test func aHostHasNoStreams() throws {
        let job = try TestJob.joined([1], rule: TestJob.sgd(rate: 1))
        #expect(refusal(geeps_set_stream(job.handle, nil)).message.contains("GPU"))
    }

    // MARK: What they share

    /// The first table after some steps, on the host.
    private func onHost(steps: Int) throws -> [Float] {
        let job = try TestJob.joined([1, 2, 3], rule: TestJob.sgd(rate: 0.5, momentum: 0.5))
        for step in 0..<steps {
            try check(job.update([(0, [Float(step)]), (2, [1])]))
            try check(geeps_clock(job.handle, nil))
            _ = try job.read(3)
        }
        return try job.read(3)
    }

    private func emulated(
        deviceCount: Int = 1, _ body: (Caller) throws -> Void
    ) throws -> [String] {
        var configuration = CUDAEmulator.Configuration(jitter: Jitter(seed: 5))
        configuration.hasForeignCode = true
        configuration.deviceCount = deviceCount
        return try CUDAEmulator.findings(configuration) { emulator in
            let (driver, kernels) = (emulator.cudaDriver, emulator.kernelSource)
            try withSource(
                .init(driver: { () throws(DeviceError) in driver }, kernels: { kernels })
            ) {
                let caller = try Caller(driver: emulator.driver)
                do {
                    try body(caller)
                    try caller.end()
                } catch {
                    emulator.report("\(error)")
                }
            }
        }
    }

    private func withSource(_ source: JobDevice.Source, _ body: () throws -> Void) throws {
        JobDevice.source.withLock { $0 = source }
        defer { JobDevice.source.withLock { $0 = .system } }
        try body()
    }

    private func memory(of job: TestJob) throws -> geeps_memory {
        var memory = geeps_memory()
        try check(geeps_memory_count(job.handle, &memory, MemoryLayout<geeps_memory>.size))
        return memory
    }
}

private func require(_ status: Int32) throws { try #require(status == 0) }

/// Code that has a context, streams and memory of its own.
private final class Caller {
    struct Memory {
        let address: UnsafeRawPointer
        let device: geeps_cu_address
    }

    let driver: geeps_cuda_driver
    private(set) var context: geeps_cu_context?
    /// The default stream first.
    private(set) var streams: [geeps_cu_stream?] = [nil]
    private var stream: geeps_cu_stream?

    init(driver: geeps_cuda_driver) throws {
        self.driver = driver
        try require(driver.cuInit(0))
        try require(driver.cuDevicePrimaryCtxRetain(&context, 0))
        try require(driver.cuCtxSetCurrent(context))
        for _ in 0..<2 {
            var stream: geeps_cu_stream?
            try require(driver.cuStreamCreate(&stream, 0))
            streams.append(stream)
        }
    }

    func end() throws {
        for stream in streams.compactMap({ $0 }) { try require(driver.cuStreamDestroy_v2(stream)) }
        try require(driver.cuDevicePrimaryCtxRelease_v2(0))
    }

    func job(_ options: [String: String] = [:]) throws -> TestJob {
        try TestJob.joined(
            [1, 2, 3], rule: TestJob.sgd(rate: 0.5, momentum: 0.5),
            options: ["device": "cuda:0"].merging(options) { $1 })
    }

    func follow(_ next: geeps_cu_stream?, _ job: TestJob) throws {
        try check(geeps_set_stream(job.handle, next.map { UnsafeMutableRawPointer($0) }))
        stream = next
    }

    /// Values on the device, written in the order of the stream.
    func upload(_ values: [Float]) throws -> Memory {
        var device: geeps_cu_address = 0
        let bytes = values.count * MemoryLayout<Float>.stride
        try require(driver.cuMemAlloc_v2(&device, bytes))
        try require(driver.cuMemcpyHtoDAsync_v2(device, values, bytes, stream))
        return Memory(
            address: try #require(UnsafeRawPointer(bitPattern: UInt(device))), device: device)
    }

    /// As torch's allocator does: when the stream is done.
    func free(_ memory: Memory) throws {
        try require(driver.cuStreamSynchronize(stream))
        try require(driver.cuMemFree_v2(memory.device))
    }

    /// Values of the device as the stream's work finds them.
    func download(_ address: UnsafeRawPointer, count: Int) throws -> [Float] {
        var values = [Float](repeating: .nan, count: count)
        try require(
            driver.cuMemcpyDtoHAsync_v2(
                &values, geeps_cu_address(UInt(bitPattern: address)),
                count * MemoryLayout<Float>.stride, stream))
        try require(driver.cuStreamSynchronize(stream))
        return values
    }

    /// Trains as the tests do on the host, with `during` between the backward pass and the step; what is read last.
    func train(
        _ job: TestJob, steps: Int, during: (Int) throws -> Void = { _ in }
    ) throws -> [Float] {
        var values: [Float] = []
        for step in 0...steps {
            var (lease, address): (OpaquePointer?, UnsafePointer<Float>?) = (nil, nil)
            try check(geeps_read(job.handle, 0, &lease, &address, nil))
            values = try download(try #require(address), count: 3)
            guard step < steps else {
                geeps_release(lease)
                break
            }
            let gradient = try upload([Float(step), 1])
            try during(step)
            let floats = gradient.address.assumingMemoryBound(to: Float.self)
            let pieces = [
                geeps_piece(values: floats, offset: 0, count: 1),
                geeps_piece(values: floats + 1, offset: 2, count: 1),
            ]
            try check(geeps_update(job.handle, 0, pieces, pieces.count))
            geeps_release(lease)
            try check(geeps_clock(job.handle, nil))
            try free(gradient)
        }
        return values
    }
}
