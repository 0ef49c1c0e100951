public import GeePSMemory

/// How a network is to be planned.
public struct NetworkPlanOptions: Hashable, Sendable {
    /// Device memory for everything.
    public enum Budget: Hashable, Sendable {
        /// As much as is of use.
        case full
        /// A number of bytes.
        case bytes(Int)
        /// A share of `NetworkPlan.fullBytes`, rounded up.
        case share(Double)
    }

    /// Device memory for everything.
    public var budget = Budget.full
    /// How to choose what stays; only `.benefit` recomputes.
    public var policy = PlanPolicy.benefit
    /// Mini-batches whose updates are added up before the clock.
    public var batchesPerClock = 1
    /// Measured time of each step of `Network.steps`; empty where unknown.
    public var stepNanoseconds: [UInt64] = []
    /// How fast copies between host and device are; nil where unknown.
    public var link: PlanLink?
    /// Rows stay the same for a whole clock; false under staleness.
    ///
    /// Only then is a read lent in place from a cache on the device, and only then may a layer with
    /// parameters run again: it would see newer ones otherwise.
    public var readsInPlace = true
    /// Activations may be dropped and made again; takes `stepNanoseconds` and `link`.
    public var mayRecompute = true

    /// All memory that is of use, one mini-batch, nothing measured.
    public init() {}
}

/// The steps of a clock and where what they touch lives.
public struct NetworkPlan: Hashable, Sendable {
    /// The steps of all mini-batches, in order; some may be `.recompute`.
    public let steps: [NetworkStep]
    /// What was planned; its accesses are those of `steps`, then the clock, and its phases are `steps`.
    ///
    /// Local batches by tensor, row batches and tables by parameter.
    public let problem: PlanProblem
    /// What lives where.
    public let placement: Placement
    /// The least budget that is accepted: the one without recomputation.
    public let leastBytes: Int
    /// What keeping everything that is worth it needs, without recomputation.
    public let fullBytes: Int
    /// Names of the layers that run forward twice, bottom to top.
    public let recomputedLayers: [String]
}

extension Network {
    /// Plans a clock: what stays, what moves, and where times and link are known, what is made again.
    ///
    /// Layers are recomputed only if the forecast says that the clock gets shorter, so a plan is never slower
    /// in forecast than the one without. Bytes moved never grow with the budget as long as the recomputed
    /// layers are the same (decision 0011).
    ///
    /// - Throws: a refusal that names the least budget.
    public func plan(
        _ options: NetworkPlanOptions = NetworkPlanOptions()
    ) throws(PlanRefusal) -> NetworkPlan {
        let problem = planProblem(of: steps, options)
        let planner = try planner(problem)
        let budget: Int? =
            switch options.budget {
            case .full: nil
            case .bytes(let count): count
            case .share(let share): Int((Double(planner.fullBytes) * share).rounded(.up))
            }
        let placement = try planner.placement(budgetBytes: budget, policy: options.policy)
        let plain = NetworkPlan(
            self, steps, problem, placement, planner, budget, options.batchesPerClock)
        guard options.mayRecompute, options.policy == .benefit, let forecast = placement.forecast,
            forecast.stallNanoseconds > forecast.iterationNanoseconds / Self.worthwhileShare
        else { return plain }
        var search = RecomputeSearch(self, options, budgetBytes: budget, plain: forecast)
        guard let found = search.run() else { return plain }
        return NetworkPlan(
            self, found.steps, found.problem, found.placement, planner, budget,
            options.batchesPerClock)
    }

    /// A gain below this part of a clock is not worth a change: forecasts are not that exact.
    static let worthwhileShare: UInt64 = 200

    /// A planner that looks at fewer capacities where the clock has many phases, since each takes a time that
    /// grows with their square.
    func planner(_ problem: PlanProblem) throws(PlanRefusal) -> PlacementPlanner {
        let points = Self.gridPointsTimesPhases / problem.phaseCount
        return try PlacementPlanner(problem, gridPoints: max(8, min(64, points)))
    }

    private static let gridPointsTimesPhases = 16_000

    /// What the planner is asked for the `steps` of one mini-batch, some of which may recompute.
    func planProblem(of steps: [NetworkStep], _ options: NetworkPlanOptions) -> PlanProblem {
        var problem = planProblem(of: steps, batchesPerClock: options.batchesPerClock)
        for batch in problem.batches.indices { problem.batches[batch].isRun = options.readsInPlace }
        problem.policy = options.policy
        problem.link = options.link
        guard !options.stepNanoseconds.isEmpty else { return problem }
        let times = steps.map(time(options.stepNanoseconds))
        for _ in 0..<options.batchesPerClock { problem.phaseNanoseconds += times }
        return problem
    }

    /// The time of a step where `stepNanoseconds` are those of `self.steps`; again takes as long as before.
    func time(_ stepNanoseconds: [UInt64]) -> (NetworkStep) -> UInt64 {
        precondition(
            stepNanoseconds.count == steps.count,
            "the network has \(steps.count) steps, got times for \(stepNanoseconds.count)")
        let times = Dictionary(
            zip(steps.map(\.kind), stepNanoseconds), uniquingKeysWith: { first, _ in first })
        return { step in
            if case .recompute(let layer) = step.kind { return times[.forward(layer: layer)] ?? 0 }
            return times[step.kind] ?? 0
        }
    }
}

extension NetworkPlan {
    /// - Parameter steps: of one mini-batch.
    fileprivate init(
        _ network: Network, _ steps: [NetworkStep], _ problem: PlanProblem,
        _ placement: Placement, _ planner: PlacementPlanner, _ budgetBytes: Int?,
        _ batchesPerClock: Int
    ) {
        self.steps = network.repeated(steps, batchesPerClock)
        var problem = problem
        problem.budgetBytes = budgetBytes
        self.problem = problem
        self.placement = placement
        leastBytes = planner.leastBytes
        fullBytes = planner.fullBytes
        var again: [Int] = []
        for step in steps {
            if case .recompute(let layer) = step.kind { again.append(layer) }
        }
        recomputedLayers = again.sorted().map { network.layerNames[$0] }
    }
}
