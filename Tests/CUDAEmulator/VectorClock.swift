/// How much each agent has done that something is ordered behind.
///
/// Agent zero is the host, all its threads together; each stream is one more.
struct VectorClock: Sendable {
    private var ticks: [UInt32] = []

    subscript(agent: Int) -> UInt32 {
        get { agent < ticks.count ? ticks[agent] : 0 }
        set {
            while ticks.count <= agent { ticks.append(0) }
            ticks[agent] = newValue
        }
    }

    /// Orders the owner of this clock behind what `other` is ordered behind, too.
    mutating func merge(_ other: VectorClock) {
        for agent in other.ticks.indices where self[agent] < other.ticks[agent] {
            self[agent] = other.ticks[agent]
        }
    }
}

/// One thing that touches memory: a copy, a kernel, a free.
final class Operation: Sendable {
    /// In the order of calls, from one.
    let number: Int
    /// The kernel or the driver's function.
    let name: String
    /// Whose operation it is.
    let agent: Int
    /// As findings name the agent: "stream 2", "the host".
    let agentName: String
    /// Its number among the agent's.
    let tick: UInt32
    /// What it is ordered behind, itself included.
    let clock: VectorClock

    init(
        number: Int, name: String, agent: Int, agentName: String, tick: UInt32, clock: VectorClock
    ) {
        self.number = number
        self.name = name
        self.agent = agent
        self.agentName = agentName
        self.tick = tick
        self.clock = clock
    }

    /// Whether streams, events and waits put this one before `other`, whatever the timing.
    func isBefore(_ other: Operation) -> Bool { other.clock[agent] >= tick }

    var description: String { "\(name) (operation \(number), \(agentName))" }
}
