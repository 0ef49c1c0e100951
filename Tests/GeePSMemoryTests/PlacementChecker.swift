import GeePSMemory
import Testing

/// Checks a placement against the accesses it was made for, by going through iterations access by access.
struct PlacementChecker {
    let problem: PlanProblem
    let placement: Placement
    let comment: Comment

    func checkAll(budgetBytes: Int?) {
        checkSizes(budgetBytes: budgetBytes)
        checkCover()
        checkOverlap()
        checkContent()
        checkDependencies()
    }

    private var phaseCount: Int { placement.phaseBytes.count }

    private func room(_ stay: Placement.Stay) -> Int {
        let granule = problem.granuleBytes
        return (stay.byteCount + granule - 1) / granule * granule
    }

    func checkSizes(budgetBytes: Int?) {
        if let budgetBytes { #expect(placement.deviceBytes <= budgetBytes, comment) }
        #expect(placement.peakBytes <= placement.arenaBytes, comment)
        var bytesIn = 0
        var bytesOut = 0
        for stay in placement.stays {
            #expect(stay.offset % problem.granuleBytes == 0, comment)
            #expect(stay.offset >= 0 && stay.offset + room(stay) <= placement.arenaBytes, comment)
            if stay.fetchesIn { bytesIn += stay.byteCount }
            if stay.savesOut { bytesOut += stay.byteCount }
            if case .cache = stay.item { bytesIn += stay.byteCount }
        }
        #expect(bytesIn == placement.bytesIn, comment)
        #expect(bytesOut == placement.bytesOut, comment)
    }

    /// Every access has a stay of its item, which contains it.
    func checkCover() {
        for (position, access) in problem.accesses.enumerated() where access.kind != .clock {
            guard let index = placement.stayOfAccess[position] else {
                let isRead = access.kind == .read || access.kind == .endRead
                let batch = problem.batches[access.batch]
                #expect(
                    isRead && batch.isRun && placement.cacheHomes[batch.table] == .device, comment)
                continue
            }
            let stay = placement.stays[index]
            let item: Placement.Item =
                switch access.kind {
                case .local, .endLocal: .local(access.batch)
                case .read, .endRead: .read(access.batch)
                default: .update(access.batch)
                }
            #expect(stay.item == item, comment)
            let isInside =
                stay.firstAccess <= stay.lastAccess
                ? (stay.firstAccess...stay.lastAccess).contains(position)
                : position >= stay.firstAccess || position <= stay.lastAccess
            #expect(isInside, comment)
        }
    }

    /// No byte belongs to two stays in one phase; brute force over two iterations.
    func checkOverlap() {
        for phase in 0..<(2 * phaseCount) {
            var ranges: [Range<Int>] = []
            for stay in placement.stays where room(stay) > 0 && isSetAside(stay, phase) {
                ranges.append(stay.offset..<(stay.offset + room(stay)))
            }
            ranges.sort { $0.lowerBound < $1.lowerBound }
            for (one, other) in zip(ranges, ranges.dropFirst()) {
                #expect(one.upperBound <= other.lowerBound, comment)
            }
            let sum = ranges.reduce(0) { $0 + $1.count }
            #expect(sum <= placement.phaseBytes[phase % phaseCount], comment)
        }
        for stay in placement.stays where !stay.isPinned {
            let first = placement.phaseOfAccess[stay.firstAccess]
            let last = placement.phaseOfAccess[stay.lastAccess]
            #expect(isSetAside(stay, first) && isSetAside(stay, last), comment)
            #expect(stay.phaseCount <= phaseCount, comment)
        }
    }

    private func isSetAside(_ stay: Placement.Stay, _ phase: Int) -> Bool {
        stay.isPinned
            || ((phase - stay.firstPhase) % phaseCount + phaseCount) % phaseCount < stay.phaseCount
    }

    /// What an access may count on is really there: versions written, saved and fetched are followed.
    func checkContent() {
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
                            #expect(inStay[index] == kept, comment)
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
    func checkDependencies() {
        let stays = placement.stays
        for stay in stays where !stay.isPinned {
            for dependency in stay.predecessors {
                let other = stays[dependency.stay]
                #expect((0...1).contains(dependency.iterationsBack), comment)
                let end =
                    other.firstPhase + other.phaseCount - dependency.iterationsBack * phaseCount
                #expect(end <= stay.firstPhase, comment)
            }
            let others = stays.indices.filter { index in
                let other = stays[index]
                return !other.isPinned && room(stay) > 0 && room(other) > 0
                    && other.offset < stay.offset + room(stay)
                    && stay.offset < other.offset + room(other)
            }
            // Every earlier user of a byte is a predecessor, or was followed by one on that byte.
            for index in others {
                let shared =
                    max(stays[index].offset, stay.offset)
                    ..< min(stays[index].offset + room(stays[index]), stay.offset + room(stay))
                let isCovered = stride(
                    from: shared.lowerBound, to: shared.upperBound, by: problem.granuleBytes
                ).allSatisfy { byte in
                    stay.predecessors.contains { dependency in
                        let other = stays[dependency.stay]
                        return other.offset <= byte && byte < other.offset + room(other)
                    }
                }
                #expect(isCovered, comment)
            }
            if stay.fetchesIn, case .local = stay.item { #expect(stay.source != nil, comment) }
        }
    }
}
