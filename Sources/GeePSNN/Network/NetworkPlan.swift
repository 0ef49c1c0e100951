public import GeePSMemory

/// What a clock does, and where it has what.
public struct NetworkPlan: Sendable {
    /// In order.
    public var steps: [NetworkStep]
    /// For the accesses of these steps.
    public var placement: Placement
}
