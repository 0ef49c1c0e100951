import GeePSCore
import GeePSNN

/// Looks at the clock after the first steps and after the last.
final class SteadyWatch {
    /// Steps that do not count.
    static let warmUpSteps = 3

    private struct Reading {
        var step: Int
        var nanoseconds: UInt64
        var stall: UInt64
        var total: UInt64
    }

    private let stepCount: Int
    private var first: Reading?
    private var last: Reading?

    /// For a training of `stepCount` steps.
    init(stepCount: Int) { self.stepCount = stepCount }

    /// Notes that a step is over.
    func note(completed: Int, _ times: TrainingTimes) {
        guard completed == Self.warmUpSteps || completed == stepCount else { return }
        let reading = Reading(
            step: completed, nanoseconds: monotonicNanoseconds(), stall: times.stall,
            total: times.total)
        if first == nil, completed == Self.warmUpSteps { first = reading } else { last = reading }
    }

    /// What was measured; nil where no step is left behind the first.
    ///
    /// - Parameter samplesPerStep: of all workers.
    func result(samplesPerStep: Int) -> TrainingSummary.SteadyState? {
        guard let first, let last, last.step > first.step else { return nil }
        let steps = last.step - first.step
        let seconds = Double(last.nanoseconds - first.nanoseconds) / 1e9
        return TrainingSummary.SteadyState(
            steps: steps,
            samplesPerSecond: Double(steps * samplesPerStep) / max(seconds, 1e-9),
            // A GPU's compute time is known a little later than the step's: the difference may be negative.
            stallRatio: Double(last.stall - min(last.stall, first.stall))
                / Double(max(1, last.total - first.total)))
    }
}
