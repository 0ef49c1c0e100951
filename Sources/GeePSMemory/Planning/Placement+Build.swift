import GeePSCore

extension Placement {
    /// Puts offsets and stays together.
    init(_ draft: SelectionDraft, _ list: StayList, _ packing: Packing) {
        let outline = draft.outline
        stays = []
        stayOfAccess = Array(repeating: nil, count: outline.phaseOfAccess.count)
        homes = Array(repeating: .unused, count: draft.problem.locals.count)
        cacheHomes = draft.selection.isOnDevice.map { $0 ? .device : .host }
        phaseOfAccess = outline.phaseOfAccess
        arenaBytes = packing.height
        fixedBytes = draft.problem.fixedBytes
        leftBytes = list.leftBytes
        var load = PhaseLoad(phaseCount: outline.phaseCount)
        var stayOfHold = [Int?](repeating: nil, count: outline.holds.count)
        for (index, stay) in list.drafts.enumerated() {
            let isNarrow = packing.isNarrow[index]
            let span = list.span(of: stay, isNarrow: isNarrow)
            load.add(stay.roomBytes, first: span.first, count: span.phaseCount)
            for hold in stay.holds { stayOfHold[hold] = index }
            stays.append(
                Stay(stay, span, offset: packing.offsets[index], isNarrow: isNarrow, outline))
        }
        phaseBytes = load.bytes
        for (access, hold) in outline.holdOfAccess.enumerated() {
            stayOfAccess[access] = hold.flatMap { stayOfHold[$0] }
        }
        (bytesIn, bytesOut) = draft.traffic
        bytesOfArrivingRows = draft.problem.tables.indices.reduce(0) { sum, table in
            sum + (draft.selection.isOnDevice[table] ? draft.problem.tables[table].cacheBytes : 0)
        }
        bytesOfUpdates = stays.reduce(draft.problem.bytesOfTakenUpdates) { sum, stay in
            guard case .update = stay.item, stay.savesOut else { return sum }
            return sum + stay.byteCount
        }
        findHomes()
        for table in draft.problem.tables.indices where draft.selection.accumulates[table] {
            let updates = outline.summands[table].map {
                stayOfHold[outline.items[$0].holds.lowerBound]
            }
            for case let update? in updates.dropFirst() { stays[update].addsInto = updates[0] }
        }
        let rooms = list.drafts.map { $0.isLeft ? 0 : $0.roomBytes }
        for index in stays.indices {
            stays[index].predecessors = predecessors(of: index, rooms, outline.phaseCount)
        }
        findSources(outline.phaseCount)
    }

    private mutating func findHomes() {
        for stay in stays {
            guard case .local(let id) = stay.item else { continue }
            if stay.isPinned {
                homes[id] = .pinned
            } else if stay.fetchesIn || stay.savesOut {
                homes[id] = .moves
            } else if homes[id] == .unused {
                homes[id] = .transient
            }
        }
    }

    /// The last holders of each byte, found by going back in time from the begin of the stay.
    private func predecessors(of index: Int, _ rooms: [Int], _ phaseCount: Int) -> [Dependency] {
        let stay = stays[index]
        guard !stay.isPinned, !stay.isLeft else { return [] }
        let range = stay.offset..<(stay.offset + rooms[index])
        var earlier: [(age: Int, dependency: Dependency)] = []
        for (other, candidate) in stays.enumerated()
        where !candidate.isPinned && !candidate.isLeft {
            let end = candidate.offset + rooms[other]
            guard candidate.offset < range.upperBound, end > range.lowerBound else { continue }
            var age = stay.firstPhase - candidate.firstPhase
            var iterations = 0
            while age <= 0 {
                age += phaseCount
                iterations += 1
            }
            earlier.append((age, Dependency(stay: other, iterationsBack: iterations)))
        }
        earlier.sort {
            $0.age != $1.age ? $0.age < $1.age : $0.dependency.stay < $1.dependency.stay
        }
        var uncovered = [range]
        var found: [Dependency] = []
        for (_, dependency) in earlier where !uncovered.isEmpty {
            let start = stays[dependency.stay].offset
            let taken = start..<(start + rooms[dependency.stay])
            guard uncovered.contains(where: { $0.overlaps(taken) }) else { continue }
            found.append(dependency)
            uncovered = uncovered.flatMap { $0.without(taken) }
        }
        return found
    }

    /// The stay of the same local batch that was there last.
    private mutating func findSources(_ phaseCount: Int) {
        for (index, stay) in stays.enumerated() where stay.fetchesIn {
            guard case .local = stay.item else { continue }
            var best: (age: Int, dependency: Dependency)?
            for (other, candidate) in stays.enumerated() where candidate.item == stay.item {
                let isBefore = candidate.firstAccess < stay.firstAccess
                let age =
                    stay.firstAccess - candidate.firstAccess
                    + (isBefore ? 0 : phaseOfAccess.count)
                if best.map({ age < $0.age }) ?? true {
                    best = (age, Dependency(stay: other, iterationsBack: isBefore ? 0 : 1))
                }
            }
            stays[index].source = best?.dependency
        }
    }
}

extension Placement.Stay {
    fileprivate init(
        _ draft: StayList.Draft, _ span: Occupancy, offset: Int, isNarrow: Bool,
        _ outline: PlanOutline
    ) {
        let early = isNarrow ? 0 : draft.early
        let late = isNarrow ? 0 : draft.late
        item = draft.item
        self.offset = offset
        byteCount = draft.byteCount
        isPinned = draft.isPinned
        firstAccess = draft.isPinned ? 0 : outline.holds[draft.holds[0]].firstAccess
        lastAccess =
            draft.isPinned
            ? outline.phaseOfAccess.count - 1
            : outline.holds[draft.holds[draft.holds.count - 1]].lastAccess
        fetchesIn = draft.fetches
        savesOut = draft.saves
        isSingleBuffered = draft.fetches && early == 0 || draft.saves && late == 0
        firstPhase = draft.first - early
        phaseCount = span.phaseCount
        predecessors = []
        addsInto = nil
        source = nil
        isLeft = draft.isLeft
    }
}

extension Range<Int> {
    /// What is left without `other`.
    fileprivate func without(_ other: Range<Int>) -> [Range<Int>] {
        guard overlaps(other) else { return [self] }
        return [
            lowerBound..<Swift.max(lowerBound, other.lowerBound),
            Swift.min(upperBound, other.upperBound)..<upperBound,
        ].filter { !$0.isEmpty }
    }
}
