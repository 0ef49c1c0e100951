/// How a run survives the loss of a process, and the end of its time.
struct CheckpointSettings: Hashable, Sendable {
    /// How often a checkpoint is made.
    enum Interval: Hashable, Sendable {
        case clocks(UInt64)
        case time(Duration)

        /// As a job file says it.
        var text: String {
            switch self {
            case .clocks(let count): "\(count)"
            case .time(let duration): duration.jobText
            }
        }
    }

    /// What a run starts from.
    enum Resume: Hashable, Sendable {
        /// The newest whole checkpoint, if there is one.
        case automatic
        /// The initial weights.
        case never
        /// The checkpoint at this path.
        case from(String)

        /// As a job file says it.
        var text: String {
            switch self {
            case .automatic: "auto"
            case .never: "never"
            case .from(let path): path
            }
        }
    }

    /// Where the checkpoints are; every process must reach it.
    var directory: String
    var every = Interval.time(.seconds(600))
    /// Checkpoints that are left; older ones are removed.
    var keep = 3
    var resume = Resume.automatic
    /// How often a run on this machine is started again when a process is lost.
    var restarts = 3
}
