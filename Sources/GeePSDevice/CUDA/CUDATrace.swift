import CGeePSShims
import GeePSCore
import Synchronization

/// Spans of a stream's work by the GPU's own clock, for a timeline.
///
/// Each piece of work stands between two events. Their times are read when the work is done, at later calls, and
/// each is counted from the one before, since the driver tells differences as float32 milliseconds.
final class CUDATrace: Sendable {
    /// Pieces of work between looks at what is done.
    private static let pendingMaximum = 64

    private let context: CUDAContext
    private let track: Timeline.Track
    private let state: Mutex<State>

    private struct Span {
        var start: geeps_cu_event
        var stop: geeps_cu_event
        var operation: String
        var label: String
        var byteCount: Int
    }

    private struct State: @unchecked Sendable {
        // Sendable: handles, which the driver takes on any thread.
        var pending: [Span] = []
        var free: [geeps_cu_event] = []
        // An event and when it happened, by the host's clock.
        var base: geeps_cu_event
        var baseNanoseconds: UInt64
    }

    /// Spans of the stream with `handle`, on a track called `name`; waits for what is on the stream.
    init(
        _ context: CUDAContext, handle: geeps_cu_stream?, name: String, timeline: Timeline
    ) throws(DeviceError) {
        self.context = context
        let base = try context.makeEventHandle(hasTime: true)
        let functions = context.driver.functions
        var status = functions.cuEventRecord(base, handle)
        if status == 0 { status = functions.cuEventSynchronize(base) }
        guard status == 0 else {
            context.free(.event(base))
            throw context.driver.error(status, "cuEventRecord", "begin a trace")
        }
        state = Mutex(State(base: base, baseNanoseconds: monotonicNanoseconds()))
        track = timeline.makeTrack(name: name)
    }

    deinit {
        state.withLock { state in
            for span in state.pending { state.free += [span.start, span.stop] }
            for event in state.free + [state.base] { context.free(.event(event)) }
        }
    }

    /// Puts `body` on the stream between two events; where there are none to be had, without a span.
    func around(
        _ handle: geeps_cu_stream?, operation: String, label: String, byteCount: Int,
        _ body: () throws(DeviceError) -> Void
    ) throws(DeviceError) {
        guard track.isRecording, let start = event(), let stop = event() else {
            return try body()
        }
        let functions = context.driver.functions
        let hasStarted = functions.cuEventRecord(start, handle) == 0
        try body()
        guard hasStarted, functions.cuEventRecord(stop, handle) == 0 else {
            return state.withLock { $0.free += [start, stop] }
        }
        let span = Span(
            start: start, stop: stop, operation: operation, label: label, byteCount: byteCount)
        let isMany = state.withLock { state in
            state.pending.append(span)
            return state.pending.count >= Self.pendingMaximum
        }
        if isMany { collect() }
    }

    /// Adds the spans of work that is done to the timeline, in order.
    func collect() {
        let functions = context.driver.functions
        state.withLock { state in
            while let span = state.pending.first, functions.cuEventQuery(span.stop) == 0 {
                state.pending.removeFirst()
                let start = Self.nanoseconds(of: span.start, state, functions)
                let stop = Self.nanoseconds(of: span.stop, state, functions)
                state.free += [span.start, state.base]
                (state.base, state.baseNanoseconds) = (span.stop, stop)
                track.add(
                    operation: span.operation, label: span.label, startNanoseconds: start,
                    endNanoseconds: max(start, stop), byteCount: span.byteCount)
            }
        }
    }

    private static func nanoseconds(
        of event: geeps_cu_event, _ state: State, _ functions: geeps_cuda_driver
    ) -> UInt64 {
        var milliseconds: Float = 0
        guard functions.cuEventElapsedTime(&milliseconds, state.base, event) == 0 else {
            return state.baseNanoseconds
        }
        let time = Double(state.baseNanoseconds) + Double(milliseconds) * 1e6
        return UInt64(max(0, time))
    }

    private func event() -> geeps_cu_event? {
        if let free = state.withLock({ $0.free.popLast() }) { return free }
        return try? context.makeEventHandle(hasTime: true)
    }
}
