import GeePSCore
import Glibc

/// One piece of work on a stream.
struct StreamCommand: @unchecked Sendable {
    // Sendable: addresses are values; the caller leaves the memory alone until the work is done.
    var operation: Operation
    var label: String

    enum Operation {
        case copy(Copy)
        case zero(UnsafeMutableRawPointer, byteCount: Int)
        case fill(UnsafeMutablePointer<Float>, Float, count: Int)
        case gatherRows(Rows)
        case scatterAddRows(Rows)
        case add(UnsafePointer<Float>, count: Int, UnsafeMutablePointer<Float>)
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
struct StreamWorker {
    private let name: String
    private let device: HostDevice
    private let progress: StreamProgress
    private let track: Timeline.Track?
    private var jitter: JitterSequence?
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
        if !hasFailed {
            if let delay = jitter?.next(), delay > 0 {
                sleepRoughly(until: monotonicNanoseconds() + delay)
            }
            do throws(DeviceError) {
                try performTraced(command)
            } catch {
                failure = error
                hasFailed = true
            }
        }
        progress.advance(failure)
    }

    private func performTraced(_ command: StreamCommand) throws(DeviceError) {
        guard let track, track.isRecording, let kind = command.operation.kind else {
            return try perform(command.operation)
        }
        let start = monotonicNanoseconds()
        try perform(command.operation)
        track.add(
            operation: kind, label: command.label, startNanoseconds: start,
            endNanoseconds: monotonicNanoseconds(), byteCount: command.operation.copiedBytes)
    }

    private func perform(_ operation: StreamCommand.Operation) throws(DeviceError) {
        switch operation {
        case .copy(let copy): perform(copy)
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
        case .run(let body): try body()
        case .compute(let nanoseconds): sleepPrecisely(until: monotonicNanoseconds() + nanoseconds)
        case .wait(let mark): try wait(for: mark)
        case .mark: break
        }
    }

    /// Copies, then waits until the emulated link would be done.
    private func perform(_ copy: StreamCommand.Copy) {
        let end = reserveLink(for: copy)
        memcpy(copy.target, copy.source, copy.byteCount)
        device.countCopy(copy.byteCount, direction: copy.direction, isPageable: copy.isPageable)
        if let end { sleepPrecisely(until: end) }
    }

    private func reserveLink(for copy: StreamCommand.Copy) -> UInt64? {
        guard let link = device.link else { return nil }
        let nanoseconds = link.copyNanoseconds(
            byteCount: copy.byteCount, isPageable: copy.isPageable)
        switch copy.direction {
        case .hostToDevice: return device.toDevice.reserve(nanoseconds, now: monotonicNanoseconds())
        case .deviceToHost: return device.toHost.reserve(nanoseconds, now: monotonicNanoseconds())
        case .deviceToDevice: return nil
        }
    }

    private func wait(for mark: StreamMark) throws(DeviceError) {
        do throws(DeviceError) {
            try mark.progress.wait(for: mark.position, deadline: nil)
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
        case .copy(let copy):
            switch copy.direction {
            case .hostToDevice: "copy host to device"
            case .deviceToHost: "copy device to host"
            case .deviceToDevice: "copy device to device"
            }
        case .zero, .fill: "fill"
        case .gatherRows, .scatterAddRows, .add: "kernel"
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
