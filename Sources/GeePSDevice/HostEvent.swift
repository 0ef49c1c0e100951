import GeePSCore
import Synchronization

/// A place in the queue of a stream: event number `position` to complete there.
struct StreamMark: Sendable {
    var progress: StreamProgress
    var position: UInt64
}

/// The host device's event: it remembers where it was recorded last.
final class HostEvent: DeviceEvent {
    private let latest = Mutex<StreamMark?>(nil)

    /// The most recent record; nil when there was none.
    var mark: StreamMark? {
        get { latest.withLock { $0 } }
        set { latest.withLock { $0 = newValue } }
    }

    var isDone: Bool {
        guard let mark else { return true }
        return mark.progress.hasReached(mark.position)
    }

    func wait(deadline: Deadline?) throws(DeviceError) {
        guard let mark else { return }
        try mark.progress.wait(for: mark.position, deadline: deadline)
    }
}

/// How far a stream has come; operations are numbered from one.
final class StreamProgress: @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`.
    let streamName: String
    private let signal = Signal()
    private var completed: UInt64 = 0
    // The first failure and the operation it happened in.
    private var failure: (error: DeviceError, position: UInt64)?
    // When what is done was over for the emulated device; nil after work of no emulated length.
    private var emulatedEnd: UInt64? = 0
    // The nearest position that somebody waits for.
    private var nearestWanted = UInt64.max

    init(streamName: String) { self.streamName = streamName }

    func hasReached(_ position: UInt64) -> Bool { signal.withLock { completed >= position } }

    /// Whether everything up to `position` is done, and nothing has failed.
    func hasReachedInOrder(_ position: UInt64) -> Bool {
        signal.withLock { completed >= position && failure == nil }
    }

    /// Waits until operation `position` is done, or has failed.
    func reach(_ position: UInt64) { _ = try? wait(for: position, deadline: nil) }

    /// Notes that one more operation is done; the first `error` sticks.
    func advance(_ error: DeviceError?, emulatedEnd: UInt64?) {
        signal.withLock {
            completed += 1
            self.emulatedEnd = emulatedEnd
            if let error, failure == nil { failure = (error, completed) }
            guard completed >= nearestWanted else { return }
            nearestWanted = .max
            signal.wakeAll()
        }
    }

    /// Waits until operation `position` is done.
    ///
    /// - Returns: when the stream came as far as it is now, for the emulated device, if that is known.
    /// - Throws: the failure, if it happened up to `position`; `.deadline`.
    @discardableResult
    func wait(for position: UInt64, deadline: Deadline?) throws(DeviceError) -> UInt64? {
        signal.lock()
        defer { signal.unlock() }
        while completed < position {
            // Asked for anew each time: a wake for somebody else's position has erased it.
            nearestWanted = min(nearestWanted, position)
            guard signal.wait(until: deadline) || completed >= position else {
                throw DeviceError(
                    .deadline,
                    "stream \(streamName): waited in vain for operation \(position), "
                        + "\(completed) are done")
            }
        }
        if let failure, failure.position <= position { throw failure.error }
        return emulatedEnd
    }
}
