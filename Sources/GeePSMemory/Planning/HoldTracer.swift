import GeePSCore

/// Pairs acquires with releases and merges overlapping holders of one item.
struct HoldTracer {
    typealias Kind = PlanOutline.Item.Kind

    /// An item with its holds and the accesses each consists of.
    struct Trace {
        var kind: Kind
        var byteCount: Int
        var holds: [(hold: PlanOutline.Hold, accesses: [Int])] = []
        var holders = 0
    }

    private let problem: PlanProblem
    private(set) var traces: [Trace] = []
    private var traceOfLocal: [Int?]
    private var traceOfRead: [Int?]
    /// By batch: traces of updates not yet ended, oldest first.
    private var openUpdates: [[Int]]

    init(_ problem: PlanProblem) {
        self.problem = problem
        traceOfLocal = Array(repeating: nil, count: problem.locals.count)
        traceOfRead = Array(repeating: nil, count: problem.batches.count)
        openUpdates = Array(repeating: [], count: problem.batches.count)
    }

    /// Follows the access at `position`.
    mutating func note(_ position: Int, phase: Int) throws(PlanRefusal) {
        let access = problem.accesses[position]
        try checkBatch(access, position)
        if !problem.updatesNeedRoom, access.kind == .update || access.kind == .endUpdate { return }
        let id = access.batch
        switch access.kind {
        case .clock:
            guard position == problem.accesses.count - 1 else {
                throw .malformed("access \(position) is a clock, expected it at the end only")
            }
        case .local:
            let trace = traceOfLocal[id] ?? append(.local(id), problem.locals[id].byteCount)
            traceOfLocal[id] = trace
            acquire(trace, position, phase, fetches: access.matters)
        case .endLocal:
            try release(traceOfLocal[id], position, phase, keeps: access.matters)
        case .read:
            let trace = traceOfRead[id] ?? append(.read(id), problem.batches[id].byteCount)
            traceOfRead[id] = trace
            acquire(trace, position, phase, fetches: true)
        case .endRead: try release(traceOfRead[id], position, phase, keeps: false)
        case .update:
            let trace = append(.update(id), problem.batches[id].byteCount)
            openUpdates[id].append(trace)
            acquire(trace, position, phase, fetches: false)
        case .endUpdate:
            let trace = openUpdates[id].isEmpty ? nil : openUpdates[id].removeFirst()
            try release(trace, position, phase, keeps: true)
        }
    }

    /// Checks that nothing is held over the clock.
    func checkEnd() throws(PlanRefusal) {
        guard problem.accesses.last?.kind == .clock else {
            throw .malformed("the accesses do not end with a clock")
        }
        for trace in traces where trace.holders > 0 {
            throw .malformed("\(problem.name(of: trace.kind)) is not given back before the clock")
        }
    }

    private mutating func append(_ kind: Kind, _ bytes: Int) -> Int {
        traces.append(Trace(kind: kind, byteCount: bytes))
        return traces.count - 1
    }

    private mutating func acquire(_ trace: Int, _ position: Int, _ phase: Int, fetches: Bool) {
        if traces[trace].holders == 0 {
            let hold = PlanOutline.Hold(
                item: 0, first: phase, last: phase, firstAccess: position, lastAccess: position,
                fetches: fetches, keeps: false)
            traces[trace].holds.append((hold, [position]))
        } else {
            let last = traces[trace].holds.count - 1
            traces[trace].holds[last].accesses.append(position)
            traces[trace].holds[last].hold.fetches =
                traces[trace].holds[last].hold.fetches || fetches
        }
        traces[trace].holders += 1
    }

    private mutating func release(
        _ trace: Int?, _ position: Int, _ phase: Int, keeps: Bool
    ) throws(PlanRefusal) {
        guard let trace, traces[trace].holders > 0 else {
            throw .malformed("access \(position) gives back what nobody holds")
        }
        let last = traces[trace].holds.count - 1
        traces[trace].holders -= 1
        traces[trace].holds[last].accesses.append(position)
        traces[trace].holds[last].hold.last = phase
        traces[trace].holds[last].hold.lastAccess = position
        traces[trace].holds[last].hold.keeps = traces[trace].holds[last].hold.keeps || keeps
    }

    private func checkBatch(_ access: Access, _ position: Int) throws(PlanRefusal) {
        let known: Int
        switch access.kind {
        case .clock: return
        case .local, .endLocal: known = problem.locals.count
        case .read, .endRead, .update, .endUpdate: known = problem.batches.count
        }
        guard 0..<known ~= access.batch else {
            throw .malformed(
                "access \(position) names batch \(access.batch), the problem knows \(known)")
        }
    }
}

extension PlanProblem {
    /// For messages.
    func name(of kind: PlanOutline.Item.Kind) -> String {
        switch kind {
        case .local(let id): locals[id].name
        case .read(let id): "read of \(tables[batches[id].table].name)"
        case .update(let id): "update of \(tables[batches[id].table].name)"
        }
    }
}
