/// The last times that a table's age rose, and the block that was last to come each time.
///
/// Of a fixed size: the owner of the lock over it adds one a tick.
struct Raises {
    /// A rise.
    struct Raise {
        var age: UInt64 = 0
        /// Position in the table.
        var block = 0
        /// From this worker's push of that tick of the block to its rows; zero where that is not known.
        var roundTripNanoseconds: UInt64 = 0
        var nanoseconds: UInt64 = 0
    }

    private static let capacity: UInt64 = 8
    private var ring = [Raise](repeating: Raise(), count: Int(capacity))
    private var count: UInt64 = 0

    /// Adds one.
    mutating func add(_ raise: Raise) {
        ring[Int(count % Self.capacity)] = raise
        count += 1
    }

    /// The last rise; nil before the first.
    var newest: Raise? { count == 0 ? nil : ring[Int((count - 1) % Self.capacity)] }

    /// The rise that made the table as old as `least`; nil where that is longer ago than what is kept.
    func first(to least: UInt64) -> Raise? {
        let kept = (count - min(count, Self.capacity))..<count
        guard let index = kept.first(where: { ring[Int($0 % Self.capacity)].age >= least }) else {
            return nil
        }
        // Of the oldest that is kept nobody knows whether it was the first.
        guard index > kept.lowerBound || index == 0 else { return nil }
        return ring[Int(index % Self.capacity)]
    }
}
