import GeePSCore

extension PlacementPlanner {
    /// Runs some iterations of `placement` in virtual time; nil where times or link are not known.
    func forecast(of placement: Placement) -> Forecast? {
        guard let link = problem.link, !problem.phaseNanoseconds.isEmpty else { return nil }
        var rehearsal = Rehearsal(placement, problem, outline, link)
        let compute = problem.phaseNanoseconds.reduce(0, +)
        var ends: [Double] = []
        // Copies of the first iterations have a head start; the fifth shows the pace.
        for iteration in 0..<6 { ends.append(rehearsal.run(iteration: iteration)) }
        let length = UInt64(max(Double(compute), (ends[5] - ends[3]) / 2))
        return Forecast(iterationNanoseconds: length, stallNanoseconds: length - compute)
    }
}

/// Compute in order of phases, one copy engine a direction, each stay waiting for its predecessors.
private struct Rehearsal {
    private let placement: Placement
    private let problem: PlanProblem
    private let phaseCount: Int
    private let link: PlanLink
    /// By phase: stays that begin there; stays that end there.
    private var begins: [[Int]]
    private var ends: [[Int]]
    /// By phase: bytes of arriving rows that its reads wait for.
    private var arrivals: [[Int]]
    private var inFree = 0.0
    private var outFree = 0.0
    private var now = 0.0
    /// By stay and iteration modulo three: when its memory is free again.
    private var vacated: [[Double]]

    init(_ placement: Placement, _ problem: PlanProblem, _ outline: PlanOutline, _ link: PlanLink) {
        self.placement = placement
        self.problem = problem
        self.link = link
        phaseCount = outline.phaseCount
        begins = Array(repeating: [], count: phaseCount)
        ends = begins
        arrivals = begins
        vacated = placement.stays.map { _ in [0, 0, 0] }
        for (index, stay) in placement.stays.enumerated() where !stay.isPinned {
            begins[placement.phaseOfAccess[stay.firstAccess]].append(index)
            ends[placement.phaseOfAccess[stay.lastAccess]].append(index)
        }
        for table in problem.tables.indices where placement.cacheHomes[table] == .device {
            let first = outline.readers[table].map {
                outline.holds[outline.items[$0].holds.lowerBound]
            }
            .map(\.first).min()
            if let first { arrivals[first].append(problem.tables[table].cacheBytes) }
        }
    }

    /// - Returns: when the last phase of `iteration` has computed.
    mutating func run(iteration: Int) -> Double {
        for phase in 0..<phaseCount {
            var start = now
            for bytes in arrivals[phase] { start = max(start, copyIn(bytes, from: 0)) }
            for stay in begins[phase] { start = max(start, bringIn(stay, iteration)) }
            now = start + Double(problem.phaseNanoseconds[phase])
            for stay in ends[phase] { takeOut(stay, iteration) }
        }
        return now
    }

    private mutating func bringIn(_ index: Int, _ iteration: Int) -> Double {
        let stay = placement.stays[index]
        var ready = 0.0
        for other in stay.predecessors + [stay.source].compactMap({ $0 }) {
            let owner = iteration - other.iterationsBack
            if owner >= 0 { ready = max(ready, vacated[other.stay][owner % 3]) }
        }
        return stay.fetchesIn ? copyIn(stay.byteCount, from: ready) : ready
    }

    private mutating func copyIn(_ bytes: Int, from ready: Double) -> Double {
        inFree = max(inFree, ready) + Double(bytes) / link.bytesPerSecondIn * 1e9
        return inFree
    }

    private mutating func takeOut(_ index: Int, _ iteration: Int) {
        let stay = placement.stays[index]
        var end = now
        if stay.savesOut {
            outFree = max(outFree, now) + Double(stay.byteCount) / link.bytesPerSecondOut * 1e9
            end = outFree
        }
        // A stay that wraps is of the iteration before.
        let owner = stay.lastAccess < stay.firstAccess ? iteration - 1 : iteration
        if owner >= 0 { vacated[index][owner % 3] = end }
    }
}
