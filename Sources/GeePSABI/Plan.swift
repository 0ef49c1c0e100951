public import CGeePS
internal import GeePS

/// Plans an iteration.
@c @implementation
public func geeps_plan(
    _ accesses: UnsafePointer<geeps_access>!, _ access_count: Int,
    _ table_values: UnsafePointer<UInt64>!, _ table_count: Int,
    _ local_bytes: UnsafePointer<UInt64>!, _ local_count: Int, _ budget_bytes: UInt64,
    _ report: UnsafeMutablePointer<geeps_plan_report>!
) -> Int32 {
    answering { () throws(ABIError) in
        let report = try required(report, "report")
        var iteration = VirtualIteration(
            accesses: UnsafeBufferPointer(start: accesses, count: access_count),
            tableValues: UnsafeBufferPointer(start: table_values, count: table_count),
            localBytes: UnsafeBufferPointer(start: local_bytes, count: local_count))
        var problem = try iteration.problem()
        problem.budgetBytes = budget_bytes == 0 ? nil : Int(clamping: budget_bytes)
        do throws(PlanRefusal) {
            report.pointee = try VirtualIteration.report(on: problem)
        } catch {
            throw ABIError(
                error.code == .budgetTooSmall ? GEEPS_BUDGET_TOO_SMALL : GEEPS_ARGUMENT,
                error.message)
        }
    }
}

/// An iteration as C describes it.
private struct VirtualIteration {
    let accesses: UnsafeBufferPointer<geeps_access>
    let tableValues: UnsafeBufferPointer<UInt64>
    let localBytes: UnsafeBufferPointer<UInt64>
    /// By table, position of its last update.
    private var lastUpdates: [Int?]

    init(
        accesses: UnsafeBufferPointer<geeps_access>, tableValues: UnsafeBufferPointer<UInt64>,
        localBytes: UnsafeBufferPointer<UInt64>
    ) {
        self.accesses = accesses
        self.tableValues = tableValues
        self.localBytes = localBytes
        lastUpdates = Array(repeating: nil, count: tableValues.count)
    }

    /// What the planner is asked; as a client under BSP asks for what it has traced.
    mutating func problem() throws(ABIError) -> PlanProblem {
        let steps = try self.steps()
        var staying = Set<UInt32>()
        for access in accesses
        where access.kind == Int32(Access.Kind.endLocal.rawValue) && access.matters == 2 {
            staying.insert(access.id)
        }
        var readsLate = Set<Int>()
        for (position, access) in steps.enumerated() where access.kind == .read {
            if let last = lastUpdates[access.batch], last < position {
                readsLate.insert(access.batch)
            }
        }
        var tables: [PlanProblem.Table] = []
        for values in tableValues {
            guard values > 0, values <= UInt64(Limits.tableRowsMaximum) else {
                throw .argument("a table of \(values) values")
            }
            let layout = TableLayout(name: "table \(tables.count)", valueCount: Int(values))
            tables.append(PlanProblem.Table(name: layout.name, cacheBytes: layout.byteCount))
        }
        for bytes in localBytes where bytes == 0 || bytes > UInt64(Int.max / 1024) {
            throw .argument("local data of \(bytes) bytes")
        }
        var problem = PlanProblem(
            accesses: steps,
            locals: localBytes.enumerated().map {
                PlanProblem.Local(
                    name: "local data \($0.offset)", byteCount: Int($0.element),
                    mayBeLeft: staying.contains(UInt32($0.offset)))
            },
            batches: tables.enumerated().map { table, layout in
                PlanProblem.Batch(
                    table: table, byteCount: layout.cacheBytes,
                    isRun: !readsLate.contains(table), isWholeTable: true)
            }, tables: tables)
        problem.updatesNeedRoom = steps.contains { $0.kind == .update && $0.matters }
        return problem
    }

    private mutating func steps() throws(ABIError) -> [Access] {
        var steps: [Access] = []
        for (position, access) in accesses.enumerated() {
            guard let kind = Access.Kind(rawValue: UInt8(truncatingIfNeeded: access.kind)) else {
                throw .argument("access \(position) has kind \(access.kind)")
            }
            let count: Int =
                switch kind {
                case .clock: Int.max
                case .local, .endLocal: localBytes.count
                case .read, .endRead, .update, .endUpdate: tableValues.count
                }
            guard Int(access.id) < count else {
                throw .argument("access \(position) is to number \(access.id) of \(count)")
            }
            if kind == .endUpdate { lastUpdates[Int(access.id)] = position }
            steps.append(
                Access(
                    kind, batch: kind == .clock ? 0 : Int(access.id), matters: access.matters != 0))
        }
        if steps.last?.kind != .clock { steps.append(Access(.clock)) }
        return steps
    }

    static func report(on problem: PlanProblem) throws(PlanRefusal) -> geeps_plan_report {
        let planner = try PlacementPlanner(problem)
        let placement = try planner.placement()
        var report = geeps_plan_report()
        report.least_bytes = UInt64(planner.leastBytes)
        report.full_bytes = UInt64(planner.fullBytes)
        report.device_bytes = UInt64(placement.deviceBytes)
        report.bytes_in = UInt64(placement.bytesIn)
        report.bytes_out = UInt64(placement.bytesOut)
        report.update_bytes = UInt64(placement.bytesOfUpdates)
        report.tables_on_device = UInt64(placement.cacheHomes.count { $0 == .device })
        report.locals_that_move = UInt64(placement.homes.count { $0 == .moves })
        return report
    }
}
