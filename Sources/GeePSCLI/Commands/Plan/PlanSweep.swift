import GeePSMemory
import GeePSNN

/// What each budget costs under both policies: samples a second where the forecast knows, else bytes moved.
struct PlanSweep {
    /// One budget.
    struct Point: Hashable, Sendable {
        var budgetBytes: Int
        var bytesIn = 0
        var bytesOut = 0
        /// Both ways, under the paper's policy.
        var paperBytes: Int
        /// Samples a second of one worker, under both policies; nil where times or link are unknown.
        var speed: (ours: Double, paper: Double)? {
            guard let oursPerSecond, let paperPerSecond else { return nil }
            return (oursPerSecond, paperPerSecond)
        }
        var oursPerSecond: Double?
        var paperPerSecond: Double?
        /// Share of the time that waits for copies.
        var stallShare: Double?
        /// Layers that run forward twice.
        var recomputed: [String] = []

        var bytesMoved: Int { bytesIn + bytesOut }

        /// A budget whose own placement is still to be taken.
        fileprivate init(budgetBytes: Int, paper: Placement, samplesPerClock: Int) {
            self.budgetBytes = budgetBytes
            paperBytes = paper.bytesMoved
            paperPerSecond = paper.forecast?.samplesPerSecond(samplesPerClock)
        }

        /// What the benefit policy does here.
        fileprivate mutating func take(_ placement: Placement, samplesPerClock: Int) {
            bytesIn = placement.bytesIn
            bytesOut = placement.bytesOut
            oursPerSecond = placement.forecast?.samplesPerSecond(samplesPerClock)
            stallShare = placement.forecast.map { 1 - $0.efficiency }
        }
    }

    let leastBytes: Int
    let fullBytes: Int
    let points: [Point]

    /// Whether speeds are known, and drawn.
    var isOfSpeed: Bool { points.allSatisfy { $0.speed != nil } }

    /// Plans budgets from the least to the full; the budget and the policy of `options` do not count.
    ///
    /// - Complexity: one planner for all budgets; with a forecast also a search a budget, on all cores.
    init(
        _ network: Network, _ options: NetworkPlanOptions, count: Int = 21
    ) throws(PlanRefusal) {
        var options = options
        options.policy = .benefit
        options.budget = .full
        let samples = network.batchSize * options.batchesPerClock
        let planner = try PlacementPlanner(try network.plan(options).problem)
        leastBytes = planner.leastBytes
        fullBytes = planner.fullBytes
        let span = fullBytes - leastBytes
        var points: [Point] = []
        for step in 0..<(span == 0 ? 1 : count) {
            let budget = leastBytes + span * step / (count - 1)
            var point = Point(
                budgetBytes: budget,
                paper: try planner.placement(budgetBytes: budget, policy: .paper),
                samplesPerClock: samples)
            point.take(try planner.placement(budgetBytes: budget), samplesPerClock: samples)
            points.append(point)
        }
        let stalling = points.indices.filter { (points[$0].stallShare ?? 0) > 0 }
        let search = PlanSearch(network, options, budgets: stalling.map { points[$0].budgetBytes })
        for (index, plan) in zip(stalling, try search.plans()) {
            points[index].take(plan.placement, samplesPerClock: samples)
            points[index].recomputed = plan.recomputedLayers
        }
        self.points = points
    }

    /// What is drawn of `point`, under both policies.
    func values(_ point: Point) -> (ours: Double, paper: Double) {
        if isOfSpeed, let speed = point.speed { return speed }
        return (Double(point.bytesMoved), Double(point.paperBytes))
    }

    /// The largest of `values`, above zero.
    var most: Double { points.reduce(1e-9) { max($0, values($1).ours, values($1).paper) } }

    /// What `values` are, for titles.
    var quantity: String {
        isOfSpeed ? "predicted samples/s of one worker" : "bytes moved per clock"
    }

    /// One of `values` as a person reads it.
    func label(_ value: Double) -> String {
        isOfSpeed ? Text.rate(value) : memoryText(Int(value))
    }

    /// A row a budget with a bar of what it moves; the paper's policy as a mark.
    func text(title: String) -> String {
        let isOfSpeed = isOfSpeed
        let most = most
        var rows = [
            ["budget", "of full", "in/clock", "out/clock"]
                + (isOfSpeed
                    ? ["again", "stall", "paper", "benefit", "samples/s"]
                    : ["paper", "moved per clock"])
        ]
        for point in points {
            let (ours, paper) = values(point)
            var row = [
                memoryText(point.budgetBytes),
                Text.percent(Double(point.budgetBytes) / Double(max(1, fullBytes)), 0),
                memoryText(point.bytesIn), memoryText(point.bytesOut),
            ]
            if isOfSpeed {
                row.append(point.recomputed.isEmpty ? "-" : "\(point.recomputed.count)")
                row.append(Text.percent(point.stallShare ?? 0))
            }
            row.append(label(paper))
            if isOfSpeed { row.append(label(ours)) }
            rows.append(row + [Self.bar(ours / most, mark: paper / most)])
        }
        let lines = Columns.lines(rows, right: Set(0...(isOfSpeed ? 7 : 4)))
        let again = isOfSpeed ? "   again: layers that compute forward twice" : ""
        return "\(title): \(quantity), by budget\n\n" + lines.joined(separator: "\n")
            + "\n\n  █ benefit   ┊ the paper's policy\(again)\n"
    }

    /// The object that `--json` prints: `geeps.plan-sweep/1`.
    func json(job: String) -> JSONValue {
        .object([
            "schema": .string("geeps.plan-sweep/1"),
            "job": .string(job),
            "least_bytes": .integer(Int64(leastBytes)),
            "full_bytes": .integer(Int64(fullBytes)),
            "points": .array(
                points.map { point in
                    .object([
                        "budget_bytes": .integer(Int64(point.budgetBytes)),
                        "bytes_in": .integer(Int64(point.bytesIn)),
                        "bytes_out": .integer(Int64(point.bytesOut)),
                        "paper_bytes_moved": .integer(Int64(point.paperBytes)),
                        "samples_per_second": point.oursPerSecond.map { .number($0) } ?? .null,
                        "paper_samples_per_second": point.paperPerSecond.map { .number($0) }
                            ?? .null,
                        "recomputed": .array(point.recomputed.map(JSONValue.string)),
                    ])
                }),
        ])
    }

    /// Both are shares of the longest bar.
    private static func bar(_ value: Double, mark: Double) -> String {
        let cells = { (share: Double) in Int((share * 36).rounded()) }
        var bar = Array(repeating: Character("█"), count: cells(value))
        let place = max(0, cells(mark) - 1)
        while bar.count <= place { bar.append(" ") }
        if cells(mark) != cells(value) { bar[place] = "┊" }
        return String(bar)
    }
}
