import Glibc

extension Schedule {
    /// What the base learning rate is multiplied by at `step` (zero for the first clock).
    public func factor(step: UInt64) -> Double {
        if step < warmup { return Double(step + 1) / Double(warmup + 1) }
        let step = step - warmup
        switch shape {
        case .constant: return 1
        case .step(let stepSize, let gamma): return pow(gamma, Double(step / max(1, stepSize)))
        case .multistep(let milestones, let gamma):
            return pow(gamma, Double(milestones.count { $0 <= step }))
        case .exponential(let gamma): return pow(gamma, Double(step))
        case .polynomial(let total, let power):
            return step >= total ? 0 : pow(1 - Double(step) / Double(total), power)
        case .cosine(let period, let minimumFactor):
            guard step < period else { return minimumFactor }
            let cosine = cos(Double.pi * Double(step) / Double(period))
            return minimumFactor + (1 - minimumFactor) * (1 + cosine) / 2
        }
    }
}
