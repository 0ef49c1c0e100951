/// Addresses, half-open.
typealias AddressRange = Range<UInt>

/// An access that nothing orders against another one to the same bytes.
struct Conflict {
    var earlier: Operation
    var earlierWrites: Bool
    var range: AddressRange
}

/// Who touched which bytes of an allocation last.
struct ShadowMemory {
    /// The last write of a byte, and the reads since then that are not ordered before one another.
    private struct Marks {
        var write: Operation?
        var reads: [Operation] = []

        func isSame(as other: Marks) -> Bool {
            write === other.write && reads.elementsEqual(other.reads, by: ===)
        }
    }

    private struct Segment {
        var range: AddressRange
        var marks: Marks
    }

    // Without gaps, ascending; neighbours differ in their marks.
    private var segments: [Segment]

    /// Memory that nothing touched.
    init(_ range: AddressRange) { segments = [Segment(range: range, marks: Marks())] }

    /// Notes that `operation` reads or writes `ranges`.
    ///
    /// - Parameters:
    ///   - ranges: ascending, without overlap, none empty, all inside the allocation.
    ///   - isLate: noted when the operation runs rather than when it is put on its stream, so that later
    ///     operations may have been noted before.
    /// - Returns: whom it is not ordered against, each once, with the bytes between the first and the last
    ///   in common.
    /// - Complexity: linear in the segments between the first range and the last.
    mutating func note(
        _ ranges: [AddressRange], by operation: Operation, isWrite: Bool, isLate: Bool = false
    ) -> [Conflict] {
        guard let first = ranges.first, let last = ranges.last else { return [] }
        var conflicts = Conflicts(operation: operation, isLate: isLate)
        let window = segmentIndex(of: first.lowerBound)...segmentIndex(of: last.upperBound - 1)
        var rebuilt: [Segment] = []
        var next = ranges.startIndex
        for segment in segments[window] {
            var position = segment.range.lowerBound
            while position < segment.range.upperBound {
                while next < ranges.endIndex, ranges[next].upperBound <= position { next += 1 }
                guard next < ranges.endIndex, ranges[next].lowerBound < segment.range.upperBound
                else {
                    append(position..<segment.range.upperBound, segment.marks, to: &rebuilt)
                    break
                }
                let start = max(position, ranges[next].lowerBound)
                let end = min(ranges[next].upperBound, segment.range.upperBound)
                append(position..<start, segment.marks, to: &rebuilt)
                conflicts.look(segment.marks.write, writes: true, start..<end)
                if isWrite {
                    for read in segment.marks.reads {
                        conflicts.look(read, writes: false, start..<end)
                    }
                }
                let marks = updated(segment.marks, operation, isWrite: isWrite, isLate: isLate)
                append(start..<end, marks, to: &rebuilt)
                position = end
            }
        }
        segments.replaceSubrange(window, with: rebuilt)
        return conflicts.found
    }

    private func updated(
        _ marks: Marks, _ operation: Operation, isWrite: Bool, isLate: Bool
    ) -> Marks {
        var marks = marks
        if !isWrite {
            if marks.reads.contains(where: { $0 === operation }) { return marks }
            // Who is ordered behind this read is ordered behind those before it.
            marks.reads.removeAll { $0.isBefore(operation) }
            marks.reads.append(operation)
        } else if isLate, let write = marks.write, operation.isBefore(write) {
            return marks
        } else {
            marks.write = operation
            marks.reads.removeAll { !(isLate && operation.isBefore($0)) }
        }
        return marks
    }

    private func append(_ range: AddressRange, _ marks: Marks, to segments: inout [Segment]) {
        guard !range.isEmpty else { return }
        if let last = segments.last, last.marks.isSame(as: marks) {
            segments[segments.count - 1].range = last.range.lowerBound..<range.upperBound
        } else {
            segments.append(Segment(range: range, marks: marks))
        }
    }

    private func segmentIndex(of address: UInt) -> Int {
        var low = 0
        var high = segments.count - 1
        while low < high {
            let middle = (low + high + 1) / 2
            if segments[middle].range.lowerBound <= address {
                low = middle
            } else {
                high = middle - 1
            }
        }
        return low
    }
}

/// The conflicts of one operation, one a counterpart.
private struct Conflicts {
    let operation: Operation
    let isLate: Bool
    var found: [Conflict] = []

    mutating func look(_ other: Operation?, writes: Bool, _ range: AddressRange) {
        guard let other, other !== operation, !other.isBefore(operation) else { return }
        if isLate && operation.isBefore(other) { return }
        if let index = found.firstIndex(where: {
            $0.earlier === other && $0.earlierWrites == writes
        }) {
            let old = found[index].range
            found[index].range =
                min(old.lowerBound, range.lowerBound)..<max(old.upperBound, range.upperBound)
        } else {
            found.append(Conflict(earlier: other, earlierWrites: writes, range: range))
        }
    }
}
