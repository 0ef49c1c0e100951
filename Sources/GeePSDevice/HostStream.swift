import GeePSCore

/// The host device's stream: a bounded queue and the thread that empties it.
///
/// A copy that finds the stream idle is made by who asks for it: a thread would not be worth its wake, and whoever copies
/// much at a time has a thread for it anyway.
final class HostStream: DeviceStream, @unchecked Sendable {
    // Sendable: `enqueued` and `isClosed` are guarded by `order`; the rest is constant after init.
    let name: String
    private let device: HostDevice
    private let queue: Mailbox<StreamCommand>
    private let progress: StreamProgress
    // Held over the send, so that numbers follow the order of the queue; who waits for it while the queue
    // is full would have to wait for the queue.
    private let order = Signal()
    private var enqueued: UInt64 = 0
    private var isClosed = false
    private let thread: DedicatedThread

    init(name: String, device: HostDevice) {
        self.name = name
        self.device = device
        let queue = Mailbox<StreamCommand>(capacity: device.streamCapacity)
        let progress = StreamProgress(streamName: name)
        self.queue = queue
        self.progress = progress
        let first = StreamWorker(name: name, device: device, progress: progress)
        // The thread owns the queue, not the stream: dropping the stream ends it.
        thread = DedicatedThread(name: name) {
            var worker = first
            while let command = queue.receive() { worker.perform(command) }
        }
    }

    deinit { close() }

    func copy(
        from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int,
        direction: CopyDirection, label: String
    ) {
        precondition(byteCount >= 0, "asked to copy \(byteCount) bytes")
        let isPageable =
            switch direction {
            case .hostToDevice: !device.isPinned(source, byteCount: byteCount)
            case .deviceToHost: !device.isPinned(target, byteCount: byteCount)
            case .deviceToDevice: false
            }
        let copy = StreamCommand.Copy(
            source: source, target: target, byteCount: byteCount, direction: direction,
            isPageable: isPageable)
        if performAtOnce({ copy.perform(on: device) }) != nil { return }
        let position = enqueue(.copy(copy), label)
        // As a GPU does: pageable memory is staged before the call returns.
        if isPageable, device.link != nil { _ = try? progress.wait(for: position, deadline: nil) }
    }

    func zero(_ target: UnsafeMutableRawPointer, byteCount: Int, label: String) {
        enqueue(.zero(target, byteCount: byteCount), label)
    }

    func fill(
        _ target: UnsafeMutablePointer<Float>, with value: Float, count: Int, label: String
    ) {
        enqueue(.fill(target, value, count: count), label)
    }

    func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>, label: String
    ) {
        let rows = StreamCommand.Rows(
            source: source, indexes: indexes, count: count, rowWidth: rowWidth, target: target)
        enqueue(.gatherRows(rows), label)
    }

    func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>, label: String
    ) {
        let rows = StreamCommand.Rows(
            source: source, indexes: indexes, count: count, rowWidth: rowWidth, target: target)
        enqueue(.scatterAddRows(rows), label)
    }

    func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>,
        label: String
    ) {
        enqueue(.add(source, count: count, target), label)
    }

    func scale(_ target: UnsafeMutablePointer<Float>, by factor: Float, count: Int, label: String) {
        enqueue(.scale(target, factor, count: count), label)
    }

    func run(label: String, _ body: @escaping @Sendable () throws(DeviceError) -> Void) {
        enqueue(.run(body), label)
    }

    func compute(nanoseconds: UInt64, label: String) {
        enqueue(.compute(nanoseconds: nanoseconds), label)
    }

    func record(_ event: any DeviceEvent) {
        let event = own(event)
        let position = performAtOnce {} ?? enqueue(.mark, "")
        event.mark = StreamMark(progress: progress, position: position)
    }

    func wait(for event: any DeviceEvent) {
        guard let mark = own(event).mark, mark.progress !== progress else { return }
        if !isPlayedOut, mark.progress.hasReachedInOrder(mark.position) { return }
        enqueue(.wait(mark), "")
    }

    func synchronise(deadline: Deadline?) throws(DeviceError) {
        try progress.wait(for: order.withLock { enqueued }, deadline: deadline)
    }

    func close() {
        let last = order.withLock { () -> UInt64 in
            isClosed = true
            return enqueued
        }
        queue.close()
        thread.join()
        // Somebody may be at work on his own thread.
        progress.reach(last)
    }

    var fullWaits: UInt64 { queue.fullWaits }

    private func own(_ event: any DeviceEvent) -> HostEvent {
        guard let event = event as? HostEvent else {
            preconditionFailure("stream \(name) of the host got an event of another device")
        }
        return event
    }

    /// Does `work` on the caller's thread where nothing is before it; what comes behind waits for it.
    ///
    /// - Returns: its number; nil: it has to be queued.
    private func performAtOnce(_ work: () -> Void) -> UInt64? {
        guard !isPlayedOut else { return nil }
        let position = order.withLock { () -> UInt64? in
            guard !isClosed, progress.hasReachedInOrder(enqueued) else { return nil }
            enqueued += 1
            return enqueued
        }
        guard let position else { return nil }
        work()
        progress.advance(nil, emulatedEnd: nil)
        return position
    }

    /// Work takes as long as it would elsewhere, or is shown in a timeline: all of it goes through the queue.
    private var isPlayedOut: Bool {
        device.link != nil || device.jitter != nil || device.timeline?.isRecording == true
    }

    /// - Returns: the operation's number.
    @discardableResult
    private func enqueue(_ operation: StreamCommand.Operation, _ label: String) -> UInt64 {
        order.lock()
        defer { order.unlock() }
        precondition(!isClosed, "stream \(name) was closed and got work afterwards")
        enqueued += 1
        queue.send(
            StreamCommand(
                operation: operation, position: enqueued, label: label,
                enqueuedNanoseconds: isEmulated(operation) ? monotonicNanoseconds() : 0))
        return enqueued
    }

    private func isEmulated(_ operation: StreamCommand.Operation) -> Bool {
        switch operation {
        case .compute: true
        case .copy: device.link != nil
        default: false
        }
    }
}
