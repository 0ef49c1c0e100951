import GeePSCore

extension SelectionDraft {
    /// GeePS's Algorithm 2 (§4.4, d.2): whole local items are pinned, those in use at the peak first, then
    /// other local items, then parameters; the rest is a pool of `poolFactor` times the peak.
    ///
    /// Two is double buffering; one is what is left to try when that does not fit. A peak that pinning lowers
    /// counts as lowered, so a budget between is not refused.
    ///
    /// - Returns: whether the pool fits.
    mutating func chooseAsPaper(within totalBytes: Int, poolFactor: Int) -> Bool {
        copyReads()
        var pool = PaperPool(outline)
        var available = totalBytes - poolFactor * pool.peak
        while let choice = bestAtPeak(pool, poolFactor) {
            guard available >= choice.cost || choice.cost < 0 else { break }
            pool.remove(choice.item, outline)
            pin(item: choice.item)
            available -= choice.cost
        }
        guard available >= 0 else { return false }
        for item in outline.items.indices where isMovable(item) && !pool.isPinned[item] {
            guard available >= outline.items[item].roomBytes else { continue }
            pool.remove(item, outline)
            pin(item: item)
            available -= outline.items[item].roomBytes
        }
        for table in problem.tables.indices where !outline.readers[table].isEmpty {
            let bytes = selection.tableRoomBytes(table, outline)
            guard available >= bytes else { continue }
            if placeOnDevice(table: table, within: .max) { available -= bytes }
            // Its log is on the device, so updates add up there; the sum's stay is the log.
            _ = accumulate(table: table, within: .max)
        }
        grantWindows(within: totalBytes)
        return true
    }

    /// Room with which the paper's policy pins everything and still double-buffers.
    var paperFullBytes: Int {
        var pool = PaperPool(outline)
        var bytes = 0
        for item in outline.items.indices where isMovable(item) {
            pool.remove(item, outline)
            bytes += outline.items[item].roomBytes
        }
        for table in problem.tables.indices where !outline.readers[table].isEmpty {
            bytes += 2 * outline.tableRoomBytes[table]
        }
        return bytes + 2 * pool.peak
    }

    /// The unpinned local item in use at the peak that costs least; ties go to the larger.
    private func bestAtPeak(_ pool: PaperPool, _ factor: Int) -> (item: Int, cost: Int)? {
        let peak = pool.peak
        guard let phase = pool.load.bytes.firstIndex(of: peak) else { return nil }
        var best: (item: Int, cost: Int)?
        for item in pool.itemsByPhase[phase] where isMovable(item) && !pool.isPinned[item] {
            let bytes = outline.items[item].roomBytes
            let cost = bytes + factor * (pool.peak(without: item, outline) - peak)
            if let known = best,
                (known.cost, -outline.items[known.item].roomBytes) <= (cost, -bytes)
            {
                continue
            }
            best = (item, cost)
        }
        return best
    }

    /// Local data with content that is moved unless it is pinned.
    private func isMovable(_ item: Int) -> Bool {
        guard case .local = outline.items[item].kind else { return false }
        return outline.items[item].gaps.contains { outline.gaps[$0].isLive }
    }
}

/// What is held by phase, without pinned items.
private struct PaperPool {
    var load: PhaseLoad
    var isPinned: [Bool]
    let itemsByPhase: [[Int]]

    init(_ outline: PlanOutline) {
        load = PhaseLoad(phaseCount: outline.phaseCount)
        isPinned = outline.items.map { _ in false }
        var byPhase = Array(repeating: [Int](), count: outline.phaseCount)
        for hold in outline.holds {
            load.add(outline.items[hold.item].roomBytes, first: hold.first, count: hold.phaseCount)
            for phase in hold.first...hold.last { byPhase[phase].append(hold.item) }
        }
        itemsByPhase = byPhase
    }

    var peak: Int { load.peak }

    mutating func remove(_ item: Int, _ outline: PlanOutline) {
        isPinned[item] = true
        for hold in outline.holds[outline.items[item].holds] {
            load.add(-outline.items[item].roomBytes, first: hold.first, count: hold.phaseCount)
        }
    }

    func peak(without item: Int, _ outline: PlanOutline) -> Int {
        var other = load
        for hold in outline.holds[outline.items[item].holds] {
            other.add(-outline.items[item].roomBytes, first: hold.first, count: hold.phaseCount)
        }
        return other.peak
    }
}
