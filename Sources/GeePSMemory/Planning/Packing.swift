/// Where a piece of memory is needed, in phases that wrap round.
struct Occupancy {
    var first: Int
    var phaseCount: Int
    var bytes: Int
}

/// A piece to place, with the room it may give up.
struct PackingPiece {
    /// With room to copy beside its neighbours.
    var wide: Occupancy
    /// Without.
    var narrow: Occupancy
}

/// Offsets so that pieces needed in the same phase do not overlap.
struct Packing {
    /// By piece.
    var offsets: [Int]
    /// By piece: placed as `narrow`.
    var isNarrow: [Bool]
    /// Largest end.
    var height: Int

    /// Packs `pieces`, below `limit` if it can: dynamic storage allocation by first fit, in several orders.
    ///
    /// A piece that does not fit below `limit` gives up its extra room if it may; the result may exceed the
    /// limit.
    static func pack(
        _ pieces: [PackingPiece], phaseCount: Int, limit: Int, mayNarrow: Bool = true,
        roundsPerOrder: Int = mostRoundsPerOrder
    ) -> Packing {
        var best: Packing?
        for var order in orders(of: pieces) {
            for _ in 0..<roundsPerOrder {
                let packing = place(
                    pieces, order, phaseCount, mayNarrow ? limit : .max)
                if best.map({ packing.isBetter(than: $0, limit) }) ?? true { best = packing }
                if packing.height <= limit && !packing.isNarrow.contains(true) { return packing }
                // What sticks out goes first next time.
                guard
                    let top = order.max(by: { packing.end($0, pieces) < packing.end($1, pieces) }),
                    let position = order.firstIndex(of: top), position > 0
                else { break }
                if packing.height <= limit { break }
                order.remove(at: position)
                order.insert(top, at: 0)
            }
        }
        return best ?? Packing(offsets: [], isNarrow: [], height: 0)
    }

    /// Rounds of a thorough packing.
    static let mostRoundsPerOrder = 6

    private func isBetter(than other: Packing, _ limit: Int) -> Bool {
        let heights = (max(height, limit), max(other.height, limit))
        if heights.0 != heights.1 { return heights.0 < heights.1 }
        return isNarrow.count { $0 } < other.isNarrow.count { $0 }
    }

    private func end(_ piece: Int, _ pieces: [PackingPiece]) -> Int {
        offsets[piece] + pieces[piece].wide.bytes
    }

    /// What is always there lies at the bottom; the rest by size, by size times time, by time, by start.
    private static func orders(of pieces: [PackingPiece]) -> [[Int]] {
        let indexes = Array(pieces.indices)
        let keys: [(Occupancy) -> Int] = [
            { $0.bytes }, { $0.bytes * $0.phaseCount }, { $0.phaseCount }, { -$0.first },
        ]
        let longest = pieces.map(\.wide.phaseCount).max() ?? 0
        return keys.map { key in
            indexes.sorted { first, second in
                let spans = (pieces[first].wide, pieces[second].wide)
                let isPinned = (
                    spans.0.phaseCount == longest, spans.1.phaseCount == longest
                )
                if isPinned.0 != isPinned.1 { return isPinned.0 }
                let keys = (key(spans.0), key(spans.1))
                if keys.0 != keys.1 { return keys.0 > keys.1 }
                if spans.0.bytes != spans.1.bytes { return spans.0.bytes > spans.1.bytes }
                return first < second
            }
        }
    }

    private static func place(
        _ pieces: [PackingPiece], _ order: [Int], _ phaseCount: Int, _ limit: Int
    ) -> Packing {
        var packing = Packing(
            offsets: Array(repeating: 0, count: pieces.count),
            isNarrow: Array(repeating: false, count: pieces.count), height: 0)
        var shelf = PackingShelf(phaseCount: phaseCount)
        for index in order {
            let piece = pieces[index]
            var span = piece.wide
            var offset = shelf.lowestOffset(for: span)
            if offset + span.bytes > limit, piece.narrow.phaseCount < span.phaseCount {
                span = piece.narrow
                offset = shelf.lowestOffset(for: span)
                packing.isNarrow[index] = true
            }
            shelf.insert(span, at: offset)
            packing.offsets[index] = offset
            packing.height = max(packing.height, offset + span.bytes)
        }
        return packing
    }
}

/// Placed pieces by offset.
private struct PackingShelf {
    private struct Slot {
        var offset: Int
        var end: Int
        var first: Int
        var phaseCount: Int
    }

    let phaseCount: Int
    private var slots: [Slot] = []

    init(phaseCount: Int) { self.phaseCount = phaseCount }

    func lowestOffset(for span: Occupancy) -> Int {
        var offset = 0
        for slot in slots {
            if slot.offset >= offset + span.bytes { break }
            if slot.end > offset, overlaps(slot, span) { offset = slot.end }
        }
        return offset
    }

    mutating func insert(_ span: Occupancy, at offset: Int) {
        let slot = Slot(
            offset: offset, end: offset + span.bytes, first: span.first, phaseCount: span.phaseCount
        )
        var low = 0
        var high = slots.count
        while low < high {
            let middle = (low + high) / 2
            if slots[middle].offset <= offset { low = middle + 1 } else { high = middle }
        }
        slots.insert(slot, at: low)
    }

    private func overlaps(_ slot: Slot, _ span: Occupancy) -> Bool {
        let ahead = span.first - slot.first
        return ahead >= 0
            ? ahead < slot.phaseCount || phaseCount - ahead < span.phaseCount
            : -ahead < span.phaseCount || phaseCount + ahead < slot.phaseCount
    }
}
