import GeePSCore
import Testing

@testable import GeePSDevice

@Suite struct EmulationTests {
    private static let slow = LinkEmulation(bytesPerSecond: 200e6, latencyNanoseconds: 20_000)

    @Test func twiceTheBytesTakeTwiceTheTimeAndPageableMemoryItsShare() {
        let link = LinkEmulation(
            bytesPerSecond: 1e9, latencyNanoseconds: 100, pageableShare: 0.25)
        #expect(link.copyNanoseconds(byteCount: 0, isPageable: false) == 100)
        #expect(link.copyNanoseconds(byteCount: 5_000, isPageable: false) == 5_100)
        #expect(link.copyNanoseconds(byteCount: 10_000, isPageable: false) == 10_100)
        #expect(link.copyNanoseconds(byteCount: 5_000, isPageable: true) == 20_100)
    }

    @Test func anEngineDoesOneCopyAtATime() {
        let engine = CopyEngine()
        #expect(engine.reserve(100, now: 1000) == 1100)
        #expect(engine.reserve(50, now: 1010) == 1150)
        #expect(engine.reserve(50, now: 2000) == 2050)
    }

    @Test(arguments: CopyDirection.allCases, [true, false])
    func aCopyNeverTakesLessThanItsBytesOverTheBandwidth(
        direction: CopyDirection, isPinned: Bool
    ) throws {
        let device = HostDevice(pinnedLimitBytes: isPinned ? nil : 0, link: Self.slow)
        let stream = try device.makeStream(name: "copy")
        let bytes = 400_000
        let source = try device.allocateHost(
            byteCount: bytes, for: .localData, preferPinned: true)
        let target = try device.allocateHost(
            byteCount: bytes, for: .localData, preferPinned: true)
        let isSourcePinned = source.isPinned
        #expect(isSourcePinned == isPinned)
        for value in 0..<bytes / 4 { source.floats[value] = Float(value) }
        let start = monotonicNanoseconds()
        stream.copy(
            from: source.address, to: target.address, byteCount: bytes, direction: direction)
        try stream.synchronise(deadline: patience)
        let taken = monotonicNanoseconds() - start
        #expect((0..<bytes / 4).allSatisfy { target.floats[$0] == Float($0) })
        let crossesLink = direction != .deviceToDevice
        #expect(taken >= (crossesLink ? (isPinned ? 2_020_000 : 4_020_000) : 0))
        #expect(device.traffic.pageableBytes == (crossesLink && !isPinned ? bytes : 0))
    }

    @Test func copiesOfOneDirectionShareTheLinkAcrossStreams() throws {
        let device = HostDevice(link: Self.slow)
        let streams = try (0..<2).map { try device.makeStream(name: "in-\($0)") }
        let bytes = 400_000
        let source = try device.allocatePinned(byteCount: 2 * bytes, for: .localData)
        let target = try device.allocate(byteCount: 2 * bytes, for: .localData)
        let start = monotonicNanoseconds()
        for (index, stream) in streams.enumerated() {
            stream.copy(
                from: source.address + index * bytes, to: target.address + index * bytes,
                byteCount: bytes, direction: .hostToDevice)
        }
        for stream in streams { try stream.synchronise(deadline: patience) }
        #expect(monotonicNanoseconds() - start >= 4_040_000)
    }

    @Test func copiesOfBothDirectionsRunAtTheSameTime() throws {
        let timeline = Timeline()
        let device = HostDevice(
            link: LinkEmulation(bytesPerSecond: 1e6), timeline: timeline)
        let upward = try device.makeStream(name: "in")
        let downward = try device.makeStream(name: "out")
        let bytes = 200_000
        let host = try device.allocatePinned(byteCount: 2 * bytes, for: .localData)
        let inside = try device.allocate(byteCount: 2 * bytes, for: .localData)
        // Each takes 200 ms: only a thread held up for that long would keep them apart.
        let start = monotonicNanoseconds()
        upward.copy(
            from: host.address, to: inside.address, byteCount: bytes, direction: .hostToDevice)
        downward.copy(
            from: inside.address + bytes, to: host.address + bytes, byteCount: bytes,
            direction: .deviceToHost)
        try upward.synchronise(deadline: patience)
        try downward.synchronise(deadline: patience)
        let spans = timeline.spans
        #expect(spans.map(\.operation) == ["copy host to device", "copy device to host"])
        #expect(spans.allSatisfy { $0.endNanoseconds - start >= 200_000_000 })
        try #require(spans.count == 2)
        #expect(spans[1].startNanoseconds < spans[0].endNanoseconds)
        #expect(spans[0].startNanoseconds < spans[1].endNanoseconds)
    }

    @Test func pinnedCopiesReturnAtOnceAndPageableOnesWhenDone() throws {
        let device = HostDevice(link: Self.slow)
        let stream = try device.makeStream(name: "staged")
        let pinned = try device.allocatePinned(byteCount: 64, for: .localData)
        let pageable = try device.allocateHost(
            byteCount: 64, for: .localData, preferPinned: false)
        let inside = try device.allocate(byteCount: 64, for: .localData)
        let gate = Gate()
        stream.run { gate.pass() }
        stream.copy(
            from: pinned.address, to: inside.address, byteCount: 64, direction: .hostToDevice)
        // Returned although the stream is held up before it.
        #expect(device.traffic.copies == 0)
        gate.open()
        stream.copy(
            from: inside.address, to: pageable.address, byteCount: 64, direction: .deviceToHost)
        #expect(device.traffic.copies == 2)
    }

    @Test func emulatedComputeKeepsTheStreamBusyForItsTime() throws {
        let stream = try HostDevice().makeStream(name: "compute")
        let start = monotonicNanoseconds()
        stream.compute(nanoseconds: 1_500_000)
        stream.run {}
        stream.compute(nanoseconds: 500_000)
        try stream.synchronise(deadline: patience)
        #expect(monotonicNanoseconds() - start >= 2_000_000)
    }

    @Test func workThatWaitsForAnEventTakesItsTimeAfterTheEvent() throws {
        let device = HostDevice(link: LinkEmulation(bytesPerSecond: 1e9))
        let upward = try device.makeStream(name: "in")
        let layers = try device.makeStream(name: "layers")
        let (ready, done) = (try device.makeEvent(), try device.makeEvent())
        let host = try device.allocatePinned(byteCount: 500_000, for: .localData)
        let inside = try device.allocate(byteCount: 500_000, for: .localData)
        let start = monotonicNanoseconds()
        // A chain of four copies and four layers, which cannot overlap.
        for _ in 0..<4 {
            upward.wait(for: done)
            upward.copy(
                from: host.address, to: inside.address, byteCount: 500_000,
                direction: .hostToDevice)
            upward.record(ready)
            layers.wait(for: ready)
            layers.compute(nanoseconds: 500_000)
            layers.record(done)
        }
        try done.wait(deadline: patience)
        #expect(monotonicNanoseconds() - start >= 8 * 500_000)
    }

    @Test func jitterDependsOnSeedAndStreamOnly() {
        func delays(_ seed: UInt64, _ name: String) -> [UInt64] {
            var sequence = JitterSequence(
                Jitter(seed: seed, delayMicrosecondsMaximum: 100), streamName: name)
            return (0..<1000).map { _ in sequence.next() }
        }
        #expect(delays(1, "in") == delays(1, "in"))
        #expect(delays(1, "in") != delays(2, "in"))
        #expect(delays(1, "in") != delays(1, "out"))
        #expect(delays(1, "in").allSatisfy { $0 < 100_000 })
        let atOnce = delays(1, "in").count { $0 == 0 }
        #expect((400..<600).contains(atOnce))
    }
}
