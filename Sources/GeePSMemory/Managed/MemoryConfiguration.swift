/// How a worker's device memory is managed.
public struct MemoryConfiguration: Sendable {
    /// Device memory for everything: buffers, caches, indexes; nil for as much as is of use.
    public var budgetBytes: Int?
    /// How to choose what stays on the device.
    public var policy = PlanPolicy.benefit
    /// Host memory that is copied from and to is pinned, as long as there is some.
    public var prefersPinnedHost = true
    /// Everything is copied by the application's own thread when it asks, and clocks are raised at the end of the
    /// iteration: how a parameter server without regard to GPUs is used, to compare with.
    ///
    /// Rows live on the host, local data stays on the device; plans and budgets are left aside.
    public var servesInForeground = false
    /// What the planner takes the speed of copies to be; nil where unknown.
    public var link: PlanLink?
    /// Compute time by phase of the iteration, for the planner; empty where unknown.
    ///
    /// Times for another number of phases are left aside.
    public var phaseNanoseconds: [UInt64] = []
    /// Budgets that the planner prepares for; fewer plan faster, and place a little worse.
    ///
    /// Nil: by the length of the iteration.
    package var planGridPoints: Int?
    /// How long a buffer may take to become ready before its acquire fails.
    public var waitTimeout = Duration.seconds(120)

    /// A configuration.
    public init(budgetBytes: Int? = nil) { self.budgetBytes = budgetBytes }
}
