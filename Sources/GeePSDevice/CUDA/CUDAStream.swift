public import CGeePSShims
public import GeePSCore
import Synchronization

/// A stream of a GPU.
///
/// What the driver refuses when it is asked sticks at once, and nothing is put on the stream afterwards. What
/// fails later, a closure or a kernel, is known when it has happened: what the driver has taken by then runs on, but
/// closures behind a failed one are dropped, and waits throw it.
public final class CUDAStream: DeviceStream {
    /// For messages.
    public let name: String
    /// Whose stream it is.
    public let device: CUDADevice
    /// The driver's handle, valid until `close`; nil is the default stream, which may be adopted.
    public var handle: geeps_cu_stream? {
        // Relaxed: the thread that puts work here is the one that follows another stream.
        OpaquePointer(bitPattern: address.load(ordering: .relaxed))
    }
    let failure: StreamFailure
    private let address: Atomic<UInt>
    private let isAdopted: Bool
    private let isClosed = Atomic(false)
    // Made at the first work that is to leave a span.
    private let trace = Mutex<CUDATrace?>(nil)

    init(name: String, device: CUDADevice) throws(DeviceError) {
        self.name = name
        self.device = device
        failure = StreamFailure(streamName: name)
        address = Atomic(UInt(bitPattern: try device.context.makeStreamHandle()))
        isAdopted = false
    }

    /// A stream that somebody else has made, and ends: work of both is in one order.
    ///
    /// - Parameter handle: alive as long as it is followed; nil is the default stream.
    init(adopting handle: geeps_cu_stream?, name: String, device: CUDADevice) {
        self.name = name
        self.device = device
        failure = StreamFailure(streamName: name)
        address = Atomic(UInt(bitPattern: handle))
        isAdopted = true
    }

    deinit { close() }

    /// Goes on, on another stream of somebody else's, behind what was put on the one before.
    ///
    /// - Precondition: the stream was adopted; one thread at a time follows and puts work here.
    public func follow(_ next: geeps_cu_stream?) throws(DeviceError) {
        precondition(isAdopted, "stream \(name) is the device's own")
        guard next != handle else { return }
        let event = try CUDAEvent(device.context)
        record(event)
        address.store(UInt(bitPattern: next), ordering: .relaxed)
        wait(for: event)
    }

    private var queue: CUDAQueue {
        CUDAQueue(context: device.context, kernels: device.kernels, handle: handle)
    }

    // MARK: Work

    /// Makes the context current and runs `body`, which puts work on the stream, unless the stream has failed.
    ///
    /// What `body` throws sticks to the stream. For libraries on top, which take `handle` or are bound to it.
    public func perform(
        label: String, _ body: (geeps_cu_stream?) throws(DeviceError) -> Void
    ) {
        perform("compute", label: label, body)
    }

    /// The same, as a timeline shows it: `operation` is nil for what is not worth a span.
    func perform(
        _ operation: String?, label: String, byteCount: Int = 0,
        _ body: (geeps_cu_stream?) throws(DeviceError) -> Void
    ) {
        // Relaxed: who closes a stream has seen to it that nobody uses it any more.
        precondition(
            !isClosed.load(ordering: .relaxed), "stream \(name) was closed and got work afterwards")
        guard !failure.isSet else { return }
        do throws(DeviceError) {
            try device.context.makeCurrent()
            guard let operation, let trace = try currentTrace() else { return try body(handle) }
            try trace.around(handle, operation: operation, label: label, byteCount: byteCount) {
                () throws(DeviceError) in try body(handle)
            }
        } catch {
            let what = label.isEmpty ? "" : "\(label): "
            failure.note(DeviceError(error.code, "stream \(name): \(what)\(error.message)"))
        }
    }

    private func currentTrace() throws(DeviceError) -> CUDATrace? {
        guard let timeline = device.timeline else { return nil }
        return try trace.withLock { trace throws(DeviceError) in
            if trace == nil {
                trace = try CUDATrace(
                    device.context, handle: handle, name: "\(device.name) \(name)",
                    timeline: timeline)
            }
            return trace
        }
    }

    /// Launches a kernel of `CUDACompiler.source` over `count` items; arguments in the kernel's order and types.
    ///
    /// - Complexity: nothing is allocated.
    public func launch<each Argument: BitwiseCopyable>(
        _ kernel: String, count: Int, label: String, _ arguments: repeat each Argument
    ) {
        perform(label: label) { _ throws(DeviceError) in
            try queue.launch(kernel, count: count, repeat each arguments)
        }
    }

    /// Copies `byteCount` bytes; pageable memory of the host is staged by the driver.
    public func copy(
        from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int,
        direction: CopyDirection, label: String
    ) {
        precondition(byteCount >= 0, "asked to copy \(byteCount) bytes")
        perform(
            direction.operation, label: label, byteCount: byteCount
        ) { _ throws(DeviceError) in
            try queue.copy(from: source, to: target, byteCount: byteCount, direction: direction)
            device.countCopy(from: source, to: target, byteCount: byteCount, direction: direction)
        }
    }

    /// Sets `byteCount` bytes to zero.
    public func zero(_ target: UnsafeMutableRawPointer, byteCount: Int, label: String) {
        perform("kernel", label: label) { _ throws(DeviceError) in
            try queue.zero(target, byteCount: byteCount)
        }
    }

    /// Sets `count` values to `value`.
    public func fill(
        _ target: UnsafeMutablePointer<Float>, with value: Float, count: Int, label: String
    ) {
        perform("kernel", label: label) { _ throws(DeviceError) in
            try queue.fill(target, with: value, count: count)
        }
    }

    /// `target[j] = source[indexes[j]]`.
    public func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>, label: String
    ) {
        perform("kernel", label: label) { _ throws(DeviceError) in
            try queue.gatherRows(
                source, indexes: indexes, count: count, rowWidth: rowWidth, into: target)
        }
    }

    /// `target[indexes[j]] += source[j]`; the order in which rows of one index are added is not fixed.
    public func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>, label: String
    ) {
        perform("kernel", label: label) { _ throws(DeviceError) in
            try queue.scatterAddRows(
                source, indexes: indexes, count: count, rowWidth: rowWidth, into: target)
        }
    }

    /// `target += source`.
    public func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>,
        label: String
    ) {
        perform("kernel", label: label) { _ throws(DeviceError) in
            try queue.add(source, count: count, into: target)
        }
    }

    /// `target *= factor`.
    public func scale(
        _ target: UnsafeMutablePointer<Float>, by factor: Float, count: Int, label: String
    ) {
        perform("kernel", label: label) { _ throws(DeviceError) in
            try queue.scale(target, by: factor, count: count)
        }
    }

    /// Runs `body` in its turn, on a thread of the driver's, which must not call CUDA.
    ///
    /// - Complexity: one allocation, which carries the closure to that thread.
    public func run(label: String, _ body: @escaping @Sendable () throws(DeviceError) -> Void) {
        perform("host function", label: label) { handle throws(DeviceError) in
            let work = Unmanaged.passRetained(HostWork(body, label: label, failure: failure))
            let status = device.driver.functions.cuLaunchHostFunc(
                handle, { HostWork.perform($0) }, work.toOpaque())
            guard status != 0 else { return }
            work.release()
            try device.context.check(status, "cuLaunchHostFunc", "take a function of the host")
        }
    }

    /// Keeps the stream busy, by a function of the host that sleeps: other streams' kernels are not slowed down.
    public func compute(nanoseconds: UInt64, label: String) {
        run(label: label) { () throws(DeviceError) in
            sleepPrecisely(until: monotonicNanoseconds() + nanoseconds)
        }
    }

    // MARK: Order

    /// Lets `event` happen when everything put here before is done.
    public func record(_ event: any DeviceEvent) {
        let event = own(event)
        event.noteRecord(by: failure)
        perform(nil, label: "") { handle throws(DeviceError) in
            try device.context.check(
                device.driver.functions.cuEventRecord(event.handle, handle), "cuEventRecord",
                "record an event")
        }
    }

    /// Holds what is put here afterwards until the most recent record of `event` has happened.
    public func wait(for event: any DeviceEvent) {
        let event = own(event)
        if let source = event.source, source !== failure { failure.depend(on: source) }
        perform(nil, label: "") { handle throws(DeviceError) in
            try device.context.check(
                device.driver.functions.cuStreamWaitEvent(handle, event.handle, 0),
                "cuStreamWaitEvent", "wait for an event")
        }
    }

    /// Waits until everything put here is done.
    ///
    /// Where something has failed, too: what was put here before may still be at work, on memory that the caller
    /// is about to free.
    public func synchronise(deadline: Deadline?) throws(DeviceError) {
        let context = device.context
        try context.makeCurrent()
        let functions = device.driver.functions
        let status: Int32
        if let deadline {
            guard let answer = context.poll(until: deadline, { functions.cuStreamQuery(handle) })
            else {
                try failure.check()
                throw DeviceError(.deadline, "stream \(name): waited in vain for its work")
            }
            status = answer
        } else {
            status = functions.cuStreamSynchronize(handle)
        }
        if status != 0 {
            failure.note(device.driver.error(status, "cuStreamSynchronize", "stream \(name)"))
        }
        try failure.check()
        trace.withLock { $0 }?.collect()
    }

    /// Does what is queued, then ends the stream, unless that is adopted; idempotent.
    public func close() {
        // Acquire and release: what was put here before is seen by who closes.
        guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
        guard !isAdopted, (try? device.context.makeCurrent()) != nil else { return }
        _ = device.driver.functions.cuStreamSynchronize(handle)
        trace.withLock { $0 }?.collect()
        _ = device.driver.functions.cuStreamDestroy_v2(handle)
    }

    /// Zero: the driver's queue has no bound that it tells.
    public var fullWaits: UInt64 { 0 }

    /// A timer by events of the device.
    public func makeTimer() -> (any StreamTimer)? { CUDATimer(self) }

    private func own(_ event: any DeviceEvent) -> CUDAEvent {
        guard let event = event as? CUDAEvent else {
            preconditionFailure("stream \(name) of \(device.name) got an event of another device")
        }
        return event
    }
}

/// What has failed on a stream, shared with the events recorded there and the closures put there.
final class StreamFailure: Sendable {
    let streamName: String
    private let state = Mutex(State())
    // Only a hint: set with the error, and looked at without the lock for every operation.
    private let hasError = Atomic(false)

    private struct State {
        var error: DeviceError?
        // Streams that this one has waited for; their failures are its own.
        var sources: [StreamFailure] = []
    }

    init(streamName: String) { self.streamName = streamName }

    /// Whether this stream has failed, as far as is known.
    var isSet: Bool { hasError.load(ordering: .relaxed) }

    /// Keeps `error` unless there is one.
    func note(_ error: DeviceError) {
        state.withLock { if $0.error == nil { $0.error = error } }
        hasError.store(true, ordering: .relaxed)
    }

    /// Takes over the failure of a stream that is waited for, now or when it becomes known.
    func depend(on source: StreamFailure) {
        if let error = source.own { return takeOver(error, from: source) }
        state.withLock { state in
            if !state.sources.contains(where: { $0 === source }) { state.sources.append(source) }
        }
    }

    /// - Throws: what has failed here or on a stream that was waited for.
    func check() throws(DeviceError) {
        if let own { throw own }
        var seen: [StreamFailure] = [self]
        var next = state.withLock { $0.sources }
        while let source = next.popLast() {
            if seen.contains(where: { $0 === source }) { continue }
            seen.append(source)
            if let error = source.own {
                takeOver(error, from: source)
                break
            }
            next += source.state.withLock { $0.sources }
        }
        if let own { throw own }
    }

    private var own: DeviceError? { state.withLock { $0.error } }

    private func takeOver(_ error: DeviceError, from source: StreamFailure) {
        note(
            DeviceError(
                error.code,
                "stream \(streamName) waited for stream \(source.streamName), which failed: "
                    + error.message))
    }
}

/// A closure on its way to the driver's thread.
private final class HostWork: Sendable {
    private let body: @Sendable () throws(DeviceError) -> Void
    private let label: String
    private let failure: StreamFailure

    init(
        _ body: @escaping @Sendable () throws(DeviceError) -> Void, label: String,
        failure: StreamFailure
    ) {
        self.body = body
        self.label = label
        self.failure = failure
    }

    /// Called once, with what `passRetained` gave.
    static func perform(_ user: UnsafeMutableRawPointer?) {
        guard let user else { return }
        CUDAThread.isInHostFunction = true
        // In a function of its own, so that what the closure holds goes before the thread is anyone's again.
        consume(user)
        CUDAThread.isInHostFunction = false
    }

    private static func consume(_ user: UnsafeMutableRawPointer) {
        let work = Unmanaged<HostWork>.fromOpaque(user).takeRetainedValue()
        guard !work.failure.isSet else { return }
        do throws(DeviceError) {
            try work.body()
        } catch {
            let what = work.label.isEmpty ? "" : "\(work.label): "
            work.failure.note(
                DeviceError(
                    error.code, "stream \(work.failure.streamName): \(what)\(error.message)"))
        }
    }
}
