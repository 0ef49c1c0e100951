import GeePSCore

/// Gives the space of received frames back to the sender, in the order of the ring.
///
/// Frames may be dropped by any thread. Should one be dropped before an earlier one, its space follows
/// when the earlier one is dropped.
final class RingReleases: FrameOwner, @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`.
    private struct Entry {
        var end: UInt64
        var isReleased: Bool
    }

    private let signal = Signal()
    private let side: RingSide
    private var entries: [Entry] = []
    // Entries before `first` are done; token `t` is entry `t - firstToken`.
    private var first = 0
    private var firstToken = 0
    private var tail: UInt64 = 0

    init(side: RingSide) { self.side = side }

    /// Notes that the ring up to `end` is lent.
    ///
    /// - Returns: the token that `release` takes.
    func lend(upTo end: UInt64) -> Int {
        signal.withLock {
            entries.append(Entry(end: end, isReleased: false))
            return firstToken + entries.count - 1
        }
    }

    /// Notes that the ring up to `end` has been read and is not lent.
    func skip(upTo end: UInt64) {
        signal.withLock {
            if first == entries.count {
                tail = end
                side.publish(tail: tail)
            } else if entries[entries.count - 1].isReleased {
                entries[entries.count - 1].end = end
            } else {
                entries.append(Entry(end: end, isReleased: true))
            }
        }
    }

    func release(token: Int) {
        signal.withLock {
            entries[token - firstToken].isReleased = true
            let before = first
            while first < entries.count, entries[first].isReleased {
                tail = entries[first].end
                first += 1
            }
            guard first > before else { return }
            if first == entries.count || first >= 64 {
                entries.removeFirst(first)
                firstToken += first
                first = 0
            }
            side.publish(tail: tail)
        }
    }
}
