import CGeePSShims
import GeePSCore
import GeePSMemory
import GeePSNN
import Synchronization

/// Plans many budgets of one network, each on whichever core is free.
final class PlanSearch: Sendable {
    // Planning reads a network's names, steps and sizes, which are constant after its init.
    private nonisolated(unsafe) let network: Network
    private let options: NetworkPlanOptions
    private let budgets: [Int]
    private let state = Mutex(State())

    private struct State {
        /// Of `budgets`, the first that nobody plans yet.
        var next = 0
        var plans: [Int: NetworkPlan] = [:]
        var refusal: PlanRefusal?
    }

    /// - Parameter options: their budget does not count.
    init(_ network: Network, _ options: NetworkPlanOptions, budgets: [Int]) {
        self.network = network
        self.options = options
        self.budgets = budgets
    }

    /// A plan a budget, in order.
    ///
    /// - Throws: one of the refusals, where there are some.
    func plans() throws(PlanRefusal) -> [NetworkPlan] {
        let count = min(Int(geeps_available_cores()), budgets.count)
        let threads = (0..<count).map { number in
            DedicatedThread(name: "planner-\(number)") { self.work() }
        }
        for thread in threads { thread.join() }
        let (plans, refusal) = state.withLock { ($0.plans, $0.refusal) }
        if let refusal { throw refusal }
        return budgets.indices.compactMap { plans[$0] }
    }

    private func work() {
        while let index = take() {
            var options = options
            options.budget = .bytes(budgets[index])
            do {
                let plan = try network.plan(options)
                state.withLock { $0.plans[index] = plan }
            } catch {
                state.withLock { $0.refusal = error }
            }
        }
    }

    private func take() -> Int? {
        state.withLock { state in
            guard state.next < budgets.count, state.refusal == nil else { return nil }
            state.next += 1
            return state.next - 1
        }
    }
}
