import GeePSCore

/// A selection cut into stays, before and after offsets are known.
struct StayList {
    /// A stay in terms of the outline.
    struct Draft {
        var item: Placement.Item
        var byteCount: Int
        var roomBytes: Int
        /// Indexes of the outline's holds, in the order of time.
        var holds: [Int]
        /// Phase of the first acquire, and phases from there to the last release.
        var first: Int
        var phaseCount: Int
        var isPinned = false
        var fetches = false
        var saves = false
        /// Phases of room before and after for copies.
        var early = 0
        var late = 0
        /// Its content stays where the caller has made it.
        var isLeft = false

        var narrow: Occupancy { Occupancy(first: first, phaseCount: phaseCount, bytes: roomBytes) }
    }

    private(set) var drafts: [Draft] = []
    let phaseCount: Int

    init(_ draft: SelectionDraft) {
        phaseCount = draft.outline.phaseCount
        for table in draft.problem.tables.indices where draft.selection.isOnDevice[table] {
            drafts.append(
                Draft(
                    item: .cache(table), byteCount: draft.problem.tables[table].cacheBytes,
                    roomBytes: draft.selection.tableRoomBytes(table, draft.outline), holds: [],
                    first: 0, phaseCount: phaseCount, isPinned: true))
        }
        for item in draft.outline.items where draft.selection.needsMemory(item, draft.problem) {
            append(item, draft)
        }
        let keys = drafts.map { stay in
            stay.isPinned ? -1 : draft.outline.holds[stay.holds[0]].firstAccess
        }
        let order = drafts.indices.sorted { (keys[$0], $0) < (keys[$1], $1) }
        drafts = order.map { drafts[$0] }
    }

    /// What may be left where the caller has made it and is not copied anyway, the longest stays first.
    func leavable(_ locals: [PlanProblem.Local]) -> [Int] {
        let found = drafts.indices.filter { index in
            guard case .local(let id) = drafts[index].item else { return false }
            let draft = drafts[index]
            return locals[id].mayBeLeft && !draft.isPinned && !draft.fetches && !draft.saves
        }
        return found.sorted { (drafts[$1].phaseCount, $0) < (drafts[$0].phaseCount, $1) }
    }

    /// The same with the content of some stays left with the caller.
    func leaving(_ indexes: some Sequence<Int>) -> StayList {
        var list = self
        for index in indexes { list.drafts[index].isLeft = true }
        return list
    }

    /// Most bytes at one time of what is left with the caller.
    var leftBytes: Int {
        var load = PhaseLoad(phaseCount: phaseCount)
        for draft in drafts where draft.isLeft {
            load.add(draft.roomBytes, first: draft.first, count: draft.phaseCount)
        }
        return load.peak
    }

    /// For the packer; what is left with the caller takes no room.
    var pieces: [PackingPiece] {
        drafts.map { draft in
            var piece = PackingPiece(wide: span(of: draft, isNarrow: false), narrow: draft.narrow)
            if draft.isLeft { (piece.wide.bytes, piece.narrow.bytes) = (0, 0) }
            return piece
        }
    }

    /// Phases that memory of `draft` is set aside for.
    func span(of draft: Draft, isNarrow: Bool) -> Occupancy {
        guard !isNarrow else { return draft.narrow }
        let first = draft.first - draft.early
        return Occupancy(
            first: first < 0 ? first + phaseCount : first,
            phaseCount: draft.phaseCount + draft.early + draft.late,
            bytes: draft.roomBytes)
    }

    private mutating func append(_ item: PlanOutline.Item, _ draft: SelectionDraft) {
        let kind: Placement.Item =
            switch item.kind {
            case .local(let id): .local(id)
            case .read(let id): .read(id)
            case .update(let id): .update(id)
            }
        let stays = item.gaps.map { draft.selection.isResident[$0] }
        if !stays.contains(false) {
            drafts.append(
                Draft(
                    item: kind, byteCount: item.byteCount, roomBytes: item.roomBytes,
                    holds: Array(item.holds), first: 0, phaseCount: phaseCount, isPinned: true))
            return
        }
        // Begin after a gap that is not stayed over, so that no stay is cut by the clock.
        let count = item.holds.count
        let start = stays.lastIndex(of: false).map { $0 + 1 } ?? 0
        var run: [Int] = []
        for step in 0..<count {
            let number = (start + step) % count
            run.append(item.holds.lowerBound + number)
            guard !stays[number] else { continue }
            drafts.append(stay(kind, item, run, draft))
            run = []
        }
    }

    private func stay(
        _ kind: Placement.Item, _ item: PlanOutline.Item, _ run: [Int], _ draft: SelectionDraft
    ) -> Draft {
        let holds = draft.outline.holds
        let first = run[0]
        let last = run[run.count - 1]
        let span = holds[last].last - holds[first].first
        var stay = Draft(
            item: kind, byteCount: item.byteCount, roomBytes: item.roomBytes, holds: run,
            first: holds[first].first, phaseCount: (span < 0 ? span + phaseCount : span) + 1)
        stay.fetches = draft.fetches(hold: first)
        stay.saves = draft.saves(hold: last)
        stay.early = draft.selection.early[first]
        stay.late = draft.selection.late[last]
        return stay
    }
}
