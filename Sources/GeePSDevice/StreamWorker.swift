import GeePSCore
import Glibc

/// One piece of work on a stream.
struct StreamCommand: @unchecked Sendable {
    // Sendable: addresses are values; the caller leaves the memory alone until the work is done.
    var operation: Operation
    /// Its number on the stream.
    var position: UInt64
    var label: String
    /// When it was put on the stream; only of work whose length is emulated.
    var enqueuedNanoseconds: UInt64

    enum Operation {
        case copy(Copy)
        case zero(UnsafeMutableRawPointer, byteCount: Int)
        case fill(UnsafeMutablePointer<Float>, Float, count: Int)
        case gatherRows(Rows)
        case scatterAddRows(Rows)
        case add(UnsafePointer<Float>, count: Int, UnsafeMutablePointer<Float>)
        case scale(UnsafeMutablePointer<Float>, Float, count: Int)
        case run(@Sendable () throws(DeviceError) -> Void)
        case compute(nanoseconds: UInt64)
        case wait(StreamMark)
        /// An event's place.
        case mark
    }

    struct Copy {
        var source: UnsafeRawPointer
        var target: UnsafeMutableRawPointer
        var byteCount: Int
        var direction: CopyDirection
        var isPageable: Bool

        func perform(on device: HostDevice) {
            memcpy(target, source, byteCount)
            device.countCopy(byteCount, direction: direction, isPageable: isPageable)
        }
    }

    struct Rows {
        var source: UnsafePointer<Float>
        var indexes: UnsafePointer<UInt32>
        var count: Int
        var rowWidth: Int
        var target: UnsafeMutablePointer<Float>
    }
}

/// Does the work of one stream, on the stream's thread.
struct StreamWorker: Sendable {
    private let name: String
    private let device: HostDevice
    private let progress: StreamProgress
    private let track: Timeline.Track?
    private var jitter: JitterSequence?
    // When the work before this was over for the emulated device, without the delays of this machine's
    // threads; nil after work of no emulated length.
    private var emulatedEnd: UInt64? = 0
    private var hasFailed = false

    init(name: String, device: HostDevice, progress: StreamProgress) {
        self.name = name
        self.device = device
        self.progress = progress
        track = device.timeline?.makeTrack(name: name)
        jitter = device.jitter.map { JitterSequence($0, streamName: name) }
    }

    /// Performs `command`, or skips it after a failure, and notes that it is done.
    mutating func perform(_ command: StreamCommand) {
        var failure: DeviceError?
        // Somebody may be at work on his own thread, see `HostStream.performAtOnce`.
        progress.reach(command.position - 1)
        if !hasFailed {
            if let delay = jitter?.next(), delay > 0 {
                sleepRoughly(until: monotonicNanoseconds() + delay)
                emulatedEnd = nil
            }
            do throws(DeviceError) {
                try performTraced(command)
            } catch {
                failure = error
                hasFailed = true
            }
        }
        progress.advance(failure, emulatedEnd: emulatedEnd)
    }

    private mutating func performTraced(_ command: StreamCommand) throws(DeviceError) {
        guard let track, track.isRecording, let kind = command.operation.kind else {
            return try performPlain(command)
        }
        let start = monotonicNanoseconds()
        try performPlain(command)
        track.add(
            operation: kind, label: command.label, startNanoseconds: start,
            endNanoseconds: monotonicNanoseconds(), byteCount: command.operation.copiedBytes)
    }

    private mutating func performPlain(_ command: StreamCommand) throws(DeviceError) {
        switch command.operation {
        case .mark: break
        case .copy(let copy):
            emulate(takes: copyEngine(for: copy), command) { [device] in
                copy.perform(on: device)
            }
        case .compute(let nanoseconds): emulate(takes: (nanoseconds, nil), command) {}
        case .wait(let mark):
            let reached = try wait(for: mark)
            if let own = emulatedEnd { emulatedEnd = reached.map { max(own, $0) } }
        default:
            emulatedEnd = nil
            try performReal(command.operation)
        }
    }

    private func performReal(_ operation: StreamCommand.Operation) throws(DeviceError) {
        switch operation {
        case .zero(let target, let byteCount): memset(target, 0, byteCount)
        case .fill(let target, let value, let count):
            Kernels.fill(target, with: value, count: count)
        case .gatherRows(let rows):
            device.gatherRows(
                rows.source, indexes: rows.indexes, count: rows.count, rowWidth: rows.rowWidth,
                into: rows.target)
        case .scatterAddRows(let rows):
            device.scatterAddRows(
                rows.source, indexes: rows.indexes, count: rows.count, rowWidth: rows.rowWidth,
                into: rows.target)
        case .add(let source, let count, let target):
            Kernels.add(source, to: target, count: count)
        case .scale(let target, let factor, let count):
            Kernels.scale(target, by: factor, count: count)
        case .run(let body): try body()
        case .copy, .compute, .wait, .mark: break
        }
    }

    /// Does `work`, then waits until it would be over on the emulated device.
    ///
    /// It began when it was there and what came before was over, so that late wakes do not add up; from
    /// when it was put on the stream it never takes less than its time.
    private mutating func emulate(
        takes length: (nanoseconds: UInt64, engine: CopyEngine?)?, _ command: StreamCommand,
        work: () -> Void
    ) {
        guard let length else {
            emulatedEnd = nil
            return work()
        }
        let start = max(emulatedEnd ?? monotonicNanoseconds(), command.enqueuedNanoseconds)
        let end =
            length.engine?.reserve(length.nanoseconds, now: start) ?? start + length.nanoseconds
        work()
        sleepPrecisely(until: end)
        emulatedEnd = end
    }

    /// The engine a copy needs and for how long; nil: it is as fast as memory.
    private func copyEngine(for copy: StreamCommand.Copy) -> (UInt64, CopyEngine?)? {
        guard let link = device.link, copy.direction != .deviceToDevice else { return nil }
        let nanoseconds = link.copyNanoseconds(
            byteCount: copy.byteCount, isPageable: copy.isPageable)
        return (nanoseconds, copy.direction == .hostToDevice ? device.toDevice : device.toHost)
    }

    private func wait(for mark: StreamMark) throws(DeviceError) -> UInt64? {
        do throws(DeviceError) {
            return try mark.progress.wait(for: mark.position, deadline: nil)
        } catch {
            throw DeviceError(
                error.code,
                "stream \(name) waited for stream \(mark.progress.streamName), which failed: "
                    + error.message)
        }
    }
}

extension StreamCommand.Operation {
    /// As a timeline shows it; nil: not worth a span.
    fileprivate var kind: String? {
        switch self {
        case .copy(let copy): copy.direction.operation
        case .zero, .fill: "fill"
        case .gatherRows, .scatterAddRows, .add, .scale: "kernel"
        case .run: "host"
        case .compute: "compute"
        case .wait: "wait"
        case .mark: nil
        }
    }

    fileprivate var copiedBytes: Int {
        guard case .copy(let copy) = self else { return 0 }
        return copy.byteCount
    }
}
