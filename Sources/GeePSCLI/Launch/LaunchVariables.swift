/// An environment, read as launchers write it.
struct LaunchVariables: Sendable {
    static let completionIndex = "JOB_COMPLETION_INDEX"
    /// From here on a step's number means a batch script, an interactive shell or the like, not `srun`.
    private static let firstSpecialStep: UInt32 = 0xFFFF_FFF0

    private let variables: [String: String]

    init(_ variables: [String: String]) { self.variables = variables }

    /// The value of a variable; nil where it is not set or empty.
    subscript(name: String) -> String? {
        guard let text = variables[name], !text.isEmpty else { return nil }
        return text
    }

    /// The value of a number's variable, or `fallback` where it is not set.
    ///
    /// - Throws: `CLIError` (usage) naming the variable that is missing or no number of `least` or more.
    func number(_ name: String, from least: Int = 0, fallback: Int? = nil) throws(CLIError) -> Int {
        guard let text = variables[name] else {
            if let fallback { return fallback }
            throw CLIError(.usage, "\(name) is not set, but other variables of its launcher are")
        }
        guard let number = Int(text), number >= least, number <= 1_000_000 else {
            throw CLIError(.usage, "\(name) is '\(text)', expected an integer of \(least) or more")
        }
        return number
    }

    /// Whether `srun` has started this process.
    ///
    /// In a batch script there is a SLURM_PROCID too, but the other ranks never come.
    var isInSlurmStep: Bool {
        guard let text = self["SLURM_STEP_ID"] else { return false }
        return UInt32(text).map { $0 < Self.firstSpecialStep } ?? false
    }

    /// The hosts of the Slurm step, or of the job.
    var slurmHosts: [String]? {
        (self["SLURM_STEP_NODELIST"] ?? self["SLURM_JOB_NODELIST"]).flatMap(HostList.hosts)
    }

    /// What to say where this is a batch script of several tasks that did not use `srun`.
    var batchScriptWarning: String? {
        guard self["SLURM_JOB_ID"] != nil, !isInSlurmStep else { return nil }
        // With --nodes alone nobody says how many tasks there are.
        let counts = ["SLURM_NTASKS", "SLURM_NNODES"].compactMap { name in
            self[name].flatMap { Int($0) }.map { (name, $0) }
        }
        guard let (name, count) = counts.first(where: { $1 > 1 }) else { return nil }
        return
            "this looks like a Slurm batch script without srun: \(name) is \(count), but this process is "
            + "alone; run `srun geeps ...`"
    }

    /// What to say where this is one of many pods but nobody said of how many.
    var indexedJobWarning: String? {
        guard let index = self[Self.completionIndex], self[LaunchEnvironment.worldSize] == nil
        else { return nil }
        return
            "\(Self.completionIndex) is \(index), but without \(LaunchEnvironment.worldSize) this process is alone"
    }
}
