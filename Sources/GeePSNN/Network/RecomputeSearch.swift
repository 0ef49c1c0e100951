import GeePSMemory

/// Looks for layers whose result is better made again than copied out and in.
///
/// Starts from the best of some prefixes of the candidates, the promising first, and then takes candidates in
/// and out one at a time as long as the forecast gets shorter. Forecasts are those of a clock of one
/// mini-batch, whatever the clock has: the others repeat it. Effort is bounded by `trialsLeft`.
struct RecomputeSearch {
    /// Units dropped together: one, and those below whose result nobody else reads backward.
    private struct Candidate {
        var units: Set<Int>
        /// Link time saved for compute time spent.
        var promise: Double
    }

    private let network: Network
    /// Of trials: for one mini-batch.
    private var options: NetworkPlanOptions
    private let batchesPerClock: Int
    private let budgetBytes: Int?
    private let plain: Forecast
    private let units: [RecomputeUnit]
    private let time: (NetworkStep) -> UInt64
    /// A trial takes a time that grows with the square of the steps.
    private var trialsLeft: Int

    private static let trialsMost = 64
    private static let trialsLeast = 12
    private static let stepsTimesTrials = 6000

    /// - Parameter plain: what the plan without recomputation takes.
    init(_ network: Network, _ options: NetworkPlanOptions, budgetBytes: Int?, plain: Forecast) {
        self.network = network
        self.options = options
        self.budgetBytes = budgetBytes
        self.plain = plain
        units = network.recomputeUnits
        time = network.time(options.stepNanoseconds)
        trialsLeft = max(
            Self.trialsLeast, min(Self.trialsMost, Self.stepsTimesTrials / network.steps.count))
        self.options.batchesPerClock = 1
        batchesPerClock = options.batchesPerClock
    }

    /// - Returns: the steps of a mini-batch with their placement; nil where none is faster than without.
    mutating func run() -> (steps: [NetworkStep], problem: PlanProblem, placement: Placement)? {
        let candidates = candidates()
        guard !candidates.isEmpty else { return nil }
        var chosen: Set<Int> = []
        guard var best = trial(chosen, limit: .max) else { return nil }
        let start = best
        var count = 1
        while count < 2 * candidates.count {
            let prefix = candidates.prefix(count).reduce(into: Set()) { $0.formUnion($1.units) }
            if let length = trial(prefix, limit: best) { (best, chosen) = (length, prefix) }
            count *= 2
        }
        for candidate in candidates {
            let changed =
                chosen.isSuperset(of: candidate.units)
                ? chosen.subtracting(candidate.units) : chosen.union(candidate.units)
            if let length = trial(changed, limit: best) { (best, chosen) = (length, changed) }
        }
        guard best < start, !chosen.isEmpty else { return nil }
        let steps = network.steps(recomputing: chosen)
        options.batchesPerClock = batchesPerClock
        let problem = network.planProblem(of: steps, options)
        guard let planner = try? network.planner(problem),
            let placement = try? planner.placement(budgetBytes: budgetBytes),
            let forecast = placement.forecast,
            forecast.iterationNanoseconds
                < plain.iterationNanoseconds - plain.iterationNanoseconds / Network.worthwhileShare
        else { return nil }
        return (steps, problem, placement)
    }

    /// How long a clock takes that recomputes `chosen`, estimated; nil where it is not below `limit`.
    private mutating func trial(_ chosen: Set<Int>, limit: UInt64) -> UInt64? {
        let steps = network.steps(recomputing: chosen)
        let compute = steps.reduce(0) { $0 + time($1) }
        guard compute < limit, trialsLeft > 0 else { return nil }
        trialsLeft -= 1
        let problem = network.planProblem(of: steps, options)
        guard let planner = try? PlacementPlanner(problem),
            let length = planner.estimate(budgetBytes: budgetBytes)?.iterationNanoseconds,
            length < limit
        else { return nil }
        return length
    }

    /// What may be dropped, the most promising first.
    private func candidates() -> [Candidate] {
        let read = network.tensorsReadBackward
        var candidates: [Candidate] = []
        for unit in units.indices where !read.isDisjoint(with: units[unit].tensors) {
            guard let group = group(unit, read) else { continue }
            let spent = cost(group)
            guard spent * UInt64(batchesPerClock) < plain.stallNanoseconds else { continue }
            let saved = group.reduce(0) { $0 + droppedBytes(units[$1], read) }
            candidates.append(
                Candidate(units: group, promise: Double(saved) / Double(max(1, spent))))
        }
        // A stable order: the sort key alone may tie.
        return candidates.enumerated().sorted {
            ($1.element.promise, $0.offset) < ($0.element.promise, $1.offset)
        }.map(\.element)
    }

    /// `unit` with those below it that would have to be kept for it alone; nil where one may not run again.
    private func group(_ unit: Int, _ read: Set<Int>) -> Set<Int>? {
        var group: Set<Int> = []
        var next: Int? = unit
        while let unit = next {
            guard options.readsInPlace || !units[unit].hasParameters else { return nil }
            group.insert(unit)
            next = unit > 0 && !read.contains(units[unit].input) ? unit - 1 : nil
        }
        return group
    }

    private func droppedBytes(_ unit: RecomputeUnit, _ read: Set<Int>) -> Int {
        unit.tensors.filter(read.contains).reduce(0) { $0 + network.tensors[$1].byteCount }
    }

    /// Compute time of a mini-batch spent on `group`.
    private func cost(_ group: Set<Int>) -> UInt64 {
        var nanoseconds: UInt64 = 0
        for step in network.steps {
            guard case .forward(let layer) = step.kind else { continue }
            if group.contains(where: { units[$0].layers.contains(layer) }) {
                nanoseconds += time(step)
            }
        }
        return nanoseconds
    }
}
