import GeePSCore
import GeePSMemory
import GeePSNN

/// A training iteration without its arithmetic: what it touches, in which order, and how long it computes.
///
/// Read from a file of `Workloads/`, or recorded from a job; `geeps replay` runs it on the real parameter server.
struct Workload: Hashable, Sendable {
    /// Parameters of one layer.
    struct Parameters: Hashable, Sendable {
        var name: String
        var byteCount: Int
    }

    /// A step of a layer: computes while everything is held that its accesses acquire.
    struct Phase: Hashable, Sendable {
        var name: String
        var nanoseconds: UInt64
    }

    /// What an iteration does, in order.
    enum Operation: Hashable, Sendable {
        case access(Access)
        /// The phase of this index computes.
        case compute(Int)
    }

    var name: String
    /// Where sizes and times are from, for people.
    var source: String
    /// Samples that one worker trains on in a clock.
    var samplesPerClock: Int
    /// By id of a row batch: all parameters of a layer, bottom to top.
    var parameters: [Parameters]
    /// By id of a local batch.
    var locals: [PlanProblem.Local]
    /// As the accesses have them, see `PlanProblem`.
    var phases: [Phase]
    /// One clock.
    var accesses: [Access]

    /// Of all layers.
    var parameterBytes: Int { parameters.reduce(0) { $0 + $1.byteCount } }
    /// Compute time of a clock.
    var computeNanoseconds: UInt64 { phases.reduce(0) { $0 + $1.nanoseconds } }

    /// The same with bytes divided by `bytes` and times multiplied by `dilation`.
    ///
    /// With links slower by both, a small machine plays a large one: what matters for overlap is the relation of
    /// bytes over bandwidth to compute.
    func scaled(bytes: Int, dilation: Double) -> Workload {
        var small = self
        for index in parameters.indices {
            small.parameters[index].byteCount = max(4, parameters[index].byteCount / bytes)
        }
        for index in locals.indices {
            small.locals[index].byteCount = max(4, locals[index].byteCount / bytes)
        }
        for index in phases.indices {
            small.phases[index].nanoseconds = UInt64(
                (Double(phases[index].nanoseconds) * dilation).rounded())
        }
        return small
    }

    /// The accesses with the compute of each phase where all that it uses is held.
    ///
    /// - Parameter hasLocals: false leaves local data out, which costs nothing where all of it stays.
    func operations(hasLocals: Bool) -> [Operation] {
        var operations: [Operation] = []
        var phase = 0
        var isReleasing = false
        for access in accesses {
            let isRelease: Bool
            switch access.kind {
            case .read, .update, .local: isRelease = false
            case .endRead, .endUpdate, .endLocal: isRelease = true
            case .clock:
                operations.append(.access(access))
                continue
            }
            if isRelease, !isReleasing { operations.append(.compute(phase)) }
            if !isRelease, isReleasing { phase += 1 }
            isReleasing = isRelease
            let isLocal = access.kind == .local || access.kind == .endLocal
            if hasLocals || !isLocal { operations.append(.access(access)) }
        }
        return operations
    }
}

/// Which layers share a table, and so a clock and an age.
struct TableGrouping: Sendable {
    /// The tables.
    let tables: [TableLayout]
    /// By layer with parameters: its table, and its rows there.
    let places: [(table: TableIndex, rows: Range<Int>)]

    /// Tables of `layersPerTable` consecutive layers; nil for one table of all.
    init(_ parameters: [Workload.Parameters], layersPerTable: Int?) {
        let size = max(1, layersPerTable ?? parameters.count)
        var tables: [TableLayout] = []
        var places: [(table: TableIndex, rows: Range<Int>)] = []
        for start in stride(from: 0, to: parameters.count, by: size) {
            let members = parameters[start..<min(start + size, parameters.count)]
            var rows = 0
            for member in members {
                let layout = TableLayout(
                    name: member.name, valueCount: max(1, member.byteCount / 4))
                places.append((tables.count, rows..<rows + layout.rowCount))
                rows += layout.rowCount
            }
            let name =
                members.count == 1 ? members[start].name : "layers from \(members[start].name)"
            tables.append(TableLayout(name: name, rowCount: max(1, rows)))
        }
        self.tables = tables
        self.places = places
    }
}

extension Workload {
    /// What a planner is asked for this workload with its layers in the tables of `grouping`.
    func problem(_ grouping: TableGrouping, hasLocals: Bool) -> PlanProblem {
        let accesses = operations(hasLocals: hasLocals).compactMap { operation -> Access? in
            guard case .access(let access) = operation else { return nil }
            return access
        }
        var problem = PlanProblem(
            accesses: accesses, locals: hasLocals ? locals : [],
            batches: grouping.places.map { place in
                PlanProblem.Batch(
                    table: place.table,
                    byteCount: place.rows.count * grouping.tables[place.table].rowBytes)
            },
            tables: grouping.tables.map {
                PlanProblem.Table(name: $0.name, cacheBytes: $0.byteCount)
            })
        if hasLocals {
            problem.phaseNames = phases.map(\.name)
            problem.phaseNanoseconds = phases.map(\.nanoseconds)
        }
        return problem
    }
}

extension Workload {
    /// A clock as `plan` has it, whose layers were measured.
    init(_ plan: NetworkPlan, name: String, source: String, samplesPerClock: Int) {
        let problem = plan.problem
        self.init(
            name: name, source: source, samplesPerClock: samplesPerClock,
            parameters: problem.batches.map {
                Parameters(name: problem.tables[$0.table].name, byteCount: $0.byteCount)
            },
            locals: problem.locals.map {
                PlanProblem.Local(name: $0.name, byteCount: $0.byteCount)
            },
            phases: zip(problem.phaseNames, problem.phaseNanoseconds).map {
                Phase(name: $0, nanoseconds: $1)
            },
            accesses: problem.accesses)
    }
}
