import GeePSCore

/// Plans one problem, for one budget or many.
///
/// Candidates are made for a fixed grid of capacities, by both policies, whatever the budget; the plan for a
/// budget is the candidate that moves least among those that fit, or, where times and link are known, the fastest
/// of those that move no more than what smaller budgets chose. So a larger budget never moves more, and
/// never more than the paper's policy (decision 0010). Candidates get offsets only when they are looked at.
///
/// One thread at a time.
public final class PlacementPlanner {
    /// What is planned; its budget is the default of `placement`.
    public let problem: PlanProblem
    let outline: PlanOutline
    private let base: Candidate
    private lazy var everything = makeEverything()
    private var candidates: [Candidate] = []
    private var rungs: [Rung] = []
    private let gridPoints: Int

    /// Prepares to plan.
    ///
    /// - Throws: a refusal of code `.malformed` when acquires and releases do not pair up.
    public convenience init(_ problem: PlanProblem) throws(PlanRefusal) {
        // A long iteration takes long to plan, and has many near candidates anyway.
        let points = 8192 / max(1, problem.phaseCount)
        try self.init(problem, gridPoints: min(256, max(32, points)))
    }

    /// The same, with another number of capacities to make candidates for.
    package init(_ problem: PlanProblem, gridPoints: Int) throws(PlanRefusal) {
        self.problem = problem
        self.gridPoints = gridPoints
        outline = try PlanOutline(problem)
        precondition(
            problem.phaseNanoseconds.isEmpty
                || problem.phaseNanoseconds.count == outline.phaseCount,
            "the iteration has \(outline.phaseCount) phases, got times for "
                + "\(problem.phaseNanoseconds.count)")
        let least = SelectionDraft(problem, outline)
        base = Candidate(least, limit: least.load.peak)
    }

    /// The placement for `problem`.
    public static func placement(for problem: PlanProblem) throws(PlanRefusal) -> Placement {
        try PlacementPlanner(problem).placement()
    }

    /// Phases of the iteration.
    public var phaseCount: Int { outline.phaseCount }

    /// The least budget that is accepted.
    public var leastBytes: Int { base.packing.height + problem.fixedBytes }

    /// The budget from which on all that is worth keeping stays.
    public var fullBytes: Int { max(leastBytes, fullCapacity + problem.fixedBytes) }

    private var fullCapacity: Int {
        max(everything.packing.height, everything.leavingAll.map(\.height) ?? 0)
    }

    /// The placement that moves least within the problem's budget.
    ///
    /// - Throws: a refusal that names the least budget.
    public func placement() throws(PlanRefusal) -> Placement {
        try placement(budgetBytes: problem.budgetBytes, policy: problem.policy)
    }

    /// The placement that moves least within `budgetBytes`; nil for any budget.
    ///
    /// - Throws: a refusal that names the least budget.
    public func placement(
        budgetBytes: Int?, policy: PlanPolicy = .benefit
    ) throws(PlanRefusal) -> Placement {
        // Without a budget everything stays, and no memory is taken for copies beside it.
        let capacity =
            budgetBytes.map { $0 - problem.fixedBytes }
            ?? (policy == .paper ? .max : max(base.packing.height, fullCapacity))
        guard capacity >= base.packing.height else {
            throw refusal(budgetBytes: budgetBytes ?? 0)
        }
        makeCandidates()
        // Where everything fits, everything stays.
        if policy == .benefit, knowsTimes, capacity < everything.packing.height {
            return finish(fastest(within: capacity), capacity)
        }
        for candidate in candidates
        where (policy == .benefit || candidate.isPaperOnly) && candidate.leastCapacity <= capacity {
            guard max(candidate.packing.height, candidate.leastCapacity) <= capacity else {
                continue
            }
            return finish(candidate, capacity)
        }
        return finish(base, capacity)
    }

    /// About what `placement(budgetBytes:)` would take, in a hundredth of its time; nil where the budget is
    /// too small, or times or link are not known.
    ///
    /// Chooses for the budget itself, so two near budgets may be out of order.
    package func estimate(budgetBytes: Int?) -> Forecast? {
        let capacity = min(budgetBytes ?? .max, .max / 4) - problem.fixedBytes
        var limit = capacity
        for _ in 0..<Self.estimatesMost {
            var draft = SelectionDraft(problem, outline)
            guard draft.load.peak <= capacity else { return nil }
            draft.chooseByBenefit(within: limit)
            let candidate = Candidate(draft, limit: capacity, roundsPerOrder: 1)
            if candidate.packing.height <= capacity {
                return finish(candidate, capacity, roundsPerOrder: 1).forecast
            }
            limit -= limit / 32
        }
        return nil
    }

    /// Capacities that an estimate tries, each a little below the one before.
    private static let estimatesMost = 4

    // MARK: Where times are known

    private var knowsTimes: Bool { problem.link != nil && !problem.phaseNanoseconds.isEmpty }

    /// The fastest candidate that moves no more than the fastest of every smaller capacity, nor than the paper's.
    ///
    /// So a larger budget never moves more here either; and what a smaller budget does in its time, a larger one
    /// does too, unless the paper's policy moves less.
    private func fastest(within capacity: Int) -> Candidate {
        if rungs.isEmpty {
            rungs = candidates.map(rung).sorted { $0.capacity < $1.capacity }
        }
        var chosen: Rung?
        var paperBytes = Int.max
        var end = 0
        while end < rungs.count, rungs[end].capacity <= capacity {
            let level = rungs[end].capacity
            while end < rungs.count, rungs[end].capacity == level {
                if rungs[end].candidate.isPaperOnly {
                    paperBytes = min(paperBytes, rungs[end].candidate.bytesMoved)
                }
                end += 1
            }
            let most = min(chosen?.candidate.bytesMoved ?? .max, paperBytes)
            chosen = rungs[..<end].filter { $0.candidate.bytesMoved <= most }
                .min { $0.isBetter(than: $1) }
        }
        return chosen?.candidate ?? base
    }

    private func rung(_ candidate: Candidate) -> Rung {
        Rung(
            candidate: candidate,
            capacity: max(candidate.packing.height, candidate.leastCapacity),
            nanoseconds: forecast(of: candidate.placement)?.iterationNanoseconds ?? .max)
    }

    // MARK: Candidates

    private func makeEverything() -> Candidate {
        var draft = SelectionDraft(problem, outline)
        draft.chooseByBenefit(within: .max / 4)
        return Candidate(draft, limit: draft.load.peak, mayNarrow: false)
    }

    private func makeCandidates() {
        guard candidates.isEmpty else { return }
        let least = base.packing.height
        var paperFull = SelectionDraft(problem, outline).paperFullBytes
        paperFull = max(paperFull, everything.packing.height, least)
        candidates = [base, everything]
        var known: Set<Selection> = []
        for point in 0...gridPoints {
            let ours = least + (fullBytes - problem.fixedBytes - least) * point / gridPoints
            var draft = SelectionDraft(problem, outline)
            draft.chooseByBenefit(within: ours)
            // Near capacities often choose alike; the first, for the smaller, will do.
            if known.insert(draft.selection).inserted {
                candidates.append(Candidate(draft, limit: ours))
            }
            let theirs = least + (paperFull - least) * point / gridPoints
            if let candidate = paperCandidate(within: theirs) { candidates.append(candidate) }
        }
        // Equal traffic: ours before the paper's, then the one with more room to overlap copies.
        let order = candidates.indices.sorted { first, second in
            let (one, other) = (candidates[first], candidates[second])
            if one.bytesMoved != other.bytesMoved { return one.bytesMoved < other.bytesMoved }
            if one.isPaperOnly != other.isPaperOnly { return other.isPaperOnly }
            return first > second
        }
        candidates = order.map { candidates[$0] }
    }

    private func paperCandidate(within capacityBytes: Int) -> Candidate? {
        for factor in [2, 1] {
            var draft = SelectionDraft(problem, outline)
            guard draft.chooseAsPaper(within: capacityBytes, poolFactor: factor) else { continue }
            return Candidate(draft, limit: capacityBytes, isPaperOnly: true)
        }
        return nil
    }

    /// Gives copies more room beside their neighbours, as far as the budget has any left.
    private func finish(
        _ candidate: Candidate, _ capacity: Int,
        roundsPerOrder: Int = Packing.mostRoundsPerOrder
    ) -> Placement {
        var (best, chosen) = (candidate.placement, candidate)
        best.forecast = forecast(of: best)
        var draft = candidate.draft
        for depth in 1...Self.depthMost {
            let load = draft.load.bytes
            draft.grantWindows(within: capacity, depth: depth)
            if draft.load.bytes == load && depth > 1 { break }
            let wider = Candidate(draft, limit: capacity, roundsPerOrder: roundsPerOrder)
            guard wider.packing.height <= capacity else { break }
            var placement = wider.placement
            placement.forecast = forecast(of: placement)
            if placement.isFaster(than: best) { (best, chosen) = (placement, wider) }
        }
        // Nothing more is moved, and less is copied.
        guard let leaving = chosen.leaving(within: capacity) else { return best }
        best = leaving.placement
        best.forecast = forecast(of: best)
        return best
    }

    /// Phases that a copy may take at most.
    private static let depthMost = 4
}

extension Placement {
    /// By forecast where there is one; otherwise by how many copies have no room to overlap, and then by room.
    fileprivate func isFaster(than other: Placement) -> Bool {
        if let forecast, let slower = other.forecast {
            return forecast.iterationNanoseconds < slower.iterationNanoseconds
        }
        if singleBufferedCount != other.singleBufferedCount {
            return singleBufferedCount < other.singleBufferedCount
        }
        return phaseBytes.reduce(0, +) > other.phaseBytes.reduce(0, +)
    }
}

/// A candidate with the capacity it needs and the time it takes.
private struct Rung {
    let candidate: Candidate
    let capacity: Int
    let nanoseconds: UInt64

    func isBetter(than other: Rung) -> Bool {
        if nanoseconds != other.nanoseconds { return nanoseconds < other.nanoseconds }
        if candidate.bytesMoved != other.candidate.bytesMoved {
            return candidate.bytesMoved < other.candidate.bytesMoved
        }
        return !candidate.isPaperOnly && other.candidate.isPaperOnly
    }
}

/// A selection made for some capacity, with offsets once they are asked for.
private final class Candidate {
    let draft: SelectionDraft
    let bytesMoved: Int
    /// Never needs less than this.
    let leastCapacity: Int
    let isPaperOnly: Bool
    private let limit: Int
    private let mayNarrow: Bool
    private let roundsPerOrder: Int
    private lazy var list = StayList(draft)
    private(set) lazy var packing = pack(list)

    init(
        _ draft: SelectionDraft, limit: Int, isPaperOnly: Bool = false, mayNarrow: Bool = true,
        roundsPerOrder: Int = Packing.mostRoundsPerOrder
    ) {
        self.draft = draft
        self.limit = limit
        self.isPaperOnly = isPaperOnly
        self.mayNarrow = mayNarrow
        self.roundsPerOrder = roundsPerOrder
        let traffic = draft.traffic
        bytesMoved = traffic.bytesIn + traffic.bytesOut
        leastCapacity = max(isPaperOnly ? limit : 0, draft.narrowPeak)
    }

    var placement: Placement { Placement(draft, list, packing) }

    /// The same with as much content left with the caller as fits beside the rest; nil where that is none.
    ///
    /// What is left cannot share memory with what comes later, so not all may fit; it does best with what stays longest.
    func leaving(within capacity: Int) -> Leaving? {
        let leavable = list.leavable(draft.problem.locals)
        for eighths in [8, 7, 6, 4, 2] where leavable.count * eighths >= 8 {
            let leaving = self.leaving(leavable.prefix(leavable.count * eighths / 8))
            if leaving.height <= capacity { return leaving }
        }
        return nil
    }

    /// The same with all content left with the caller that may be; nil where there is none.
    private(set) lazy var leavingAll: Leaving? = {
        let leavable = list.leavable(draft.problem.locals)
        return leavable.isEmpty ? nil : leaving(leavable[...])
    }()

    private func leaving(_ stays: ArraySlice<Int>) -> Leaving {
        let list = list.leaving(stays)
        return Leaving(draft: draft, list: list, packing: pack(list))
    }

    private func pack(_ list: StayList) -> Packing {
        Packing.pack(
            list.pieces, phaseCount: draft.outline.phaseCount,
            limit: max(0, limit - list.leftBytes), mayNarrow: mayNarrow,
            roundsPerOrder: roundsPerOrder)
    }
}

/// A candidate that leaves content with the caller.
private struct Leaving {
    let draft: SelectionDraft
    let list: StayList
    let packing: Packing

    /// Bytes of the arena and of what is left.
    var height: Int { packing.height + list.leftBytes }
    var placement: Placement { Placement(draft, list, packing) }
}
