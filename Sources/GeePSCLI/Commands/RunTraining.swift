/// Trains `job` as the process that `launch` says, in step with the other ranks.
///
/// - Parameter progress: silent on every rank but 0.
/// - Returns: the results, complete on rank 0; other ranks may leave what they do not know at zero.
/// - Throws: what went wrong; `ErrorReport` knows how the process ends then.
func runTraining(_ job: Job, launch: Launch, progress: ProgressReporter) throws -> TrainingSummary {
    throw CLIError(.internalError, "training is not composed")
}
