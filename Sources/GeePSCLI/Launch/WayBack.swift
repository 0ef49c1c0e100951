import GeePS
import Glibc

/// What a task of Slurm does that the network has cut off from the others: it waits for the network before it ends.
///
/// The daemon of its node tells srun of a task's end five times, within seconds, and then never again; srun waits for it
/// for ever (seen with Slurm 22.05). So the end had better come when it can be told.
struct WayBack {
    /// Twice as long as Slurm, by default, waits for a node before it ends the job itself (SlurmdTimeout).
    static let patience = Duration.seconds(600)

    /// Rank 0's, "host:port": in a batch script the host that srun runs on.
    let address: String

    /// Nil where nobody needs to be told: at rank 0, in a job of one, and under all launchers but srun.
    init?(for launch: Launch, environment: [String: String]) {
        guard launch.rank > 0, let rendezvous = launch.rendezvous else { return nil }
        let launcher = try? LaunchEnvironment.detect(environment).claim?.launcher
        let variables = LaunchVariables(environment)
        guard launcher == .slurm || launcher == .pmi, variables.isInSlurmStep else { return nil }
        address = "\(rendezvous)"
    }

    /// Waits until rank 0's host answers, at most for `patience`; at once where this rank was not the one cut off.
    ///
    /// - Parameter isStopped: whether to wait no longer, since somebody wants this process to end.
    func wait(_ patience: Duration = patience, unless isStopped: () -> Bool) {
        let deadline = ContinuousClock.now + patience
        var isTold = false
        while !isStopped(), !Rendezvous.isReachable(address, within: .seconds(1)),
            ContinuousClock.now < deadline
        {
            if !isTold {
                writeError("geeps: no way to \(address); ending when there is one\n")
                isTold = true
            }
            usleep(500_000)
        }
    }
}
