public import GeePSCore

/// Which way a copy goes; each way over the link has its own engine.
public enum CopyDirection: String, Sendable, CaseIterable {
    case hostToDevice = "host to device"
    case deviceToHost = "device to host"
    case deviceToDevice = "device to device"

    /// As a timeline names such a copy.
    var operation: String {
        // Literals: a stream asks for one at every copy.
        switch self {
        case .hostToDevice: "copy host to device"
        case .deviceToHost: "copy device to host"
        case .deviceToDevice: "copy device to device"
        }
    }
}

/// A queue of work that a device does in order, beside the threads that put it there.
///
/// Any thread may put work on a stream; nothing put there waits, except: while the queue is full, which
/// `fullWaits` counts, and a copy between a device behind a link and pageable memory, which returns when
/// it is done. Memory named in an operation stays untouched and alive until the operation is done.
///
/// The first failure sticks: what is behind it on the stream is skipped (closures are dropped, events
/// are passed), and `synchronise` and waits for events recorded behind it throw it. A stream that waits
/// for such an event takes the failure over. `label` names the work in a timeline.
public protocol DeviceStream: AnyObject, Sendable {
    /// For messages, timelines and the system's list of threads.
    var name: String { get }

    /// Copies `byteCount` bytes; the stretches do not overlap.
    func copy(
        from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int,
        direction: CopyDirection, label: String)

    /// Sets `byteCount` bytes of device memory to zero.
    func zero(_ target: UnsafeMutableRawPointer, byteCount: Int, label: String)

    /// Sets `count` values of device memory to `value`.
    func fill(_ target: UnsafeMutablePointer<Float>, with value: Float, count: Int, label: String)

    /// `target[j] = source[indexes[j]]`, rows of `rowWidth` values; all in device memory.
    func gatherRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>, label: String)

    /// `target[indexes[j]] += source[j]`; an index may occur more than once.
    func scatterAddRows(
        _ source: UnsafePointer<Float>, indexes: UnsafePointer<UInt32>, count: Int, rowWidth: Int,
        into target: UnsafeMutablePointer<Float>, label: String)

    /// `target[i] += source[i]`, in device memory.
    func add(
        _ source: UnsafePointer<Float>, count: Int, into target: UnsafeMutablePointer<Float>,
        label: String)

    /// `target[i] *= factor`, in device memory.
    func scale(_ target: UnsafeMutablePointer<Float>, by factor: Float, count: Int, label: String)

    /// Runs `body` on the host when its turn comes, and the rest of the stream after it.
    ///
    /// It puts nothing on a stream, waits for none, and does not own the stream.
    func run(label: String, _ body: @escaping @Sendable () throws(DeviceError) -> Void)

    /// Keeps the stream busy for `nanoseconds`, as a layer of that length would.
    func compute(nanoseconds: UInt64, label: String)

    /// Lets `event` happen when everything put here before is done; an earlier record is forgotten.
    func record(_ event: any DeviceEvent)

    /// Holds what is put here afterwards until the most recent record of `event`, as of this call, has
    /// happened; the caller goes on. Of an event never recorded nothing is waited for.
    func wait(for event: any DeviceEvent)

    /// Waits until everything put here is done.
    ///
    /// - Throws: the stream's failure; `.deadline` when `deadline` passed.
    func synchronise(deadline: Deadline?) throws(DeviceError)

    /// Does what is queued, then ends the stream; idempotent.
    ///
    /// Nothing may be put on it afterwards. Dropping the stream closes it.
    func close()

    /// How often a caller found the queue full.
    var fullWaits: UInt64 { get }

    /// Makes a timer of work on this stream; nil where the device has none.
    func makeTimer() -> (any StreamTimer)?
}

/// Measures stretches of a stream's work by the device's own clock.
///
/// One thread uses it.
public protocol StreamTimer: AnyObject {
    /// A stretch begins with what is put on the stream from now on.
    func start()

    /// It ends behind what was put there so far.
    func stop()

    /// The time of the stretches that are over and were not taken yet, in nanoseconds; waits for none.
    func takeNanoseconds() -> UInt64
}

extension DeviceStream {
    /// No timer.
    public func makeTimer() -> (any StreamTimer)? { nil }

    /// Copies `byteCount` bytes, without a label.
    public func copy(
        from source: UnsafeRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int,
        direction: CopyDirection
    ) {
        copy(from: source, to: target, byteCount: byteCount, direction: direction, label: "")
    }

    /// Sets `byteCount` bytes to zero, without a label.
    public func zero(_ target: UnsafeMutableRawPointer, byteCount: Int) {
        zero(target, byteCount: byteCount, label: "")
    }

    /// Runs `body` in its turn, without a label.
    public func run(_ body: @escaping @Sendable () throws(DeviceError) -> Void) {
        run(label: "", body)
    }

    /// Keeps the stream busy, without a label.
    public func compute(nanoseconds: UInt64) { compute(nanoseconds: nanoseconds, label: "") }

    /// Waits without a deadline.
    public func synchronise() throws(DeviceError) { try synchronise(deadline: nil) }
}

/// A point in the work of a stream that others can wait for.
///
/// It may be recorded again and again; a wait is for the most recent record at the time of the call, and
/// over at once when there is none. Recording and waiting allocate nothing.
public protocol DeviceEvent: AnyObject, Sendable {
    /// Whether the most recent record has happened; true when there is none.
    var isDone: Bool { get }

    /// Blocks the calling thread until the most recent record has happened.
    ///
    /// - Throws: the failure of the stream, if it came before the record; `.deadline`.
    func wait(deadline: Deadline?) throws(DeviceError)
}

extension DeviceEvent {
    /// Waits without a deadline.
    public func wait() throws(DeviceError) { try wait(deadline: nil) }
}

/// What the streams of a device have copied; skipped copies do not count.
public struct CopyTraffic: Hashable, Sendable {
    /// Bytes copied to the device.
    public var hostToDeviceBytes = 0
    /// Bytes copied from the device.
    public var deviceToHostBytes = 0
    /// Bytes copied inside the device.
    public var deviceToDeviceBytes = 0
    /// Of the bytes over the link, those from or to pageable memory.
    public var pageableBytes = 0
    /// Copies, either way and inside.
    public var copies = 0

    /// Nothing copied.
    public init() {}

    mutating func add(_ byteCount: Int, direction: CopyDirection, isPageable: Bool) {
        switch direction {
        case .hostToDevice: hostToDeviceBytes += byteCount
        case .deviceToHost: deviceToHostBytes += byteCount
        case .deviceToDevice: deviceToDeviceBytes += byteCount
        }
        if isPageable { pageableBytes += byteCount }
        copies += 1
    }
}

/// Counts what the streams of a device copy.
final class CopyCounter: @unchecked Sendable {
    // Guarded by `lock`: a pthread mutex, which the thread sanitizer knows.
    private var copied = CopyTraffic()
    private let lock = Signal()

    var traffic: CopyTraffic { lock.withLock { copied } }

    func add(_ byteCount: Int, direction: CopyDirection, isPageable: Bool) {
        lock.withLock { copied.add(byteCount, direction: direction, isPageable: isPageable) }
    }
}
