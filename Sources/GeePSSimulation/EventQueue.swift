/// What happens at a moment of virtual time.
enum Action {
    /// A worker tries to connect to a keeper.
    case connect(connection: Int, generation: UInt32)
    /// A frame leaves the network.
    case deliver(frame: Int)
    /// A frame that waited in its receiver's mailbox is handled.
    case handle(frame: Int, mailbox: Int)
    /// A worker's application goes on.
    case application(worker: Int, generation: UInt32)
    /// The worker's side sees that a connection is gone.
    case workerNotices(connection: Int, epoch: UInt32)
    /// The keeper's side sees that a connection is gone.
    case keeperNotices(connection: Int, epoch: UInt32)
    /// Something breaks.
    case fault
    /// The death of a process is known everywhere: the job starts again from its checkpoint.
    case rollBack
}

/// An action and its moment.
///
/// Ties are broken by the order of scheduling, never by a hash or an address.
struct Event {
    var time: UInt64
    var sequence: UInt64
    var action: Action

    @inline(__always)
    func isBefore(_ other: Event) -> Bool {
        time != other.time ? time < other.time : sequence < other.sequence
    }
}

/// A binary heap of events, earliest first.
struct EventQueue {
    private var heap: [Event] = []
    private var scheduledCount: UInt64 = 0

    var isEmpty: Bool { heap.isEmpty }

    /// Adds `action` at `time`, behind everything already scheduled for that time.
    mutating func schedule(at time: UInt64, _ action: Action) {
        let event = Event(time: time, sequence: scheduledCount, action: action)
        scheduledCount += 1
        heap.append(event)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            guard event.isBefore(heap[parent]) else { break }
            heap[child] = heap[parent]
            child = parent
        }
        heap[child] = event
    }

    /// Takes the earliest event.
    mutating func popFirst() -> Event? {
        guard let last = heap.popLast() else { return nil }
        guard let first = heap.first else { return last }
        let count = heap.count
        var parent = 0
        while true {
            var child = 2 * parent + 1
            guard child < count else { break }
            if child + 1 < count, heap[child + 1].isBefore(heap[child]) { child += 1 }
            guard heap[child].isBefore(last) else { break }
            heap[parent] = heap[child]
            parent = child
        }
        heap[parent] = last
        return first
    }
}
