import GeePSMemory

/// What each budget moves, under both policies.
struct PlanSweep {
    /// One budget.
    struct Point: Hashable, Sendable {
        var budgetBytes: Int
        var bytesIn: Int
        var bytesOut: Int
        /// Both ways, under the paper's policy.
        var paperBytes: Int

        var bytesMoved: Int { bytesIn + bytesOut }
    }

    let leastBytes: Int
    let fullBytes: Int
    let points: [Point]

    /// Plans budgets from the least to the full.
    init(_ planner: PlacementPlanner, count: Int = 21) throws(PlanRefusal) {
        leastBytes = planner.leastBytes
        fullBytes = planner.fullBytes
        var points: [Point] = []
        let span = fullBytes - leastBytes
        for step in 0..<(span == 0 ? 1 : count) {
            let budget = leastBytes + span * step / (count - 1)
            let ours = try planner.placement(budgetBytes: budget)
            let paper = try planner.placement(budgetBytes: budget, policy: .paper)
            points.append(
                Point(
                    budgetBytes: budget, bytesIn: ours.bytesIn, bytesOut: ours.bytesOut,
                    paperBytes: paper.bytesMoved))
        }
        self.points = points
    }

    /// A row a budget with a bar of what it moves; the paper's policy as a mark.
    func text(title: String) -> String {
        let most = points.map { max($0.bytesMoved, $0.paperBytes) }.max() ?? 1
        var rows = [["budget", "of full", "in/clock", "out/clock", "paper", "moved per clock"]]
        for point in points {
            rows.append([
                memoryText(point.budgetBytes),
                Text.percent(Double(point.budgetBytes) / Double(max(1, fullBytes)), 0),
                memoryText(point.bytesIn), memoryText(point.bytesOut),
                memoryText(point.paperBytes), Self.bar(point, most: most),
            ])
        }
        let lines = Columns.lines(rows, right: [0, 1, 2, 3, 4])
        return "\(title): bytes moved between host and device, by budget\n\n"
            + lines.joined(separator: "\n") + "\n\n  █ benefit   ┊ the paper's policy\n"
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
                    ])
                }),
        ])
    }

    private static func bar(_ point: Point, most: Int) -> String {
        let width = 36.0
        let cells = { (bytes: Int) in Int((Double(bytes) / Double(max(1, most)) * width).rounded())
        }
        var bar = Array(repeating: Character("█"), count: cells(point.bytesMoved))
        let mark = max(0, cells(point.paperBytes) - 1)
        while bar.count <= mark { bar.append(" ") }
        if cells(point.paperBytes) > cells(point.bytesMoved) { bar[mark] = "┊" }
        return String(bar)
    }
}
