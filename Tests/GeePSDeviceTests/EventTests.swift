import GeePSCore
import GeePSDevice
import Synchronization
import Testing

@Suite struct EventTests {
    @Test func anEventNeverRecordedIsDone() throws {
        let device = HostDevice()
        let event = try device.makeEvent()
        let stream = try device.makeStream(name: "s")
        #expect(event.isDone)
        try event.wait()
        stream.wait(for: event)
        try stream.synchronise(deadline: patience)
    }

    @Test func anEventHappensWhenTheWorkBeforeItIsDone() throws {
        let device = HostDevice()
        let stream = try device.makeStream(name: "s")
        let event = try device.makeEvent()
        let gate = Gate()
        stream.run { gate.pass() }
        stream.record(event)
        #expect(!event.isDone)
        let error = #expect(throws: DeviceError.self) {
            try event.wait(deadline: .after(.milliseconds(2)))
        }
        #expect(error?.code == .deadline)
        gate.open()
        try event.wait(deadline: patience)
        #expect(event.isDone)
    }

    @Test func aWaitIsForTheMostRecentRecordAtTheTimeOfTheCall() throws {
        let device = HostDevice()
        let recorder = try device.makeStream(name: "recorder")
        let early = try device.makeStream(name: "early")
        let late = try device.makeStream(name: "late")
        let event = try device.makeEvent()
        let (first, second) = (Gate(), Gate())
        recorder.run { first.pass() }
        recorder.record(event)
        early.wait(for: event)
        recorder.run { second.pass() }
        recorder.record(event)
        late.wait(for: event)
        first.open()
        // Held by the first record only, although the event has been recorded again since.
        try early.synchronise(deadline: patience)
        #expect(!event.isDone)
        let error = #expect(throws: DeviceError.self) {
            try late.synchronise(deadline: .after(.milliseconds(2)))
        }
        #expect(error?.code == .deadline)
        second.open()
        try late.synchronise(deadline: patience)
        #expect(event.isDone)
    }

    @Test func anEventMayMoveToAnotherStream() throws {
        let device = HostDevice()
        let slow = try device.makeStream(name: "slow")
        let quick = try device.makeStream(name: "quick")
        let event = try device.makeEvent()
        let gate = Gate()
        slow.run { gate.pass() }
        slow.record(event)
        quick.wait(for: event)
        let follower = try device.makeStream(name: "follower")
        follower.record(event)
        // The last record is the follower's, which is free; the wait before was for the slow stream's.
        try event.wait(deadline: patience)
        let error = #expect(throws: DeviceError.self) {
            try quick.synchronise(deadline: .after(.milliseconds(2)))
        }
        #expect(error?.code == .deadline)
        gate.open()
        try quick.synchronise(deadline: patience)
    }

    /// One slot, written by one stream and read by another, `rounds` times.
    ///
    /// - Returns: how many reads found an old value.
    private func staleReads(rounds: Int, seed: UInt64, isAwaited: Bool) throws -> Int {
        let device = HostDevice(jitter: Jitter(seed: seed))
        let producer = try device.makeStream(name: "producer")
        let consumer = try device.makeStream(name: "consumer")
        let (written, read) = (try device.makeEvent(), try device.makeEvent())
        // Atomic, so that the planted bug is a wrong order and not a data race.
        let slot = Slot()
        for round in 1...rounds {
            producer.wait(for: read)
            producer.run { slot.value.store(round, ordering: .relaxed) }
            producer.record(written)
            if isAwaited { consumer.wait(for: written) }
            consumer.run {
                guard slot.value.load(ordering: .relaxed) < round else { return }
                slot.stale.add(1, ordering: .relaxed)
            }
            consumer.record(read)
        }
        try producer.synchronise(deadline: patience)
        try consumer.synchronise(deadline: patience)
        return slot.stale.load(ordering: .relaxed)
    }

    private final class Slot: Sendable {
        let value = Atomic(0)
        let stale = Atomic(0)
    }

    @Test(arguments: [1, 2, 3] as [UInt64])
    func jitterShowsAMissingWaitAndSparesProgramsThatWait(seed: UInt64) throws {
        #expect(try staleReads(rounds: 200, seed: seed, isAwaited: true) == 0)
        #expect(try staleReads(rounds: 200, seed: seed, isAwaited: false) > 0)
    }

    @Test(arguments: [11, 12, 13] as [UInt64])
    func twoStreamsHandDataOverThroughOneBuffer(seed: UInt64) throws {
        let device = HostDevice(jitter: Jitter(seed: seed, delayMicrosecondsMaximum: 100))
        let upward = try device.makeStream(name: "in")
        let downward = try device.makeStream(name: "out")
        let (filled, emptied) = (try device.makeEvent(), try device.makeEvent())
        let (count, rounds) = (1000, 50)
        let bytes = count * MemoryLayout<Float>.stride
        let source = try device.allocatePinned(byteCount: rounds * bytes, for: .localData)
        let target = try device.allocatePinned(byteCount: rounds * bytes, for: .localData)
        let middle = try device.allocate(byteCount: bytes, for: .accessBuffers)
        for value in 0..<rounds * count { source.floats[value] = Float(value) }
        for round in 0..<rounds {
            upward.wait(for: emptied)
            upward.copy(
                from: source.address + round * bytes, to: middle.address, byteCount: bytes,
                direction: .hostToDevice)
            upward.record(filled)
            downward.wait(for: filled)
            downward.copy(
                from: middle.address, to: target.address + round * bytes, byteCount: bytes,
                direction: .deviceToHost)
            downward.record(emptied)
        }
        try emptied.wait(deadline: patience)
        #expect((0..<rounds * count).allSatisfy { target.floats[$0] == Float($0) })
        var traffic = CopyTraffic()
        traffic.hostToDeviceBytes = rounds * bytes
        traffic.deviceToHostBytes = rounds * bytes
        traffic.copies = 2 * rounds
        #expect(device.traffic == traffic)
    }

    @Test func manyThreadsShareStreamsAndEvents() throws {
        let device = HostDevice(jitter: Jitter(seed: 5, delayMicrosecondsMaximum: 20))
        let streams = try (0..<3).map { try device.makeStream(name: "shared-\($0)") }
        let event = try device.makeEvent()
        let sum = Slot()
        let threads = (0..<4).map { thread in
            DedicatedThread(name: "user") {
                for round in 0..<50 {
                    let stream = streams[(thread + round) % 3]
                    stream.run { sum.value.add(1, ordering: .relaxed) }
                    stream.record(event)
                    streams[(thread + round + 1) % 3].wait(for: event)
                    if round % 10 == 0 { try? event.wait(deadline: patience) }
                }
            }
        }
        for thread in threads { thread.join() }
        for stream in streams { try stream.synchronise(deadline: patience) }
        let total = sum.value.load(ordering: .relaxed)
        #expect(total == 200)
        #expect(event.isDone)
    }
}
