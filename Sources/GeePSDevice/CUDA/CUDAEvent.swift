import CGeePSShims
import GeePSCore
import Synchronization

/// An event of the driver's, and which stream it was recorded on last.
final class CUDAEvent: DeviceEvent {
    // Sendable: a value that the driver takes on any thread.
    nonisolated(unsafe) let handle: geeps_cu_event
    private let context: CUDAContext
    private let recorder = Mutex<StreamFailure?>(nil)

    init(_ context: CUDAContext) throws(DeviceError) {
        self.context = context
        handle = try context.makeEventHandle(hasTime: false)
    }

    deinit { context.free(.event(handle)) }

    /// The stream of the most recent record; nil when there was none.
    var source: StreamFailure? { recorder.withLock { $0 } }

    func noteRecord(by stream: StreamFailure) { recorder.withLock { $0 = stream } }

    /// Whether the most recent record has happened; true when there is none, and when its stream has failed.
    var isDone: Bool {
        guard let source, !source.isSet, (try? context.makeCurrent()) != nil else { return true }
        return context.driver.functions.cuEventQuery(handle)
            != Int32(GEEPS_CU_NOT_READY)
    }

    func wait(deadline: Deadline?) throws(DeviceError) {
        guard let source else { return }
        try source.check()
        try context.makeCurrent()
        let functions = context.driver.functions
        let status: Int32
        if let deadline {
            guard let answer = context.poll(until: deadline, { functions.cuEventQuery(handle) })
            else {
                throw DeviceError(
                    .deadline, "stream \(source.streamName): waited in vain for an event")
            }
            status = answer
        } else {
            status = functions.cuEventSynchronize(handle)
        }
        if status != 0 {
            source.note(
                context.driver.error(
                    status, "cuEventSynchronize", "stream \(source.streamName)"))
        }
        try source.check()
    }
}

extension CUDAContext {
    /// An event; waits for it on the host sleep instead of spinning.
    func makeEventHandle(hasTime: Bool) throws(DeviceError) -> geeps_cu_event {
        try makeCurrent()
        var flags = UInt32(GEEPS_CU_EVENT_BLOCKING_SYNC)
        if !hasTime { flags |= UInt32(GEEPS_CU_EVENT_DISABLE_TIMING) }
        var handle: geeps_cu_event?
        try check(driver.functions.cuEventCreate(&handle, flags), "cuEventCreate", "make an event")
        guard let handle else {
            throw DeviceError(.failed, "\(name): cuEventCreate gave no event")
        }
        return handle
    }
}

/// Measures stretches of a stream's work by pairs of events, which are used again once they were read.
final class CUDATimer: StreamTimer {
    private let stream: CUDAStream
    private var free: [Pair] = []
    private var running: Pair?
    // Ended, the oldest first.
    private var ended: [Pair] = []

    private struct Pair {
        var start: geeps_cu_event
        var stop: geeps_cu_event
    }

    init(_ stream: CUDAStream) { self.stream = stream }

    deinit {
        for pair in free + ended + [running].compactMap({ $0 }) {
            stream.device.context.free(.event(pair.start))
            stream.device.context.free(.event(pair.stop))
        }
    }

    func start() {
        guard let pair = free.popLast() ?? makePair() else { return }
        running = pair
        record(pair.start)
    }

    func stop() {
        guard let pair = running else { return }
        running = nil
        record(pair.stop)
        ended.append(pair)
    }

    func takeNanoseconds() -> UInt64 {
        let functions = stream.device.driver.functions
        guard !stream.failure.isSet, (try? stream.device.makeCurrent()) != nil else { return 0 }
        var nanoseconds: UInt64 = 0
        while let pair = ended.first, functions.cuEventQuery(pair.stop) == 0 {
            ended.removeFirst()
            free.append(pair)
            var milliseconds: Float = 0
            if functions.cuEventElapsedTime(&milliseconds, pair.start, pair.stop) == 0 {
                nanoseconds += UInt64(max(0, Double(milliseconds) * 1e6))
            }
        }
        return nanoseconds
    }

    private func record(_ event: geeps_cu_event) {
        stream.perform(nil, label: "") { handle throws(DeviceError) in
            try stream.device.context.check(
                stream.device.driver.functions.cuEventRecord(event, handle), "cuEventRecord",
                "record an event")
        }
    }

    private func makePair() -> Pair? {
        let context = stream.device.context
        guard let start = try? context.makeEventHandle(hasTime: true) else { return nil }
        guard let stop = try? context.makeEventHandle(hasTime: true) else {
            context.free(.event(start))
            return nil
        }
        return Pair(start: start, stop: stop)
    }
}
