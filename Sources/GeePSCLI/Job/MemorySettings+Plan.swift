import GeePSCore
import GeePSMemory
import GeePSNN

extension MemorySettings {
    /// Plans a clock of `job`, whose network is `network`.
    ///
    /// - Parameter times: of `network`, which they must match; nil where they are unknown.
    /// - Throws: `PlanRefusal` with the least budget and what would do.
    func plan(
        _ network: Network, of job: Job, times: LayerTimes? = nil
    ) throws(PlanRefusal) -> NetworkPlan {
        try network.plan(planOptions(network, of: job, times: times))
    }

    /// How a clock of `job` is planned: the same for `geeps plan` and `geeps train`.
    ///
    /// - Parameter times: of `network`, which they must match; nil where they are unknown.
    func planOptions(_ network: Network, of job: Job, times: LayerTimes?) -> NetworkPlanOptions {
        var options = NetworkPlanOptions()
        switch budget {
        case .bytes(let count)?: options.budget = .bytes(count)
        case .share(let share)?: options.budget = .share(share)
        case nil: options.budget = .full
        }
        options.policy = policy
        options.batchesPerClock = job.batchesPerClock
        options.link = link
        options.readsInPlace = job.staleness == .bulkSynchronous
        if let times { options.stepNanoseconds = times.nanoseconds(for: network) }
        return options
    }

    /// How a client is to manage its memory as `plan` says.
    func configuration(for plan: NetworkPlan) -> MemoryConfiguration {
        var configuration = MemoryConfiguration(budgetBytes: plan.problem.budgetBytes)
        configuration.policy = policy
        configuration.prefersPinnedHost = pinnedHost
        configuration.link = link
        configuration.servesInForeground = isCPUSide
        configuration.phaseNanoseconds = plan.problem.phaseNanoseconds
        return configuration
    }

    /// The link, each way alike; nil where the job names none.
    var link: PlanLink? {
        linkBytesPerSecond.map { PlanLink(bytesPerSecondIn: $0, bytesPerSecondOut: $0) }
    }
}
