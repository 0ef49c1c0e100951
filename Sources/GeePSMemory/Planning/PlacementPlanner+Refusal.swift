import GeePSCore

extension PlacementPlanner {
    /// Says what needs most, and what would do.
    func refusal(budgetBytes: Int) -> PlanRefusal {
        let load = SelectionDraft(problem, outline).load
        let phase = load.bytes.firstIndex(of: load.peak) ?? 0
        let name = phaseName(phase)
        let batch = fittingBatchSize(budgetBytes, leastPeak: load.peak)
        var message =
            "\(name) needs \(memoryText(load.peak)) on the device at the same time"
        if problem.fixedBytes > 0 {
            message += " beside \(memoryText(problem.fixedBytes)) that are always in use"
        }
        message += ", the budget is \(memoryText(budgetBytes)): the least that would do is "
        message += memoryText(leastBytes)
        if let batch { message += "; a batch of \(batch) would fit" }
        var refusal = PlanRefusal(.budgetTooSmall, message)
        refusal.phaseName = name
        refusal.phaseBytes = load.peak
        refusal.budgetBytes = budgetBytes
        refusal.leastBytes = leastBytes
        refusal.fittingBatchSize = batch
        return refusal
    }

    /// The given name, or the largest thing the phase holds.
    private func phaseName(_ phase: Int) -> String {
        if phase < problem.phaseNames.count { return problem.phaseNames[phase] }
        let held = outline.holds.filter { $0.first <= phase && phase <= $0.last }.map(\.item)
        let largest = held.max { outline.items[$0].roomBytes < outline.items[$1].roomBytes }
        guard let largest else { return "an empty iteration" }
        return "the step with \(problem.name(of: outline.items[largest].kind))"
    }

    /// Local data shrinks with the batch, parameters do not; the packer's overhead is taken to stay the same.
    private func fittingBatchSize(_ budgetBytes: Int, leastPeak: Int) -> Int? {
        guard let batchSize = problem.batchSize, batchSize > 1, leastPeak > 0 else { return nil }
        var constant = PhaseLoad(phaseCount: outline.phaseCount)
        var sample = PhaseLoad(phaseCount: outline.phaseCount)
        for hold in outline.holds {
            let item = outline.items[hold.item]
            var perSample = 0
            if case .local(let id) = item.kind {
                perSample = problem.locals[id].bytesPerSample ?? 0
            }
            sample.add(perSample, first: hold.first, count: hold.phaseCount)
            let rest = max(0, item.roomBytes - perSample * batchSize)
            constant.add(rest, first: hold.first, count: hold.phaseCount)
        }
        let overhead = Double(leastBytes - problem.fixedBytes) / Double(leastPeak)
        let room = Double(budgetBytes - problem.fixedBytes) / overhead
        var fitting = batchSize - 1
        for phase in 0..<outline.phaseCount {
            let left = room - Double(constant.bytes[phase])
            guard left >= 0 else { return nil }
            guard sample.bytes[phase] > 0 else { continue }
            fitting = min(fitting, Int(left) / sample.bytes[phase])
        }
        return fitting > 0 ? fitting : nil
    }
}

/// "4.25 GiB", "512 MiB", "96 bytes": powers of two, as device memory is counted.
package func memoryText(_ count: Int) -> String {
    let units = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)]
    for (name, size) in units where count >= size {
        let hundredths = (count / (size / 1024) * 100 + 512) / 1024
        let rest = hundredths % 100
        if rest == 0 { return "\(hundredths / 100) \(name)" }
        return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest) \(name)"
    }
    return "\(count) bytes"
}
