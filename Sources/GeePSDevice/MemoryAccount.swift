import Synchronization

/// What is in use of one kind of memory, by purpose, within a limit.
final class MemoryAccount: Sendable {
    /// For messages: "host", "host, pinned".
    private let name: String
    private let limitBytes: Int?
    private let usage = Mutex(Usage())

    struct Usage {
        var byPurpose = [Int](repeating: 0, count: MemoryPurpose.allCases.count)
        var total = 0
        var peak = 0
        var allocations = 0
    }

    init(name: String, limitBytes: Int?) {
        self.name = name
        self.limitBytes = limitBytes
    }

    var current: Usage { usage.withLock { $0 } }

    /// - Throws: `.outOfMemory` when `size` more bytes exceed the limit; then nothing is taken.
    func take(_ size: Int, for purpose: MemoryPurpose) throws(DeviceError) {
        let inUse: Int? = usage.withLock { usage in
            if let limitBytes, usage.total + size > limitBytes { return usage.total }
            usage.total += size
            usage.peak = max(usage.peak, usage.total)
            usage.byPurpose[purpose.index] += size
            usage.allocations += 1
            return nil
        }
        guard let inUse else { return }
        throw DeviceError(
            .outOfMemory,
            "\(name): \(size) bytes for \(purpose.rawValue) on top of \(inUse) in use exceed the limit "
                + "of \(limitBytes ?? 0) bytes")
    }

    func giveBack(_ size: Int, of purpose: MemoryPurpose) {
        usage.withLock { usage in
            usage.total -= size
            usage.byPurpose[purpose.index] -= size
        }
    }
}

extension MemoryPurpose {
    var index: Int { Self.allCases.firstIndex(of: self) ?? 0 }
}

/// Where pinned memory lies: tells a copy's pinned addresses from pageable ones.
final class PinnedRanges: Sendable {
    // Sorted by start; stretches do not overlap.
    private let ranges = Mutex<[Range<UInt>]>([])

    func insert(_ address: UnsafeMutableRawPointer, byteCount: Int) {
        let start = UInt(bitPattern: address)
        ranges.withLock { ranges in
            ranges.insert(
                start..<start + UInt(byteCount), at: Self.countOfStarts(upTo: start, in: ranges))
        }
    }

    func remove(_ address: UnsafeMutableRawPointer) {
        let start = UInt(bitPattern: address)
        ranges.withLock { ranges in
            let index = Self.countOfStarts(upTo: start, in: ranges) - 1
            precondition(
                index >= 0 && ranges[index].lowerBound == start, "no pinned memory at \(address)")
            ranges.remove(at: index)
        }
    }

    /// Whether all of the stretch is pinned.
    func contains(_ address: UnsafeRawPointer, byteCount: Int) -> Bool {
        let start = UInt(bitPattern: address)
        return ranges.withLock { ranges in
            let index = Self.countOfStarts(upTo: start, in: ranges) - 1
            return index >= 0 && start + UInt(byteCount) <= ranges[index].upperBound
        }
    }

    /// How many ranges start at `address` or before it.
    private static func countOfStarts(upTo address: UInt, in ranges: [Range<UInt>]) -> Int {
        var low = 0
        var high = ranges.count
        while low < high {
            let middle = (low + high) / 2
            if ranges[middle].lowerBound <= address { low = middle + 1 } else { high = middle }
        }
        return low
    }
}
