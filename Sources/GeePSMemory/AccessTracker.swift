internal import GeePSCore

/// Follows the application through its plan; touched by the application's thread only.
///
/// Each iteration is traced. At its end a trace that differs from the plan becomes the plan.
struct AccessTracker {
    private(set) var plan: AccessPlan?
    private var trace: [Access] = []
    private var position = 0
    /// Something in this iteration was not where the plan has it.
    private(set) var strayed = false
    /// Accesses that were not where the plan has them.
    private(set) var deviations: UInt64 = 0
    /// Plans replaced by what an iteration really did.
    private(set) var replans: UInt64 = 0

    /// Follows `plan` from its beginning.
    mutating func follow(_ plan: AccessPlan) {
        self.plan = plan
        trace.removeAll(keepingCapacity: true)
        trace.reserveCapacity(plan.accesses.count + 16)
        position = 0
        strayed = false
    }

    /// Notes an access.
    ///
    /// - Returns: its position in the plan; nil when the plan does not have it from here on.
    mutating func note(_ access: Access) -> Int? {
        trace.append(access)
        guard let plan else { return nil }
        if position < plan.accesses.count, plan.accesses[position] == access {
            position += 1
            return position - 1
        }
        deviations += 1
        strayed = true
        guard let found = plan.accesses[position...].firstIndex(of: access) else { return nil }
        position = found + 1
        return found
    }

    /// Ends the iteration.
    ///
    /// - Returns: a new plan, when the iteration was not the planned one.
    mutating func clock() -> AccessPlan? {
        _ = note(Access(.clock))
        defer {
            trace.removeAll(keepingCapacity: true)
            position = 0
            strayed = false
        }
        guard strayed || plan == nil else { return nil }
        if plan != nil { replans += 1 }
        let traced = AccessPlan(trace)
        plan = traced
        return traced
    }
}
