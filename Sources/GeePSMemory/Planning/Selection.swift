import GeePSCore

/// What stays on the device, and who gets room to be copied beside its neighbours; the planner's decision,
/// before offsets.
struct Selection: Hashable {
    /// By gap: the item stays over it.
    var isResident: [Bool]
    /// By table: the parameter cache is on the device.
    var isOnDevice: [Bool]
    /// By table: its updates are added up on the device, and their sum leaves once.
    var accumulates: [Bool]
    /// By hold: phases of room before it, so that copying in overlaps their compute.
    var early: [Int]
    /// By hold: phases of room after it, so that copying out overlaps their compute.
    var late: [Int]
    /// Reads of tables on the device are copies, and their update logs lie beside them, as in GeePS.
    var copiesReads = false

    /// Everything is moved but what is released and acquired again at once.
    init(_ outline: PlanOutline) {
        isResident = outline.gaps.map { $0.isLive && $0.phaseCount == 0 }
        isOnDevice = outline.readers.map { _ in false }
        accumulates = isOnDevice
        early = outline.holds.map { _ in 0 }
        late = outline.holds.map { _ in 0 }
    }

    /// Room that a table takes on the device; where updates add up, their sum is the log.
    func tableRoomBytes(_ table: TableIndex, _ outline: PlanOutline) -> Int {
        outline.tableRoomBytes[table] * (copiesReads && !accumulates[table] ? 2 : 1)
    }

    /// Whether `item` needs memory of its own: a read from a cache on the device needs none.
    func needsMemory(_ item: PlanOutline.Item, _ problem: PlanProblem) -> Bool {
        guard case .read(let batch) = item.kind, let table = item.table, isOnDevice[table] else {
            return true
        }
        return copiesReads || !problem.batches[batch].isRun
    }
}

/// A selection with its load by phase, changed step by step.
struct SelectionDraft {
    let problem: PlanProblem
    /// The problem's; where updates are added up, with the sum's longer hold.
    private(set) var outline: PlanOutline
    private(set) var selection: Selection
    private(set) var load: PhaseLoad

    /// Starts with everything moved, nothing beside its neighbours.
    init(_ problem: PlanProblem, _ outline: PlanOutline) {
        self.problem = problem
        self.outline = outline
        selection = Selection(outline)
        load = PhaseLoad(phaseCount: outline.phaseCount)
        for item in outline.items { addHolds(of: item, sign: 1) }
    }

    // MARK: What a side of a hold copies

    /// The item of hold `index` is copied in before it.
    func fetches(hold index: Int) -> Bool {
        let hold = outline.holds[index]
        let item = outline.items[hold.item]
        switch item.kind {
        case .update: return false
        case .read:
            if let table = item.table, selection.isOnDevice[table] { return false }
            return index == item.holds.lowerBound || !selection.isResident[gapBefore(index)]
        case .local:
            let gap = gapBefore(index)
            return outline.gaps[gap].isLive && !selection.isResident[gap]
        }
    }

    /// The item of hold `index` is copied out after it.
    func saves(hold index: Int) -> Bool {
        let item = outline.items[outline.holds[index].item]
        switch item.kind {
        case .update:
            guard let table = item.table, selection.accumulates[table] else { return true }
            return outline.summands[table].first == outline.holds[index].item
        case .read: return false
        case .local:
            let gap = item.gaps.lowerBound + (index - item.holds.lowerBound)
            return outline.gaps[gap].isLive && !selection.isResident[gap]
        }
    }

    // MARK: Steps

    /// Keeps the item over `gap` if the load stays within `capacityBytes`.
    mutating func keep(gap index: Int, within capacityBytes: Int) -> Bool {
        let gap = outline.gaps[index]
        let bytes = outline.items[gap.item].roomBytes
        let late = selection.late[gap.before]
        let early = selection.early[gap.after]
        removeWindows(of: gap)
        load.add(bytes, first: gap.first, count: gap.phaseCount)
        selection.isResident[index] = true
        if load.peak(first: gap.first, count: gap.phaseCount) <= capacityBytes { return true }
        selection.isResident[index] = false
        load.add(-bytes, first: gap.first, count: gap.phaseCount)
        for _ in 0..<late { add(CopyWindow(hold: gap.before, isEarly: false)) }
        for _ in 0..<early { add(CopyWindow(hold: gap.after, isEarly: true)) }
        return false
    }

    /// Gives a side of a hold a phase more room beside its neighbours if the load stays within `capacityBytes`.
    mutating func grant(_ window: CopyWindow, within capacityBytes: Int) -> Bool {
        let bytes = outline.items[outline.holds[window.hold].item].roomBytes
        let phase = self.phase(of: window)
        guard load.bytes[phase] + bytes <= capacityBytes else { return false }
        add(window)
        return true
    }

    /// The next phase that a window adds to a hold.
    func phase(of window: CopyWindow) -> Int {
        let hold = outline.holds[window.hold]
        return outline.wrapped(
            window.isEarly
                ? hold.first - 1 - selection.early[window.hold]
                : hold.last + 1 + selection.late[window.hold])
    }

    /// Puts a table's cache on the device if the load stays within `capacityBytes`.
    mutating func placeOnDevice(table: TableIndex, within capacityBytes: Int) -> Bool {
        let before = (selection, load)
        let readers = outline.readers[table].map { outline.items[$0] }
        for item in readers { removeRoom(of: item) }
        selection.isOnDevice[table] = true
        for item in readers where selection.needsMemory(item, problem) {
            addHolds(of: item, sign: 1)
        }
        load.add(
            selection.tableRoomBytes(table, outline), first: 0, count: outline.phaseCount)
        if load.peak <= capacityBytes { return true }
        (selection, load) = before
        return false
    }

    /// Adds a table's updates up on the device if the load stays within `capacityBytes`.
    mutating func accumulate(table: TableIndex, within capacityBytes: Int) -> Bool {
        guard let sum = outline.summands[table].first, !selection.accumulates[table] else {
            return false
        }
        let before = (selection, load, outline)
        for item in outline.summands[table] {
            for gap in outline.items[item].gaps { removeWindows(of: outline.gaps[gap]) }
        }
        let logBytes = selection.tableRoomBytes(table, outline)
        selection.accumulates[table] = true
        if selection.isOnDevice[table] {
            load.add(
                selection.tableRoomBytes(table, outline) - logBytes, first: 0,
                count: outline.phaseCount)
        }
        let added = outline.prolongSum(of: table)
        load.add(outline.items[sum].roomBytes, first: added.lowerBound, count: added.count)
        if load.peak(first: added.lowerBound, count: added.count) <= capacityBytes { return true }
        (selection, load, outline) = before
        return false
    }

    /// Keeps a whole item; for the paper's policy.
    mutating func pin(item index: Int) {
        let item = outline.items[index]
        for gap in item.gaps where !selection.isResident[gap] {
            selection.isResident[gap] = true
            load.add(
                item.roomBytes, first: outline.gaps[gap].first,
                count: outline.gaps[gap].phaseCount)
        }
    }

    /// Tables on the device also hold their update log, and lend copies; for the paper's policy.
    mutating func copyReads() { selection.copiesReads = true }

    /// Every side that copies and may have room beside its neighbours, and has less than `depth` phases of it.
    func openWindows(depth: Int) -> [CopyWindow] {
        var windows: [CopyWindow] = []
        for hold in outline.holds.indices {
            if selection.early[hold] < depth, fetches(hold: hold), hasRoom(in: gapBefore(hold)) {
                windows.append(CopyWindow(hold: hold, isEarly: true))
            }
            if selection.late[hold] < depth, saves(hold: hold), hasRoom(in: gapAfter(hold)) {
                windows.append(CopyWindow(hold: hold, isEarly: false))
            }
        }
        return windows
    }

    /// Some phase of the gap is left that no window takes.
    ///
    /// Where two windows would fill a gap of local data, staying costs no more.
    func hasRoom(in gap: Int) -> Bool {
        let gap = outline.gaps[gap]
        let taken = selection.late[gap.before] + selection.early[gap.after]
        if case .local = outline.items[gap.item].kind {
            return gap.phaseCount > 2 && taken < gap.phaseCount - 1
        }
        return taken < gap.phaseCount
    }

    /// Largest load without any room beside neighbours.
    var narrowPeak: Int {
        var narrow = load
        for (index, hold) in outline.holds.enumerated() {
            let bytes = outline.items[hold.item].roomBytes
            let early = selection.early[index]
            narrow.add(-bytes, first: hold.first - early, count: early)
            narrow.add(-bytes, first: hold.last + 1, count: selection.late[index])
        }
        return narrow.peak
    }

    // MARK: Inside

    /// Index of the gap that ends where hold `hold` begins.
    func gapBefore(_ hold: Int) -> Int {
        let item = outline.items[outline.holds[hold].item]
        let number = hold - item.holds.lowerBound
        return item.gaps.lowerBound + (number == 0 ? item.gaps.count : number) - 1
    }

    /// Index of the gap that begins where hold `hold` ends.
    func gapAfter(_ hold: Int) -> Int {
        let item = outline.items[outline.holds[hold].item]
        return item.gaps.lowerBound + (hold - item.holds.lowerBound)
    }

    private mutating func add(_ window: CopyWindow) {
        let bytes = outline.items[outline.holds[window.hold].item].roomBytes
        load.add(bytes, first: phase(of: window), count: 1)
        if window.isEarly {
            selection.early[window.hold] += 1
        } else {
            selection.late[window.hold] += 1
        }
    }

    private mutating func addHolds(of item: PlanOutline.Item, sign: Int) {
        for hold in outline.holds[item.holds] {
            load.add(sign * item.roomBytes, first: hold.first, count: hold.phaseCount)
        }
    }

    private mutating func removeRoom(of item: PlanOutline.Item) {
        for gap in item.gaps {
            removeWindows(of: outline.gaps[gap])
            guard selection.isResident[gap], outline.gaps[gap].phaseCount > 0 else { continue }
            load.add(
                -item.roomBytes, first: outline.gaps[gap].first,
                count: outline.gaps[gap].phaseCount)
            selection.isResident[gap] = false
        }
        addHolds(of: item, sign: -1)
    }

    private mutating func removeWindows(of gap: PlanOutline.Gap) {
        let bytes = outline.items[gap.item].roomBytes
        let late = selection.late[gap.before]
        load.add(-bytes, first: outline.holds[gap.before].last + 1, count: late)
        selection.late[gap.before] = 0
        let early = selection.early[gap.after]
        load.add(-bytes, first: outline.holds[gap.after].first - early, count: early)
        selection.early[gap.after] = 0
    }
}

/// A phase more of room beside its neighbours for one side of a hold.
struct CopyWindow {
    var hold: Int
    var isEarly: Bool
}
