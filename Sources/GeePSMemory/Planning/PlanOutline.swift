import GeePSCore

/// An iteration reduced to what placing needs: phases, what is held in which, and the gaps between.
///
/// Phases are counted modulo `phaseCount`, since the iteration repeats.
struct PlanOutline {
    /// One thing that memory is needed for.
    struct Item {
        enum Kind: Hashable {
            case local(Int)
            case read(Int)
            /// One update of a batch; a second one in the same iteration is an item of its own.
            case update(Int)
        }

        var kind: Kind
        var byteCount: Int
        /// `byteCount` rounded up to the granule.
        var roomBytes: Int
        /// Indexes in `holds`, consecutive, in order.
        var holds: Range<Int>
        /// Indexes in `gaps`: gap n follows hold n; for local data the last one leads round to the first.
        var gaps: Range<Int>
        /// The table of a read or update.
        var table: TableIndex?
    }

    /// Phases during which at least one holder has an item; overlapping holders make one hold.
    struct Hold {
        var item: Int
        var first: Int
        /// Inclusive, never before `first`.
        var last: Int
        var firstAccess: Int
        var lastAccess: Int
        /// Some holder needs the content kept last.
        var fetches: Bool
        /// Some holder leaves content: keep is sticky.
        var keeps: Bool

        var phaseCount: Int { last - first + 1 }
    }

    /// The phases between a hold and the next of the same item.
    struct Gap {
        var item: Int
        /// Index of the hold before.
        var before: Int
        /// Index of the hold after, in the next iteration where it wraps.
        var after: Int
        var first: Int
        var phaseCount: Int
        /// The content is needed after it.
        var isLive: Bool
        /// Copied less when the item stays.
        var savedBytes: Int
    }

    private(set) var phaseCount = 0
    private(set) var phaseOfAccess: [Int] = []
    private(set) var items: [Item] = []
    private(set) var holds: [Hold] = []
    private(set) var gaps: [Gap] = []
    /// By access, the hold an acquire or release belongs to; nil for `clock`.
    private(set) var holdOfAccess: [Int?] = []
    /// By table, the items that read it.
    private(set) var readers: [[Int]] = []
    private(set) var tableRoomBytes: [Int] = []
    /// By table, its updates in the order of their acquires, where they are several of the whole table and may
    /// be added up on the device; empty for all others.
    private(set) var summands: [[Int]] = []

    /// - Throws: a refusal when acquires and releases do not pair up, or something is unknown.
    init(_ problem: PlanProblem) throws(PlanRefusal) {
        countPhases(problem.accesses)
        var tracer = HoldTracer(problem)
        for position in problem.accesses.indices {
            try tracer.note(position, phase: phaseOfAccess[position])
        }
        try tracer.checkEnd()
        holdOfAccess = Array(repeating: nil, count: problem.accesses.count)
        readers = Array(repeating: [], count: problem.tables.count)
        tableRoomBytes = problem.tables.map { Self.room($0.cacheBytes, problem) }
        for trace in tracer.traces { append(trace, problem) }
        findSummands(problem)
    }

    /// Holds the first update of `table` until the last one ends: the update log on the device.
    ///
    /// - Returns: the phases that are added to the hold.
    mutating func prolongSum(of table: TableIndex) -> Range<Int> {
        let updates = summands[table].map { items[$0].holds.lowerBound }
        guard let sum = updates.first,
            let end = updates.max(by: { holds[$0].lastAccess < holds[$1].lastAccess })
        else { return 0..<0 }
        let added = (holds[sum].last + 1)..<(holds[end].last + 1)
        holds[sum].last = holds[end].last
        holds[sum].lastAccess = holds[end].lastAccess
        let gap = items[holds[sum].item].gaps.lowerBound
        gaps[gap].first = wrapped(holds[sum].last + 1)
        gaps[gap].phaseCount -= added.count
        return added
    }

    private mutating func findSummands(_ problem: PlanProblem) {
        summands = Array(repeating: [], count: problem.tables.count)
        var batches = Array(repeating: Set<Int>(), count: problem.tables.count)
        for (index, item) in items.enumerated() {
            guard case .update(let batch) = item.kind, let table = item.table else { continue }
            summands[table].append(index)
            batches[table].insert(batch)
        }
        for table in summands.indices {
            let isSum =
                summands[table].count > 1 && batches[table].count == 1
                && batches[table].allSatisfy(problem.isWholeTable)
            if !isSum { summands[table] = [] }
        }
    }

    /// `phase` in `0..<phaseCount`.
    func wrapped(_ phase: Int) -> Int {
        let rest = phase % phaseCount
        return rest < 0 ? rest + phaseCount : rest
    }

    private mutating func countPhases(_ accesses: [Access]) {
        var phase = 0
        var wasRelease = false
        for access in accesses {
            if access.kind.isAcquire {
                if wasRelease { phase += 1 }
                wasRelease = false
            } else if access.kind != .clock {
                wasRelease = true
            }
            phaseOfAccess.append(phase)
        }
        phaseCount = phase + 1
    }

    private mutating func append(_ trace: HoldTracer.Trace, _ problem: PlanProblem) {
        let index = items.count
        let firstHold = holds.count
        for (hold, positions) in trace.holds {
            var hold = hold
            hold.item = index
            for position in positions { holdOfAccess[position] = holds.count }
            holds.append(hold)
        }
        let firstGap = gaps.count
        let count = trace.holds.count
        for number in 0..<count {
            appendGap(
                trace.kind, index, firstHold + number, firstHold + (number + 1) % count, trace)
        }
        var table: TableIndex?
        switch trace.kind {
        case .local: break
        case .read(let batch):
            table = problem.batches[batch].table
            readers[problem.batches[batch].table].append(index)
        case .update(let batch): table = problem.batches[batch].table
        }
        items.append(
            Item(
                kind: trace.kind, byteCount: trace.byteCount,
                roomBytes: Self.room(trace.byteCount, problem),
                holds: firstHold..<holds.count, gaps: firstGap..<gaps.count, table: table))
    }

    private mutating func appendGap(
        _ kind: Item.Kind, _ item: Int, _ before: Int, _ after: Int, _ trace: HoldTracer.Trace
    ) {
        let wraps = after <= before
        let start = holds[before].last + 1
        let end = holds[after].first + (wraps ? phaseCount : 0)
        var gap = Gap(
            item: item, before: before, after: after, first: start % phaseCount,
            phaseCount: end - start, isLive: false, savedBytes: 0)
        switch kind {
        case .local:
            gap.isLive = holds[before].keeps && holds[after].fetches
            gap.savedBytes = gap.isLive ? 2 * trace.byteCount : 0
        case .read:
            // Rows change at the clock, so a copy is of no use after it.
            gap.isLive = !wraps
            gap.savedBytes = gap.isLive ? trace.byteCount : 0
        case .update: break
        }
        gaps.append(gap)
    }

    private static func room(_ bytes: Int, _ problem: PlanProblem) -> Int {
        (bytes + problem.granuleBytes - 1) / problem.granuleBytes * problem.granuleBytes
    }
}

extension Access.Kind {
    /// Memory is needed from here on.
    var isAcquire: Bool { self == .read || self == .update || self == .local }
}
