import GeePS
import GeePSCore

extension WaitGraph {
    /// The object that `geeps why --json` prints: `geeps.why/1`.
    func json(run: String) -> JSONValue {
        .object([
            "schema": .string("geeps.why/1"), "run": .string(run),
            "workers": .integer(Int64(workerCount)),
            "processes": .array(processes.map(json)),
            "keepers": .array(
                keepers.enumerated().map { index, standing in json(keeper: index, standing) }),
            "waits_for": .array(
                culprits.map { culprit in
                    .object([
                        "rank": .integer(Int64(culprit.rank)),
                        "waiting": .array(culprit.waiting.map { .integer(Int64($0)) }),
                    ])
                }),
        ])
    }

    private func json(_ process: Process) -> JSONValue {
        .object([
            "rank": .integer(Int64(process.rank)), "host": .string(process.host),
            "pid": .integer(Int64(process.pid)),
            "silence": process.silence.map(JSONValue.string) ?? .null,
            "worker": process.standing.map { json($0, process.edges) } ?? .null,
        ])
    }

    private func json(_ standing: WorkerStanding, _ edges: [Edge]) -> JSONValue {
        .object([
            "clock": .integer(Int64(clamping: standing.tick)),
            "activity": .string("\(standing.activity)"),
            "table": standing.table.map { .string(tables[$0]) } ?? .null,
            "needed_clock": .integer(Int64(clamping: standing.neededAge)),
            "seconds": .number(Double(standing.nanoseconds) / 1e9),
            "waits_for": .array(edges.map(json)),
            "sending": .array(
                standing.sending.map { push in
                    .object([
                        "keeper": .integer(Int64(push.keeper)),
                        "table": .string(tables[push.table]), "rows": json(push.rows),
                        "clock": .integer(Int64(clamping: push.tick)),
                        "seconds": .number(Double(push.nanoseconds) / 1e9),
                    ])
                }),
        ])
    }

    private func json(_ edge: Edge) -> JSONValue {
        let (cause, missing) =
            switch edge.cause {
            case .lacks(let missing, _): ("lacks updates", missing)
            case .updates: ("updates", [])
            case .onTheirWay: ("network", [])
            case .start: ("initial values", [])
            case .silent: ("no answer", [])
            }
        return .object([
            "keeper": .integer(Int64(edge.keeper)), "rank": .integer(Int64(edge.rank)),
            "rows": json(edge.rows), "clock": json(edge.age), "cause": .string(cause),
            "missing": json(missing),
        ])
    }

    private func json(keeper index: Int, _ standing: KeeperStanding?) -> JSONValue {
        .object([
            "keeper": .integer(Int64(index)), "rank": .integer(Int64(owners[index])),
            "tables": standing.map { standing in
                .array(
                    standing.tables.map { oldest in
                        .object([
                            "table": .string(tables[oldest.table]), "rows": json(oldest.rows),
                            "clock": json(oldest.age), "missing": json(oldest.missing),
                            "missing_count": .integer(Int64(oldest.missingCount)),
                            "seconds": oldest.nanoseconds.map { .number(Double($0) / 1e9) }
                                ?? .null,
                        ])
                    })
            } ?? .null,
        ])
    }

    private func json(_ missing: [KeeperStanding.Missing]) -> JSONValue {
        .array(
            missing.map {
                .object([
                    "worker": .integer(Int64($0.worker)),
                    "last_clock": .integer(Int64(clamping: $0.tick)),
                ])
            })
    }

    private func json(_ rows: Range<Int>) -> JSONValue {
        .array([.integer(Int64(rows.lowerBound)), .integer(Int64(rows.upperBound))])
    }

    private func json(_ tick: UInt64?) -> JSONValue {
        tick.map { .integer(Int64(clamping: $0)) } ?? .null
    }
}
