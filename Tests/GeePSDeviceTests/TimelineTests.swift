import GeePSCore
import GeePSDevice
import Testing

@Suite struct TimelineTests {
    @Test func streamsLeaveASpanForEachOperationInOrder() throws {
        let timeline = Timeline()
        let device = HostDevice(timeline: timeline)
        let first = try device.makeStream(name: "first")
        let second = try device.makeStream(name: "second")
        let event = try device.makeEvent()
        let a = try device.allocate(byteCount: 64, for: .localData)
        let b = try device.allocate(byteCount: 64, for: .localData)
        first.copy(
            from: a.address, to: b.address, byteCount: 48, direction: .deviceToDevice,
            label: "layer 3")
        first.compute(nanoseconds: 1000, label: "forward")
        first.record(event)
        second.wait(for: event)
        second.zero(a.address, byteCount: 64)
        try second.synchronise(deadline: patience)
        let spans = timeline.spans
        try #require(spans.count == 4)
        #expect(spans.map(\.track) == ["first", "first", "second", "second"])
        #expect(spans.map(\.operation) == ["copy device to device", "compute", "wait", "fill"])
        #expect(spans.map(\.label) == ["layer 3", "forward", "", ""])
        #expect(spans.map(\.byteCount) == [48, 0, 0, 0])
        #expect(spans.allSatisfy { $0.startNanoseconds <= $0.endNanoseconds })
        #expect(spans[0].endNanoseconds <= spans[1].startNanoseconds)
        #expect(spans[1].endNanoseconds <= spans[2].endNanoseconds)
        #expect(spans[2].endNanoseconds <= spans[3].startNanoseconds)
    }

    @Test func nothingIsKeptWhileItIsOff() throws {
        let timeline = Timeline(isRecording: false)
        let stream = try HostDevice(timeline: timeline).makeStream(name: "s")
        stream.run {}
        try stream.synchronise(deadline: patience)
        #expect(timeline.spans.isEmpty)
        timeline.isRecording = true
        stream.run(label: "on") {}
        try stream.synchronise(deadline: patience)
        #expect(timeline.spans.map(\.label) == ["on"])
    }

    @Test func aFullTrackKeepsItsFirstSpansAndCountsTheOthers() {
        let timeline = Timeline(capacityPerTrack: 2)
        let track = timeline.makeTrack(name: "application")
        for number in 0..<5 {
            track.add(
                operation: "host", label: "\(number)", startNanoseconds: 0, endNanoseconds: 1)
        }
        #expect(timeline.spans.map(\.label) == ["0", "1"])
        #expect(timeline.droppedSpans == 3)
        timeline.clear()
        #expect(timeline.spans.isEmpty && timeline.droppedSpans == 0)
    }
}
