import GeePSCheckpoint

/// Decides whether a job that has lost a process is started again, and how.
struct Restart {
    /// What the next start is called with.
    private(set) var arguments: [String]
    private let settings: CheckpointSettings?
    private var count = 0

    /// - Parameter settings: nil for a job without checkpoints, which is never started again.
    init(_ settings: CheckpointSettings?, arguments: [String]) {
        self.settings = settings
        self.arguments = arguments
    }

    /// After an end that is no success.
    ///
    /// - Returns: what is said before the next start; nil when there is none.
    mutating func next(after outcome: Supervisor.Outcome) -> String? {
        guard let settings, count < settings.restarts, let rank = outcome.failedRank,
            outcome.signal == nil, Self.isLoss(outcome.ends[rank])
        else { return nil }
        count += 1
        let tick = CheckpointDirectory(settings.directory).ticks.last
        // Where there is none yet, the run starts as it was told to.
        let goesOn = ["--resume", "auto"]
        if tick != nil, arguments.suffix(2) != goesOn { arguments += goesOn }
        let place = tick.map { "from the checkpoint of step \($0)" } ?? "from the beginning"
        return "geeps: rank \(rank) \(outcome.ends[rank]); starting again \(place), "
            + "\(count) of at most \(settings.restarts) times\n"
    }

    /// Whether a process was lost, rather than told that what it was given is wrong.
    private static func isLoss(_ end: ProcessEnd) -> Bool {
        switch end {
        case .killed: true
        case .exited(let code):
            [CLIExit.unavailable, .internalError, .inputOutput].map(\.rawValue).contains(code)
        }
    }
}
