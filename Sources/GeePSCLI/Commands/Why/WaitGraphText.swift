import GeePS
import GeePSCore

/// A wait graph as people read it.
struct WaitGraphText {
    private let graph: WaitGraph
    private let isColored: Bool

    init(_ graph: WaitGraph, isColored: Bool = false) {
        self.graph = graph
        self.isColored = isColored
    }

    /// A line for each process with what it waits for below, then where to look first, then the keepers' view.
    ///
    /// - Parameter run: the job's name.
    func lines(run: String) -> [String] {
        let workers = graph.workerCount
        var lines = [
            bold(
                "\(run): \(workers) worker\(workers == 1 ? "" : "s"), "
                    + "\(graph.owners.count) keeper\(graph.owners.count == 1 ? "" : "s"), \(clocks)"
            )
        ]
        let names = graph.processes.map { name($0.rank) }
        let width = names.map(\.count).max() ?? 0
        for process in graph.processes {
            lines.append("\(names[process.rank].padded(to: width))  \(state(process))")
            let pad = String(repeating: " ", count: width + 2)
            for (index, line) in reasons(process).enumerated() {
                let isLast = index == reasons(process).count - 1
                lines.append("\(pad)\(isLast ? "└" : "├") \(line)")
            }
        }
        lines += verdict
        let table = keeperTable
        if !table.isEmpty { lines += [""] + table }
        return lines
    }

    /// "clock 41", "clocks 40 to 41".
    private var clocks: String {
        let ticks = graph.processes.compactMap { $0.standing?.tick }
        guard let least = ticks.min(), let most = ticks.max() else { return "no worker answers" }
        return least == most ? "clock \(least)" : "clocks \(least) to \(most)"
    }

    private func name(_ rank: Int) -> String {
        rank < graph.workerCount ? "worker \(rank)" : "rank \(rank)"
    }

    private func state(_ process: WaitGraph.Process) -> String {
        if let silence = process.silence {
            return bold("does not answer (\(process.host), pid \(process.pid)): \(silence)")
        }
        guard let standing = process.standing else { return "keeps rows" }
        let time = Text.duration(standing.nanoseconds)
        let clock = "clock \(standing.tick)"
        let table = standing.table.map { graph.tables[$0] } ?? ""
        switch standing.activity {
        case .computing: return "\(clock), computes since \(time)"
        case .local: return "\(clock), waits \(time) for local data"
        case .update:
            return "\(clock), waits \(time) for room for an update of table \(table)"
        case .read:
            guard let first = process.edges.first else {
                return "\(clock), waits \(time) for a copy of table \(table)"
            }
            let rows = process.edges.count == 1 ? " rows \(first.rows)" : ""
            return bold(
                "\(clock), waits \(time) for table \(table)\(rows) of clock \(standing.neededAge)")
        }
    }

    /// What is below a process: of each keeper why its rows are not there, and pushes that do not get away.
    private func reasons(_ process: WaitGraph.Process) -> [String] {
        let edges = process.edges.map { edge in
            let rows = process.edges.count == 1 ? "" : ", rows \(edge.rows)"
            return
                "keeper \(edge.keeper) (\(name(edge.rank))'s process)\(rows): \(text(edge.cause))"
        }
        // What takes less than that is no news.
        let sending = (process.standing?.sending ?? []).filter { $0.nanoseconds > 100_000_000 }
        return edges
            + sending.map {
                "sends table \(graph.tables[$0.table]) rows \($0.rows) of clock \($0.tick) to keeper "
                    + "\($0.keeper) since \(Text.duration($0.nanoseconds))"
            }
    }

    private func text(_ cause: WaitGraph.Cause) -> String {
        switch cause {
        case .lacks(let missing, let count): "lacks the update of " + list(missing, count)
        case .updates: "has all updates and works on them"
        case .onTheirWay: "has the rows, they are on their way"
        case .start: "waits for the initial values from worker 0"
        case .silent: "does not answer"
        }
    }

    /// "worker 2 (last clock 40)".
    private func list(_ missing: [KeeperStanding.Missing], _ count: Int) -> String {
        let shown = missing.prefix(4).map { "\(name($0.worker)) (last clock \($0.tick))" }
        let more = count - shown.count
        return shown.joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
    }

    private var verdict: [String] {
        guard let first = graph.culprits.first else { return [] }
        let waiting = first.waiting.map { "\($0)" }.joined(separator: ", ")
        let others =
            first.waiting.count == 1 ? "worker \(waiting) waits" : "workers \(waiting) wait"
        return ["", bold("\(others) for \(name(first.rank))")]
    }

    /// Of each keeper the table that lacks updates of some but not of all.
    private var keeperTable: [String] {
        var rows = [["keeper", "process", "table", "rows", "age", "lacks", "since"]]
        for (keeper, standing) in graph.keepers.enumerated() {
            guard let standing else {
                rows.append([
                    "\(keeper)", name(graph.owners[keeper]), "-", "-", "-", "no answer", "-",
                ])
                continue
            }
            let behind = standing.tables.filter {
                $0.missingCount > 0 && $0.missingCount < graph.workerCount
            }
            guard let oldest = behind.min(by: { $0.age ?? 0 < $1.age ?? 0 }) else { continue }
            rows.append([
                "\(keeper)", name(graph.owners[keeper]), graph.tables[oldest.table],
                "\(oldest.rows)", oldest.age.map { "\($0)" } ?? "-",
                list(oldest.missing, oldest.missingCount)
                    + (behind.count > 1 ? ", also of \(behind.count - 1) more tables" : ""),
                oldest.nanoseconds.map { Text.duration($0) } ?? "-",
            ])
        }
        return rows.count == 1 ? [] : aligned(rows)
    }

    private func aligned(_ rows: [[String]]) -> [String] {
        let widths = rows[0].indices.map { column in rows.map { $0[column].count }.max() ?? 0 }
        return rows.map { row in
            let line = row.enumerated().map { $1.padded(to: widths[$0]) }.joined(separator: "  ")
            return String(line.reversed().drop { $0 == " " }.reversed())
        }
    }

    private func bold(_ text: String) -> String {
        isColored ? "\u{1B}[1m\(text)\u{1B}[0m" : text
    }
}

extension String {
    /// With spaces behind it, `count` characters long.
    fileprivate func padded(to count: Int) -> String {
        self + String(repeating: " ", count: max(0, count - self.count))
    }
}
