import GeePSCore
import GeePSDevice
import Synchronization
import Testing

@Suite struct StreamTests {
    @Test(arguments: [1, 2, 3] as [UInt64])
    func operationsOfAStreamRunInOrder(seed: UInt64) throws {
        let device = HostDevice(jitter: Jitter(seed: seed))
        let stream = try device.makeStream(name: "order")
        let notes = Notes()
        for number in 0..<100 { stream.run { notes.add(number) } }
        try stream.synchronise(deadline: patience)
        #expect(notes.all == Array(0..<100))
    }

    @Test func everyOperationDoesWhatItsTwinOnTheCallersThreadDoes() throws {
        let device = HostDevice()
        let stream = try device.makeStream(name: "kernels")
        let table = try device.allocate(byteCount: 64, for: .parameterCache)
        let target = try device.allocate(byteCount: 64, for: .accessBuffers)
        let indexes = try device.allocate(byteCount: 64, for: .indexes)
        let entries = indexes.address.assumingMemoryBound(to: UInt32.self)
        (entries[0], entries[1]) = (3, 1)
        for value in 0..<16 { table.floats[value] = Float(value) }
        // Rows of 4: target = rows 3 and 1 of the table, then added to itself, then back to the table.
        stream.fill(target.floats, with: 7, count: 16, label: "")
        stream.zero(target.address + 32, byteCount: 16)
        stream.gatherRows(
            table.floats, indexes: entries, count: 2, rowWidth: 4, into: target.floats, label: "")
        stream.copy(
            from: target.address, to: target.address + 48, byteCount: 16,
            direction: .deviceToDevice)
        stream.add(target.floats + 4, count: 4, into: target.floats, label: "")
        stream.scatterAddRows(
            target.floats, indexes: entries, count: 2, rowWidth: 4, into: table.floats, label: "")
        try stream.synchronise(deadline: patience)
        let found = (0..<16).map { target.floats[$0] }
        #expect(found == [16, 18, 20, 22, 4, 5, 6, 7, 0, 0, 0, 0, 12, 13, 14, 15])
        let rows = (0..<16).map { table.floats[$0] }
        #expect(rows == [0, 1, 2, 3, 8, 10, 12, 14, 8, 9, 10, 11, 28, 31, 34, 37])
    }

    @Test func aCopyOnAnIdleStreamIsMadeByWhoAsksForItAndWorkBehindItWaits() throws {
        let device = HostDevice()
        let stream = try device.makeStream(name: "idle")
        let event = try device.makeEvent()
        let memory = try device.allocate(byteCount: 64, for: .accessBuffers)
        memory.floats[0] = 1
        stream.copy(
            from: memory.address, to: memory.address + 4, byteCount: 4, direction: .deviceToDevice)
        stream.record(event)
        #expect(event.isDone && memory.floats[1] == 1)
        // With something before it, it waits for its turn.
        let gate = Gate()
        stream.run { gate.pass() }
        stream.copy(
            from: memory.address, to: memory.address + 8, byteCount: 4, direction: .deviceToDevice)
        stream.record(event)
        #expect(!event.isDone && memory.floats[2] == 0)
        gate.open()
        try event.wait(deadline: patience)
        #expect(memory.floats[2] == 1)
    }

    @Test func whatComesBehindACopyOnAnotherThreadWaitsForIt() throws {
        let device = HostDevice()
        let stream = try device.makeStream(name: "shared")
        let count = 1 << 24
        let memory = try device.allocate(byteCount: 8 * count, for: .accessBuffers)
        let (source, target) = (memory.floats, HostPointer(memory.floats + count))
        for index in 0..<count { source[index] = 1 }
        let from = HostPointer(source)
        let copier = DedicatedThread(name: "copier") {
            stream.copy(
                from: from.floats, to: target.floats, byteCount: 4 * count,
                direction: .deviceToDevice)
        }
        // It is at work, for some ten milliseconds.
        #expect(waits { target.floats[count / 8] == 1 })
        let unfinished = Notes()
        stream.run { if target.floats[count - 1] != 1 { unfinished.add(1) } }
        copier.join()
        try stream.synchronise(deadline: patience)
        #expect(unfinished.all == [])
    }

    @Test func aFullQueueHoldsTheCallerAndIsCounted() throws {
        let device = HostDevice(streamCapacity: 4)
        let stream = try device.makeStream(name: "full")
        let gate = Gate()
        let begun = Gate()
        stream.run {
            begun.open()
            gate.pass()
        }
        begun.pass()
        for _ in 0..<4 { stream.run {} }
        #expect(stream.fullWaits == 0)
        let hasReturned = Atomic(false)
        let caller = DedicatedThread(name: "caller") {
            stream.run {}
            hasReturned.store(true, ordering: .sequentiallyConsistent)
        }
        #expect(waits { stream.fullWaits == 1 })
        let isBack = hasReturned.load(ordering: .sequentiallyConsistent)
        #expect(!isBack)
        gate.open()
        caller.join()
        try stream.synchronise(deadline: patience)
        #expect(stream.fullWaits == 1)
    }

    @Test func synchroniseGivesUpAtItsDeadlineAndTheWorkGoesOn() throws {
        let stream = try HostDevice().makeStream(name: "slow")
        let gate = Gate()
        let notes = Notes()
        stream.run { gate.pass() }
        stream.run { notes.add(1) }
        let error = #expect(throws: DeviceError.self) {
            try stream.synchronise(deadline: .after(.milliseconds(5)))
        }
        #expect(error?.code == .deadline)
        #expect(error?.message.contains("slow") == true)
        gate.open()
        try stream.synchronise(deadline: patience)
        #expect(notes.all == [1])
    }

    @Test func aFailureSticksAndReachesWhoeverDependsOnIt() throws {
        let device = HostDevice()
        let failing = try device.makeStream(name: "failing")
        let dependent = try device.makeStream(name: "dependent")
        let bystander = try device.makeStream(name: "bystander")
        let (before, after) = (try device.makeEvent(), try device.makeEvent())
        let notes = Notes()
        failing.record(before)
        failing.run { () throws(DeviceError) in throw DeviceError(.failed, "planted") }
        failing.run { notes.add(1) }
        failing.record(after)
        dependent.wait(for: after)
        dependent.run { notes.add(2) }
        bystander.wait(for: before)
        bystander.run { notes.add(3) }

        try before.wait(deadline: patience)
        let seen = #expect(throws: DeviceError.self) { try after.wait(deadline: patience) }
        #expect(seen?.message == "planted")
        for _ in 0..<2 {
            let own = #expect(throws: DeviceError.self) { try failing.synchronise() }
            #expect(own?.code == .failed)
        }
        let taken = #expect(throws: DeviceError.self) { try dependent.synchronise() }
        #expect(taken?.message.contains("stream failing, which failed: planted") == true)
        try bystander.synchronise(deadline: patience)
        #expect(notes.all == [3])
        #expect(after.isDone)
    }

    @Test func droppingAStreamDoesItsWorkAndEndsItsThread() throws {
        let device = HostDevice(jitter: Jitter(seed: 4))
        let notes = Notes()
        do {
            let streams = try (0..<3).map { try device.makeStream(name: "dropped-\($0)") }
            for stream in streams {
                for number in 0..<20 { stream.run { notes.add(number) } }
            }
            #expect(waits { threadCount(named: "dropped-") == 3 })
        }
        #expect(notes.all.count == 60)
        #expect(waits { threadCount(named: "dropped-") == 0 })
    }

    @Test func aClosedStreamTakesNoMoreWork() async {
        await #expect(processExitsWith: .failure) {
            let stream = try HostDevice().makeStream(name: "closed")
            stream.close()
            stream.close()
            stream.run {}
        }
    }
}

/// An address that threads of a test share.
private struct HostPointer: @unchecked Sendable {
    // Sendable: a value; the stream orders what is done with the memory.
    let floats: UnsafeMutablePointer<Float>
    init(_ floats: UnsafeMutablePointer<Float>) { self.floats = floats }
}
