import GeePSCore

extension SelectionDraft {
    /// Keeps gaps, again and again at the phase whose copies are most beside the compute that can hide them.
    ///
    /// What remains to be copied is thereby spread over the iteration. Without times all phases count alike.
    mutating func keepWhereCopiesCrowd(_ live: [Int], within capacityBytes: Int) {
        var crowd = Crowding(self, gaps: live.filter { !selection.isResident[$0] })
        while let gap = crowd.takeWorst() {
            if keep(gap: gap, within: capacityBytes) { crowd.remove(gap, outline) }
        }
    }
}

/// Copies by the phase they can hide behind, each direction for itself.
private struct Crowding {
    /// By place: copying in comes first, then copying out, each by phase.
    private var copyBytes: [Double]
    private let compute: [Double]
    private let phaseCount: Int
    /// By place: open gaps, the best last.
    private var open: [[Int]]
    private var isOpen: [Bool]

    init(_ draft: SelectionDraft, gaps: [Int]) {
        let outline = draft.outline
        let count = outline.phaseCount
        phaseCount = count
        copyBytes = Array(repeating: 0, count: 2 * count)
        open = Array(repeating: [], count: 2 * count)
        isOpen = outline.gaps.map { _ in false }
        let times = draft.problem.phaseNanoseconds
        // A phase without compute hides nothing, but must not outweigh all the others.
        let mean = Double(max(1, times.reduce(0, +))) / Double(max(1, times.count))
        let speed =
            times.isEmpty
            ? [Double](repeating: 1, count: count) : times.map { max(Double($0), mean / 100) }
        compute = speed + speed
        for hold in outline.holds.indices {
            let bytes = Double(outline.items[outline.holds[hold].item].byteCount)
            if draft.fetches(hold: hold) {
                copyBytes[outline.wrapped(outline.holds[hold].first - 1)] += bytes
            }
            if draft.saves(hold: hold) {
                copyBytes[count + outline.wrapped(outline.holds[hold].last + 1)] += bytes
            }
        }
        let sorted = gaps.sorted { first, second in
            let saved = (outline.gaps[first].savedBytes, outline.gaps[second].savedBytes)
            if saved.0 != saved.1 { return saved.0 < saved.1 }
            let phases = (outline.gaps[first].phaseCount, outline.gaps[second].phaseCount)
            if phases.0 != phases.1 { return phases.0 > phases.1 }
            return first > second
        }
        for gap in sorted {
            isOpen[gap] = true
            for place in places(of: gap, outline) { open[place].append(gap) }
        }
    }

    /// The largest open gap at the place that is most crowded; it is open no more.
    mutating func takeWorst() -> Int? {
        var worst: Int?
        for place in open.indices {
            while let gap = open[place].last, !isOpen[gap] { open[place].removeLast() }
            guard !open[place].isEmpty else { continue }
            if worst.map({ weight($0) < weight(place) }) ?? true { worst = place }
        }
        guard let worst, let gap = open[worst].popLast() else { return nil }
        isOpen[gap] = false
        return gap
    }

    /// The copies of `gap` are no more.
    mutating func remove(_ gap: Int, _ outline: PlanOutline) {
        let bytes = Double(outline.items[outline.gaps[gap].item].byteCount)
        for place in places(of: gap, outline) { copyBytes[place] -= bytes }
    }

    private func weight(_ place: Int) -> Double { copyBytes[place] / compute[place] }

    /// Where it is copied in, and for local data where it is copied out.
    private func places(of gap: Int, _ outline: PlanOutline) -> [Int] {
        let span = outline.gaps[gap]
        let into = outline.wrapped(outline.holds[span.after].first - 1)
        guard case .local = outline.items[span.item].kind else { return [into] }
        return [into, phaseCount + outline.wrapped(outline.holds[span.before].last + 1)]
    }
}
