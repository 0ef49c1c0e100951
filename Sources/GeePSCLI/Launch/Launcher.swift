/// Who may have started this process, in the order in which they are believed.
///
/// The order matters where one starts another. torchrun runs inside `srun`, so it outranks Slurm. Under `salloc
/// mpirun` every rank carries the Slurm variables of its daemon, so Open MPI outranks Slurm too.
enum Launcher: String, CaseIterable, Sendable {
    case geeps = "GeePS"
    case torchrun = "torchrun"
    case openMPI = "Open MPI"
    case pmi = "PMI"
    case slurm = "Slurm"
    case kubeflow = "Kubeflow Trainer"
    case indexedJob = "Kubernetes indexed job"
}

/// What one launcher's variables say about the place of this process.
struct LaunchClaim: Hashable, Sendable {
    var launcher: Launcher
    var rank: Int
    var worldSize: Int
    var localRank = 0
    /// Whether all processes are known to be on this machine.
    var isLocal = false
    /// The variables that say so.
    var rankVariable: String
    var sizeVariable: String
}

extension LaunchClaim {
    /// What `launcher` says; nil where it has left no mark.
    ///
    /// - Throws: `CLIError` (usage) where its variables do not fit each other.
    init?(of launcher: Launcher, in environment: LaunchVariables) throws(CLIError) {
        let claim: LaunchClaim? =
            switch launcher {
            case .geeps: try Self.geeps(environment)
            case .torchrun: try Self.torchrun(environment)
            case .openMPI: try Self.openMPI(environment)
            case .pmi: try Self.pmi(environment)
            case .slurm: try Self.slurm(environment)
            case .kubeflow: try Self.kubeflow(environment)
            case .indexedJob: try Self.indexedJob(environment)
            }
        guard let claim else { return nil }
        guard claim.rank < claim.worldSize else {
            throw CLIError(
                .usage,
                "\(claim.rankVariable) is \(claim.rank) but \(claim.sizeVariable) is \(claim.worldSize): "
                    + "ranks go from 0 to \(claim.worldSize - 1)")
        }
        self = claim
    }

    private static func geeps(_ environment: LaunchVariables) throws(CLIError) -> LaunchClaim? {
        guard environment[LaunchEnvironment.rank] != nil else { return nil }
        return LaunchClaim(
            launcher: .geeps, rank: try environment.number(LaunchEnvironment.rank),
            worldSize: try environment.number(LaunchEnvironment.worldSize, from: 1),
            localRank: try environment.number(LaunchEnvironment.localRank, fallback: 0),
            rankVariable: LaunchEnvironment.rank, sizeVariable: LaunchEnvironment.worldSize)
    }

    /// Of torchrun, and of all that imitate it, such as the old PyTorchJob.
    private static func torchrun(_ environment: LaunchVariables) throws(CLIError) -> LaunchClaim? {
        guard environment["RANK"] != nil, environment["WORLD_SIZE"] != nil else { return nil }
        let worldSize = try environment.number("WORLD_SIZE", from: 1)
        return LaunchClaim(
            launcher: .torchrun, rank: try environment.number("RANK"), worldSize: worldSize,
            localRank: try environment.number("LOCAL_RANK", fallback: 0),
            isLocal: try environment.number("LOCAL_WORLD_SIZE", fallback: 0) == worldSize,
            rankVariable: "RANK", sizeVariable: "WORLD_SIZE")
    }

    private static func openMPI(_ environment: LaunchVariables) throws(CLIError) -> LaunchClaim? {
        let prefix = "OMPI_COMM_WORLD_"
        guard environment[prefix + "RANK"] != nil else { return nil }
        let worldSize = try environment.number(prefix + "SIZE", from: 1)
        return LaunchClaim(
            launcher: .openMPI, rank: try environment.number(prefix + "RANK"),
            worldSize: worldSize,
            localRank: try environment.number(prefix + "LOCAL_RANK", fallback: 0),
            isLocal: try environment.number(prefix + "LOCAL_SIZE", fallback: 0) == worldSize,
            rankVariable: prefix + "RANK", sizeVariable: prefix + "SIZE")
    }

    /// Of MPICH, Intel MPI and `srun --mpi=pmi2`.
    private static func pmi(_ environment: LaunchVariables) throws(CLIError) -> LaunchClaim? {
        guard environment["PMI_RANK"] != nil, environment["PMI_SIZE"] != nil else { return nil }
        let worldSize = try environment.number("PMI_SIZE", from: 1)
        let local = environment["MPI_LOCALRANKID"] != nil ? "MPI_LOCALRANKID" : "SLURM_LOCALID"
        return LaunchClaim(
            launcher: .pmi, rank: try environment.number("PMI_RANK"), worldSize: worldSize,
            localRank: try environment.number(local, fallback: 0),
            isLocal: try environment.number("MPI_LOCALNRANKS", fallback: 0) == worldSize,
            rankVariable: "PMI_RANK", sizeVariable: "PMI_SIZE")
    }

    private static func slurm(_ environment: LaunchVariables) throws(CLIError) -> LaunchClaim? {
        guard environment.isInSlurmStep, environment["SLURM_PROCID"] != nil else { return nil }
        let size = ["SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"].first { environment[$0] != nil }
        let sizeVariable = size ?? "SLURM_NTASKS"
        return LaunchClaim(
            launcher: .slurm, rank: try environment.number("SLURM_PROCID"),
            worldSize: try environment.number(sizeVariable, from: 1),
            localRank: try environment.number("SLURM_LOCALID", fallback: 0),
            isLocal: environment.slurmHosts?.count == 1, rankVariable: "SLURM_PROCID",
            sizeVariable: sizeVariable)
    }

    /// Where `geeps` is the command of a TrainJob's pods, in place of torchrun.
    private static func kubeflow(_ environment: LaunchVariables) throws(CLIError) -> LaunchClaim? {
        guard environment["PET_NNODES"] != nil, environment["PET_NODE_RANK"] != nil else {
            return nil
        }
        if let text = environment["PET_NPROC_PER_NODE"], let count = Int(text), count > 1 {
            throw CLIError(
                .usage,
                "PET_NPROC_PER_NODE is \(count), but this is the only process of its pod: set numProcPerNode to 1, "
                    + "or start it by: torchrun --no-python geeps ...")
        }
        return LaunchClaim(
            launcher: .kubeflow, rank: try environment.number("PET_NODE_RANK"),
            worldSize: try environment.number("PET_NNODES", from: 1),
            rankVariable: "PET_NODE_RANK", sizeVariable: "PET_NNODES")
    }

    private static func indexedJob(_ environment: LaunchVariables) throws(CLIError) -> LaunchClaim?
    {
        guard environment[LaunchVariables.completionIndex] != nil,
            environment[LaunchEnvironment.worldSize] != nil
        else { return nil }
        return LaunchClaim(
            launcher: .indexedJob, rank: try environment.number(LaunchVariables.completionIndex),
            worldSize: try environment.number(LaunchEnvironment.worldSize, from: 1),
            localRank: try environment.number(LaunchEnvironment.localRank, fallback: 0),
            rankVariable: LaunchVariables.completionIndex,
            sizeVariable: LaunchEnvironment.worldSize)
    }
}
