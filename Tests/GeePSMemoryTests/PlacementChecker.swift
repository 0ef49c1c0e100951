import GeePSMemory

/// Checks a placement against the accesses it was made for, by going through iterations access by access.
struct PlacementChecker {
    let problem: PlanProblem
    let placement: Placement
    private var faults: [String] = []

    /// What is wrong with a placement; empty when nothing is.
    static func faults(
        of placement: Placement, for problem: PlanProblem, budgetBytes: Int?
    ) -> [String] {
        var checker = PlacementChecker(problem: problem, placement: placement)
        checker.checkSizes(budgetBytes: budgetBytes)
        checker.checkCover()
        checker.checkOverlap()
        checker.checkContent()
        checker.checkDependencies()
        checker.checkUpdates()
        checker.checkLeft()
        return checker.faults
    }

    private init(problem: PlanProblem, placement: Placement) {
        self.problem = problem
        self.placement = placement
    }

    private mutating func require(_ condition: Bool, _ rule: String) {
        if !condition { faults.append(rule) }
    }

    private var phaseCount: Int { placement.phaseBytes.count }

    private func room(_ stay: Placement.Stay) -> Int {
        let granule = problem.granuleBytes
        return (stay.byteCount + granule - 1) / granule * granule
    }

    private mutating func checkSizes(budgetBytes: Int?) {
        if let budgetBytes {
            require(placement.deviceBytes <= budgetBytes, "all device memory fits the budget")
        }
        require(
            placement.peakBytes <= placement.arenaBytes + placement.leftBytes, "the peak fits")
        var bytesIn = 0
        var bytesOut = bytesOfTakenUpdates
        for stay in placement.stays where !stay.isLeft {
            require(stay.offset % problem.granuleBytes == 0, "offsets are aligned")
            require(
                stay.offset >= 0 && stay.offset + room(stay) <= placement.arenaBytes,
                "stays lie in the arena")
            if stay.fetchesIn { bytesIn += stay.byteCount }
            if stay.savesOut { bytesOut += stay.byteCount }
            if case .cache = stay.item { bytesIn += stay.byteCount }
        }
        require(bytesIn == placement.bytesIn, "bytes in are those of the stays")
        require(bytesOut == placement.bytesOut, "bytes out are those of the stays")
    }

    /// Updates that need no room are copied out all the same.
    private var bytesOfTakenUpdates: Int {
        guard !problem.updatesNeedRoom else { return 0 }
        let updates = problem.accesses.filter { $0.kind == .update }
        return updates.reduce(0) { $0 + problem.batches[$1.batch].byteCount }
    }

    /// What is left with the caller may be, is not copied, and is counted.
    private mutating func checkLeft() {
        for stay in placement.stays where stay.isLeft {
            guard case .local(let id) = stay.item else {
                require(false, "only local data is left")
                continue
            }
            require(problem.locals[id].mayBeLeft, "what is left may be")
            require(
                !stay.fetchesIn && !stay.savesOut && !stay.isPinned, "what is left is not copied")
            require(stay.predecessors.isEmpty, "what is left takes nobody's memory")
        }
        for phase in 0..<phaseCount {
            let left = placement.stays.filter { $0.isLeft && isSetAside($0, phase) }
            require(
                left.reduce(0) { $0 + room($1) } <= placement.leftBytes, "what is left is counted")
        }
    }

    /// Every access has a stay of its item, which contains it.
    private mutating func checkCover() {
        for (position, access) in problem.accesses.enumerated() where access.kind != .clock {
            guard let index = placement.stayOfAccess[position] else {
                let isUpdate = access.kind == .update || access.kind == .endUpdate
                if isUpdate, !problem.updatesNeedRoom { continue }
                let isRead = access.kind == .read || access.kind == .endRead
                let batch = problem.batches[access.batch]
                require(
                    isRead && batch.isRun && placement.cacheHomes[batch.table] == .device,
                    "only reads in place have no memory")
                continue
            }
            let stay = placement.stays[index]
            let item: Placement.Item =
                switch access.kind {
                case .local, .endLocal: .local(access.batch)
                case .read, .endRead: .read(access.batch)
                default: .update(access.batch)
                }
            require(stay.item == item, "a stay holds the item accessed")
            let isInside =
                stay.firstAccess <= stay.lastAccess
                ? (stay.firstAccess...stay.lastAccess).contains(position)
                : position >= stay.firstAccess || position <= stay.lastAccess
            require(isInside, "a stay contains its accesses")
        }
    }

    /// No byte belongs to two stays in one phase; brute force over two iterations.
    private mutating func checkOverlap() {
        for phase in 0..<(2 * phaseCount) {
            var ranges: [Range<Int>] = []
            let present = placement.stays.filter { isSetAside($0, phase) }
            for stay in present where room(stay) > 0 && !stay.isLeft {
                ranges.append(stay.offset..<(stay.offset + room(stay)))
            }
            ranges.sort { $0.lowerBound < $1.lowerBound }
            for (one, other) in zip(ranges, ranges.dropFirst()) {
                require(one.upperBound <= other.lowerBound, "no byte has two owners")
            }
            let sum = present.reduce(0) { $0 + room($1) }
            require(sum <= placement.phaseBytes[phase % phaseCount], "the load counts every stay")
        }
        for stay in placement.stays where !stay.isPinned {
            let first = placement.phaseOfAccess[stay.firstAccess]
            let last = placement.phaseOfAccess[stay.lastAccess]
            require(
                isSetAside(stay, first) && isSetAside(stay, last),
                "memory is set aside while it is used")
            require(stay.phaseCount <= phaseCount, "a stay does not meet itself")
        }
    }

    private func isSetAside(_ stay: Placement.Stay, _ phase: Int) -> Bool {
        stay.isPinned
            || ((phase - stay.firstPhase) % phaseCount + phaseCount) % phaseCount < stay.phaseCount
    }

    /// What an access may count on is really there: versions written, saved and fetched are followed.
    private mutating func checkContent() {
        let stays = placement.stays
        // Version of each local batch that its last holder kept; in memory by stay, and on the host.
        var kept = [Int?](repeating: nil, count: problem.locals.count)
        var onHost = kept
        var inStay = [Int?](repeating: nil, count: stays.count)
        var holders = [Int](repeating: 0, count: problem.locals.count)
        var keeps = [Bool](repeating: false, count: problem.locals.count)
        var version = 0
        for _ in 0..<3 {
            for (position, access) in problem.accesses.enumerated() {
                guard access.kind == .local || access.kind == .endLocal,
                    let index = placement.stayOfAccess[position]
                else { continue }
                let id = access.batch
                if access.kind == .local {
                    if holders[id] == 0 {
                        let begins = stays[index].firstAccess == position && !stays[index].isPinned
                        if begins { inStay[index] = stays[index].fetchesIn ? onHost[id] : nil }
                        if needsContent(from: position), let kept = kept[id] {
                            require(inStay[index] == kept, "fetched content is what was kept")
                        }
                        keeps[id] = false
                    }
                    holders[id] += 1
                    continue
                }
                holders[id] -= 1
                keeps[id] = keeps[id] || access.matters
                version += 1
                inStay[index] = version
                guard holders[id] == 0 else { continue }
                kept[id] = keeps[id] ? version : nil
                let ends = stays[index].lastAccess == position && !stays[index].isPinned
                if ends {
                    if stays[index].savesOut { onHost[id] = version }
                    inStay[index] = nil
                }
            }
        }
    }

    /// Every update leaves once: by itself, or in another that is there when it ends.
    private mutating func checkUpdates() {
        var bytes = bytesOfTakenUpdates
        for stay in placement.stays {
            guard case .update(let id) = stay.item else {
                require(stay.addsInto == nil, "only updates are added to others")
                continue
            }
            require(
                stay.savesOut == (stay.addsInto == nil), "an update is saved or added, not both")
            if stay.savesOut { bytes += stay.byteCount }
            guard let target = stay.addsInto.map({ placement.stays[$0] }) else { continue }
            let batch = problem.batches[id]
            require(
                target.item == stay.item
                    && batch.byteCount == problem.tables[batch.table].cacheBytes
                    && (batch.isRun || batch.isWholeTable),
                "what is added is of the same whole table")
            require(target.savesOut && target.addsInto == nil, "the sum is saved")
            require(
                target.firstAccess < stay.firstAccess && stay.firstAccess <= stay.lastAccess
                    && stay.lastAccess <= target.lastAccess,
                "what is added ends while the sum is there")
            require(
                !problem.accesses[target.lastAccess...].dropFirst().contains {
                    $0.kind == .endUpdate && problem.batches[$0.batch].table == batch.table
                }, "the sum ends with the table's last update")
        }
        require(bytes == placement.bytesOfUpdates, "bytes of updates are those that are saved")
    }

    /// Some holder of the hold that begins at `position` fetches.
    private func needsContent(from position: Int) -> Bool {
        let id = problem.accesses[position].batch
        var holders = 0
        for access in problem.accesses[position...] where access.batch == id {
            if access.kind == .local {
                holders += 1
                if access.matters { return true }
            } else if access.kind == .endLocal {
                holders -= 1
                if holders == 0 { return false }
            }
        }
        return false
    }

    /// Predecessors end before a stay begins, and cover whatever had its memory before.
    private mutating func checkDependencies() {
        let stays = placement.stays
        for stay in stays where !stay.isPinned && !stay.isLeft {
            for dependency in stay.predecessors {
                let other = stays[dependency.stay]
                require(
                    (0...1).contains(dependency.iterationsBack),
                    "predecessors are at most an iteration back")
                let end =
                    other.firstPhase + other.phaseCount - dependency.iterationsBack * phaseCount
                require(end <= stay.firstPhase, "predecessors end before")
            }
            let others = stays.indices.filter { index in
                let other = stays[index]
                return !other.isPinned && !other.isLeft && room(stay) > 0 && room(other) > 0
                    && other.offset < stay.offset + room(stay)
                    && stay.offset < other.offset + room(other)
            }
            // Every earlier user of a byte is a predecessor, or was followed by one on that byte.
            for index in others {
                let shared =
                    max(
                        stays[index].offset, stay.offset)..<min(
                        stays[index].offset + room(stays[index]), stay.offset + room(stay))
                // Cover can change only where a predecessor begins or ends.
                let owners = stay.predecessors.map { stays[$0.stay] }
                let edges =
                    [shared.lowerBound] + owners.map(\.offset)
                    + owners.map { $0.offset + room($0) }
                let isCovered = edges.filter { shared.contains($0) }.allSatisfy { byte in
                    stay.predecessors.contains { dependency in
                        let other = stays[dependency.stay]
                        return other.offset <= byte && byte < other.offset + room(other)
                    }
                }
                require(isCovered, "every earlier owner is a predecessor or has one after it")
            }
            if stay.fetchesIn, case .local = stay.item {
                require(
                    stay.source.map { stays[$0.stay].savesOut } ?? false,
                    "what is fetched was saved")
            }
        }
    }
}
