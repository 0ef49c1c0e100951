public import GeePSMemory

public struct NetworkPlan: Sendable {
    public var steps: [NetworkStep]
    public var placement: Placement
}
