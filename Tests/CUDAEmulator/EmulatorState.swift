/// What changes in an emulator; guarded by its lock.
final class EmulatorState {
    var isInitialised = false
    // What every call returns; nil: all is well.
    var breakdown: Int32?

    // What tests look at and ask for.
    var findings: [String] = []
    var calls: [String] = []
    var callCounts: [String: Int] = [:]
    // By function, then by the number of the call.
    var failures: [String: [Int: Int32]] = [:]
    var libraries: [ObjectIdentifier: any AnyObject & Sendable] = [:]
    var closeChecks: [@Sendable (CUDAEmulator) -> Void] = []

    // What is alive, by handle.
    var contexts: [OpaquePointer: ContextObject] = [:]
    var streams: [OpaquePointer: StreamObject] = [:]
    // By context.
    var defaultStreams: [OpaquePointer: StreamObject] = [:]
    var events: [OpaquePointer: EventObject] = [:]
    var modules: [OpaquePointer: ModuleObject] = [:]
    var functions: [OpaquePointer: FunctionObject] = [:]
    var programs: [OpaquePointer: ProgramObject] = [:]
    var memory = Allocations()
    // Destroyed, perhaps with work left.
    var retiredStreams: [StreamObject] = []
    var agentCount = 1

    // Order.
    var hostClock = VectorClock()
    var operationCount = 0
    // Operations put on streams that say which memory they touch only when they run.
    var lateOperations = 0
    // How often a race was found between work of the same names.
    private var raceCounts: [String: Int] = [:]
    private static let racesShownMaximum = 4

    /// The primary context of a GPU, if somebody holds it.
    func primaryContext(of device: Int32) -> ContextObject? {
        contexts.values.first { $0.device == device }
    }

    /// Every stream that may have work.
    var allStreams: [StreamObject] {
        Array(streams.values) + Array(defaultStreams.values) + retiredStreams
    }

    /// Numbers an operation that is put on `stream` now.
    func makeOperation(_ name: String, on stream: StreamObject) -> Operation {
        operationCount += 1
        stream.clock.merge(hostClock)
        stream.clock[stream.agent] += 1
        return Operation(
            number: operationCount, name: name, agent: stream.agent, agentName: stream.name,
            tick: stream.clock[stream.agent], clock: stream.clock)
    }

    /// Numbers an operation that the host does now.
    func makeHostOperation(_ name: String) -> Operation {
        operationCount += 1
        hostClock[0] += 1
        return Operation(
            number: operationCount, name: name, agent: 0, agentName: "the host",
            tick: hostClock[0], clock: hostClock)
    }

    /// Notes an access to an allocation and reports the accesses it is not ordered against.
    ///
    /// - Returns: whether all is in order.
    @discardableResult
    func note(
        _ ranges: [AddressRange], of allocation: Allocation, by operation: Operation,
        isWrite: Bool, isLate: Bool = false, verb: String? = nil
    ) -> Bool {
        let conflicts = allocation.shadow.note(
            ranges, by: operation, isWrite: isWrite, isLate: isLate)
        for conflict in conflicts {
            let other = conflict.earlier
            let verb = verb ?? (isWrite ? "writes" : "reads")
            let otherVerb = conflict.earlierWrites ? "writes" : "reads"
            let key = [
                operation.name, operation.agentName, verb, otherVerb, other.name, other.agentName,
            ].joined(separator: "|")
            let count = (raceCounts[key] ?? 0) + 1
            raceCounts[key] = count
            guard count <= Self.racesShownMaximum else { continue }
            findings.append(
                "race: \(operation.description) \(verb) \(hex(conflict.range)) and is not ordered "
                    + "against \(other.description), which \(otherVerb) it; "
                    + "memory: \(allocation.description)")
        }
        return conflicts.isEmpty
    }

    /// Reports how many races were not shown since others were like them.
    func reportHiddenRaces() {
        let hidden = raceCounts.values.reduce(0) { $0 + max(0, $1 - Self.racesShownMaximum) }
        if hidden > 0 { findings.append("race: \(hidden) more, between work of the same names") }
    }
}
