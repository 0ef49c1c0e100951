import CUDAEmulator
import GeePSCore
import GeePSDevice
import Glibc
import Synchronization
import Testing

/// The device, its streams and events, over the emulated driver.
@Suite struct CUDADeviceTests {
    /// Runs `body` on an emulated GPU; whatever the emulator finds fails the test.
    private func onGPU(
        _ configuration: CUDAEmulator.Configuration = .init(), limitBytes: Int? = 8 << 20,
        _ body: (CUDAEmulator, CUDADevice) throws -> Void
    ) throws {
        let findings = try CUDAEmulator.findings(configuration) { emulator in
            let device = try emulator.makeDevice(limitBytes: limitBytes)
            try body(emulator, device)
        }
        #expect(findings == [])
    }

    private func read(
        _ stream: any DeviceStream, _ address: UnsafeRawPointer, count: Int
    ) throws -> [Float] {
        var values = [Float](repeating: .nan, count: count)
        try values.withUnsafeMutableBytes { bytes in
            stream.copy(
                from: address, to: bytes.baseAddress!, byteCount: bytes.count,
                direction: .deviceToHost)
            try stream.synchronise(deadline: .after(.seconds(10)))
        }
        return values
    }

    @Test func aTimelineHasTheWorkOfEveryStreamInItsOrder() throws {
        let timeline = Timeline()
        let begin = monotonicNanoseconds()
        try onGPU { _, device in
            // Made before: it leaves spans all the same.
            let stream = try device.makeStream(name: "rows")
            let memory = try device.allocate(byteCount: 4096, for: .localData)
            stream.fill(memory.floats, with: 1, count: 4, label: "unseen")
            device.timeline = timeline
            for index in 0..<100 {
                stream.fill(memory.floats, with: 1, count: 4, label: "fill \(index)")
                stream.run(label: "sleep \(index)") { usleep(200) }
            }
            _ = try read(stream, memory.address, count: 4)
            stream.close()
        }
        let spans = timeline.spans
        let expected = (0..<100).flatMap { ["fill \($0)", "sleep \($0)"] } + [""]
        #expect(spans.map(\.label) == expected)
        #expect(Set(spans.map(\.track)) == ["cuda:0 rows"])
        #expect(spans.last?.operation == "copy device to host" && spans.last?.byteCount == 16)
        for (span, next) in zip(spans, spans.dropFirst()) {
            #expect(span.startNanoseconds <= span.endNanoseconds)
            #expect(span.endNanoseconds <= next.startNanoseconds + 10_000)
        }
        let sleeps = spans.filter { $0.operation == "host function" }
        #expect(sleeps.allSatisfy { $0.endNanoseconds - $0.startNanoseconds >= 150_000 })
        #expect(spans.allSatisfy { $0.startNanoseconds >= begin })
        #expect((spans.last?.endNanoseconds ?? .max) <= monotonicNanoseconds() + 1_000_000)
    }

    @Test(arguments: [nil, Jitter(seed: 3)])
    func everyOperationOfAStreamComputes(jitter: Jitter?) throws {
        try onGPU(.init(jitter: jitter)) { _, device in
            let stream = try device.makeStream(name: "one")
            let a = try device.allocate(byteCount: 4096, for: .localData)
            let b = try device.allocate(byteCount: 4096, for: .localData)
            let index = try device.allocate(byteCount: 16, for: .indexes)
            let rows: [UInt32] = [3, 0, 3, 1]
            rows.withUnsafeBytes {
                device.write($0.baseAddress!, to: index.address, byteCount: 16)
            }
            let indexes = UnsafePointer(index.address.assumingMemoryBound(to: UInt32.self))
            for row in 0..<4 {
                stream.fill(a.floats + row * 8, with: Float(row + 1), count: 8, label: "")
            }
            stream.gatherRows(
                a.floats, indexes: indexes, count: 4, rowWidth: 8, into: b.floats, label: "")
            let gathered = try read(stream, b.address, count: 32)
            #expect(gathered == [4, 1, 4, 2].flatMap { [Float](repeating: $0, count: 8) })
            stream.scatterAddRows(
                b.floats, indexes: indexes, count: 4, rowWidth: 8, into: a.floats, label: "")
            stream.scale(a.floats, by: 0.5, count: 16, label: "")
            stream.zero(a.address + 64, byteCount: 32)
            stream.add(b.floats, count: 8, into: a.floats, label: "")
            let found = try read(stream, a.address, count: 32)
            // Rows begin as 1, 2, 3, 4; row 3 gets 4 twice, row 0 gets 1, row 1 gets 2.
            #expect(found == [5, 2, 0, 12].flatMap { [Float](repeating: $0, count: 8) })
            stream.close()
        }
    }

    @Test func anEventOrdersTwoStreams() throws {
        for seed in 0..<20 {
            try onGPU(.init(jitter: Jitter(seed: UInt64(seed)))) { _, device in
                let (first, second) = (
                    try device.makeStream(name: "first"), try device.makeStream(name: "second")
                )
                let event = try device.makeEvent()
                let memory = try device.allocate(byteCount: 4000, for: .localData)
                for round in 1...5 {
                    first.fill(memory.floats, with: Float(round), count: 1000, label: "")
                    first.record(event)
                    second.wait(for: event)
                    #expect(
                        try read(second, memory.address, count: 1000)
                            == [Float](repeating: Float(round), count: 1000))
                    second.record(event)
                    first.wait(for: event)
                }
            }
        }
    }

    @Test func aMissingWaitForAnEventIsFound() throws {
        let findings = try CUDAEmulator.findings { emulator in
            let device = try emulator.makeDevice(limitBytes: 1 << 20)
            let (first, second) = (
                try device.makeStream(name: "first"), try device.makeStream(name: "second")
            )
            let memory = try device.allocate(byteCount: 4000, for: .localData)
            first.fill(memory.floats, with: 1, count: 1000, label: "")
            // Here the second stream should wait for the first.
            second.add(memory.floats + 500, count: 100, into: memory.floats, label: "")
            try first.synchronise()
            try second.synchronise()
        }
        #expect(findings.contains { $0.hasPrefix("race:") && $0.contains("geeps_add") })
        #expect(findings.allSatisfy { $0.hasPrefix("race:") })
    }

    @Test func memoryComesFromOneAllocationAndIsZero() throws {
        try onGPU { emulator, device in
            let stream = try device.makeStream(name: "zero")
            #expect(emulator.callCount(of: "cuMemAlloc_v2") == 0)
            for round in 0..<50 {
                let memory = try device.allocate(
                    byteCount: 1000 + 7 * round, for: .accessBuffers)
                #expect(UInt(bitPattern: memory.address) % 512 == 0)
                #expect(
                    try read(stream, memory.address, count: 250)
                        == [Float](repeating: 0, count: 250))
                stream.fill(memory.floats, with: 1, count: 250, label: "")
                try stream.synchronise()
            }
            #expect(emulator.callCount(of: "cuMemAlloc_v2") == 1)
            #expect(device.bytesInUse.reduce(0, +) == 0)
            #expect(device.allocationCount == 50)
        }
    }

    @Test func memoryBeyondTheLimitIsAnErrorAndTakesNothing() throws {
        try onGPU(limitBytes: 1 << 20) { _, device in
            let half = try device.allocate(byteCount: 512 << 10, for: .localData)
            let error = #expect(throws: DeviceError.self) {
                _ = try device.allocate(byteCount: (512 << 10) + 64, for: .updateLog).byteCount
            }
            #expect(error?.code == .outOfMemory)
            #expect(error?.message.contains("update log") == true)
            _ = try device.allocate(byteCount: 512 << 10, for: .updateLog).byteCount
            _ = half.byteCount
        }
    }

    @Test func aGPUWithLessMemoryThanAskedForSaysWhatIsFree() throws {
        var configuration = CUDAEmulator.Configuration()
        configuration.memoryBytes = 4 << 20
        try onGPU(configuration, limitBytes: 64 << 20) { _, device in
            let error = #expect(throws: DeviceError.self) {
                _ = try device.allocate(byteCount: 64, for: .localData).byteCount
            }
            #expect(error?.code == .outOfMemory)
            #expect(error?.message.contains("are free") == true)
        }
    }

    @Test func pinnedMemoryThatRunsOutIsPageableWithOneWarning() throws {
        let warnings = Atomic(0)
        let findings = try CUDAEmulator.findings { emulator in
            let device = try emulator.makeDevice(
                limitBytes: 1 << 20, pinnedLimitBytes: 1000,
                onWarning: { _ in warnings.add(1, ordering: .relaxed) })
            let small = try device.allocateHost(
                byteCount: 100, for: .localData, preferPinned: true)
            let smallIsPinned = small.isPinned
            #expect(smallIsPinned)
            for _ in 0..<3 {
                let large = try device.allocateHost(
                    byteCount: 2000, for: .localData, preferPinned: true)
                let largeIsPinned = large.isPinned
                #expect(!largeIsPinned)
            }
        }
        #expect(findings == [])
        #expect(warnings.load(ordering: .relaxed) == 1)
    }

    @Test func aClosureThatFailsIsThrownToWhoWaitsAndDropsThoseBehindIt() throws {
        try onGPU { _, device in
            let failing = try device.makeStream(name: "failing")
            let dependent = try device.makeStream(name: "dependent")
            let event = try device.makeEvent()
            let ran = Atomic(0)
            failing.run { () throws(DeviceError) in throw DeviceError(.failed, "as planned") }
            failing.run { ran.add(1, ordering: .relaxed) }
            failing.record(event)
            dependent.wait(for: event)
            let error = #expect(throws: DeviceError.self) { try failing.synchronise() }
            #expect(error?.message.contains("as planned") == true)
            let taken = #expect(throws: DeviceError.self) { try dependent.synchronise() }
            #expect(taken?.message.contains("waited for stream failing") == true)
            #expect(throws: DeviceError.self) { try event.wait(deadline: nil) }
            #expect(ran.load(ordering: .relaxed) == 0)
        }
    }

    @Test func aWaitWithADeadlineGivesUp() throws {
        try onGPU { _, device in
            let stream = try device.makeStream(name: "slow")
            let event = try device.makeEvent()
            stream.compute(nanoseconds: 300_000_000)
            stream.record(event)
            #expect(!event.isDone)
            let error = #expect(throws: DeviceError.self) {
                try event.wait(deadline: .after(.milliseconds(5)))
            }
            #expect(error?.code == .deadline)
            let other = #expect(throws: DeviceError.self) {
                try stream.synchronise(deadline: .after(.milliseconds(5)))
            }
            #expect(other?.code == .deadline)
            try stream.synchronise()
            #expect(event.isDone)
        }
    }

    @Test func severalDevicesWorkSideBySideFromAnyThread() throws {
        var configuration = CUDAEmulator.Configuration(jitter: Jitter(seed: 8))
        configuration.deviceCount = 3
        let findings = try CUDAEmulator.findings(configuration) { emulator in
            let devices = try (0..<3).map {
                try emulator.makeDevice(ordinal: $0, limitBytes: 1 << 20)
            }
            let sums = Mutex([Float]())
            let threads = (0..<4).map { number in
                DedicatedThread(name: "user \(number)") {
                    for round in 0..<9 {
                        let device = devices[(number + round) % 3]
                        guard let stream = try? device.makeStream(name: "s"),
                            let memory = try? device.allocate(byteCount: 400, for: .localData)
                        else { return }
                        stream.fill(memory.floats, with: Float(number), count: 100, label: "")
                        var value: Float = .nan
                        stream.copy(
                            from: memory.address, to: &value, byteCount: 4,
                            direction: .deviceToHost)
                        try? stream.synchronise()
                        sums.withLock { $0.append(value) }
                        stream.close()
                    }
                }
            }
            for thread in threads { thread.join() }
            #expect(
                sums.withLock { $0.sorted() }
                    == (0..<4).flatMap { [Float](repeating: Float($0), count: 9) })
        }
        #expect(findings == [])
    }

    /// Every function of the driver fails at its every call: an error, nothing left over, nothing that hangs.
    @Test(arguments: [
        "cuInit", "cuDriverGetVersion", "cuDeviceGetCount", "cuDeviceGet", "cuDeviceGetName",
        "cuDeviceTotalMem_v2", "cuDeviceGetAttribute", "cuDeviceGetPCIBusId",
        "cuDevicePrimaryCtxRetain", "cuCtxSetCurrent", "cuMemGetInfo_v2", "cuMemAlloc_v2",
        "cuMemHostAlloc", "cuMemcpyHtoDAsync_v2", "cuMemcpyDtoHAsync_v2", "cuMemcpyDtoDAsync_v2",
        "cuMemsetD8Async", "cuMemsetD32Async", "cuStreamCreate", "cuStreamWaitEvent",
        "cuEventCreate", "cuEventRecord",
        "cuLaunchHostFunc", "cuModuleLoadData", "cuModuleGetFunction", "cuLaunchKernel",
        "nvrtcCreateProgram", "nvrtcCompileProgram", "nvrtcGetCUBINSize", "nvrtcGetCUBIN",
    ])
    func aFunctionThatFailsIsAnErrorThatNamesIt(_ function: String) throws {
        for number in 1...40 {
            var outcome: Result<Void, any Error> = .success(())
            var hasFailed = false
            let findings = CUDAEmulator.findings { emulator in
                emulator.fail(function, onCall: number, with: 999)
                outcome = Result { try scenario(emulator) }
                hasFailed = emulator.callCount(of: function) >= number
            }
            #expect(findings == [], "call \(number)")
            guard hasFailed else {
                #expect(number > 1, "the scenario never calls \(function)")
                if case .failure(let error) = outcome { throw error }
                return
            }
            guard case .failure(let error) = outcome else {
                Issue.record("call \(number) of \(function) failed and nobody was told")
                continue
            }
            #expect("\(error)".contains("999"), "call \(number): \(error)")
        }
    }

    @Test(arguments: ["cuStreamSynchronize", "cuEventSynchronize"])
    func aWaitThatFailsIsThrownAndSticks(_ function: String) throws {
        CUDAEmulator.run { emulator in
            let error = #expect(throws: DeviceError.self) {
                let device = try emulator.makeDevice(limitBytes: 1 << 20)
                let stream = try device.makeStream(name: "one")
                let event = try device.makeEvent()
                stream.record(event)
                emulator.fail(function, with: 719)
                if function == "cuEventSynchronize" {
                    try event.wait(deadline: nil)
                } else {
                    try stream.synchronise()
                }
            }
            #expect(error?.message.contains(function) == true)
            #expect(error?.message.contains("719") == true)
        }
    }

    /// Something of everything, in one go.
    private func scenario(_ emulator: CUDAEmulator) throws {
        let device = try emulator.makeDevice(limitBytes: 1 << 20)
        let (one, two) = (
            try device.makeStream(name: "one"), try device.makeStream(name: "two")
        )
        let event = try device.makeEvent()
        let memory = try device.allocate(byteCount: 8000, for: .localData)
        let host = try device.allocatePinned(byteCount: 4000, for: .localData)
        // Whatever went wrong: memory goes when nothing uses it any more.
        defer {
            one.close()
            two.close()
            _ = memory.byteCount + host.byteCount
        }
        one.fill(memory.floats, with: 2, count: 1000, label: "fill")
        one.zero(memory.address + 4000, byteCount: 4000)
        one.add(memory.floats, count: 1000, into: memory.floats + 1000, label: "add")
        one.record(event)
        two.wait(for: event)
        two.copy(
            from: memory.address, to: host.address, byteCount: 4000, direction: .deviceToHost)
        two.run {}
        two.record(event)
        try event.wait(deadline: nil)
        one.wait(for: event)
        one.copy(
            from: host.address, to: memory.address, byteCount: 4000, direction: .hostToDevice)
        one.copy(
            from: memory.address, to: memory.address + 4000, byteCount: 4000,
            direction: .deviceToDevice)
        try one.synchronise()
        try two.synchronise()
        #expect(host.floats[999] == 2)
    }

    @Test func anAbsentDriverIsOneSentence() {
        let error = #expect(throws: DeviceError.self) { try CUDADriver.load() }
        #expect(error?.code == .unavailable)
        #expect(error?.message.hasPrefix("found no NVIDIA driver: libcuda.so.1") == true)
    }

    @Test func anOldDriverNoGPUAndAWrongNumberAreOneSentenceEach() throws {
        var old = CUDAEmulator.Configuration()
        old.driverVersion = 11_080
        #expect(refusal(old)?.contains("driver for CUDA 11.8, expected one for 12.0") == true)
        var none = CUDAEmulator.Configuration()
        none.deviceCount = 0
        #expect(refusal(none)?.contains("found no NVIDIA GPU") == true)
        #expect(refusal(.init(), ordinal: 2)?.contains("cuda:2, expected cuda:0") == true)
    }

    private func refusal(
        _ configuration: CUDAEmulator.Configuration, ordinal: Int = 0
    ) -> String? {
        CUDAEmulator.run(configuration) { emulator -> String? in
            do throws(DeviceError) {
                _ = try emulator.makeDevice(ordinal: ordinal)
                return nil
            } catch {
                #expect(error.code == .unavailable)
                return error.message
            }
        }
    }

    @Test func theDevicesTimerMeasuresTheStreamsWork() throws {
        try onGPU { _, device in
            let stream = try device.makeStream(name: "timed")
            let timer = try #require(stream.makeTimer())
            for _ in 0..<3 {
                timer.start()
                stream.compute(nanoseconds: 4_000_000)
                timer.stop()
                stream.compute(nanoseconds: 20_000_000)
            }
            try stream.synchronise()
            let nanoseconds = timer.takeNanoseconds()
            #expect(nanoseconds >= 11_000_000)
            #expect(timer.takeNanoseconds() == 0)
        }
    }
}
