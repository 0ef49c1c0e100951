import Testing

@testable import GeePSCLI

/// Environments as launchers really left them.
@Suite struct LauncherTests {
    struct Seen: Sendable, CustomTestStringConvertible {
        var name: String
        var environment: [String: String]
        /// "rank/size local address" or "alone".
        var place: String
        var launcher: Launcher?
        /// What the one warning has; nil: no warning.
        var warning: String?
        var testDescription: String { name }
    }

    private static let torchrun = [
        "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
        "GROUP_RANK": "1", "GROUP_WORLD_SIZE": "2", "ROLE_RANK": "3", "ROLE_WORLD_SIZE": "4",
        "ROLE_NAME": "default", "MASTER_ADDR": "n1", "MASTER_PORT": "29400",
        "OMP_NUM_THREADS": "1", "TORCHELASTIC_RUN_ID": "none", "TORCHELASTIC_RESTART_COUNT": "0",
        "TORCHELASTIC_MAX_RESTARTS": "0", "TORCHELASTIC_USE_AGENT_STORE": "True",
    ]
    private static let srun = [
        "SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_NPROCS": "4", "SLURM_LOCALID": "0",
        "SLURM_NODEID": "2", "SLURM_NNODES": "4", "SLURM_JOB_NODELIST": "n[1-4]",
        "SLURM_STEP_NODELIST": "n[1-4]", "SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_TASKS_PER_NODE": "1(x4)", "SLURM_JOB_ID": "123457",
        "SLURM_LAUNCH_NODE_IPADDR": "10.77.7.254", "SLURMD_NODENAME": "n3",
    ]
    private static let mpirun = [
        "OMPI_COMM_WORLD_RANK": "1", "OMPI_COMM_WORLD_SIZE": "4",
        "OMPI_COMM_WORLD_LOCAL_RANK": "1", "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
        "OMPI_COMM_WORLD_NODE_RANK": "1", "OMPI_UNIVERSE_SIZE": "2", "PMIX_RANK": "1",
        "PMIX_NAMESPACE": "2405761025",
    ]
    private static let trainJob = [
        "PET_NNODES": "3", "PET_NPROC_PER_NODE": "1", "PET_NODE_RANK": "2",
        "PET_MASTER_ADDR": "job-node-0-0.job", "PET_MASTER_PORT": "29500",
        "JOB_COMPLETION_INDEX": "2",
    ]

    private static func changed(
        _ environment: [String: String], _ changes: [String: String?]
    ) -> [String: String] {
        var environment = environment
        for (name, value) in changes { environment[name] = value }
        return environment
    }

    static let seen = [
        Seen(name: "a shell", environment: ["PATH": "/bin"], place: "alone"),
        Seen(
            name: "torchrun", environment: torchrun, place: "3/4 1 n1:29401", launcher: .torchrun),
        Seen(
            name: "torchrun under srun", environment: srun.merging(torchrun) { $1 },
            place: "3/4 1 n1:29401", launcher: .torchrun),
        Seen(
            name: "PyTorchJob, one process a pod",
            environment: [
                "RANK": "1", "WORLD_SIZE": "2", "MASTER_ADDR": "job-master-0",
                "MASTER_PORT": "23456",
            ], place: "1/2 0 job-master-0:23457", launcher: .torchrun),
        Seen(name: "srun", environment: srun, place: "2/4 0 n1:18457", launcher: .slurm),
        Seen(
            name: "srun on one node",
            environment: changed(
                srun,
                [
                    "SLURM_STEP_NODELIST": "n3", "SLURM_STEP_NUM_TASKS": "2", "SLURM_PROCID": "1",
                    "SLURM_LOCALID": "1",
                ]), place: "1/2 1 127.0.0.1:18457", launcher: .slurm),
        Seen(
            name: "srun with an address given",
            environment: changed(srun, ["MASTER_ADDR": "n2", "MASTER_PORT": "4000"]),
            place: "2/4 0 n2:4000", launcher: .slurm),
        Seen(
            name: "srun of one task",
            environment: changed(srun, ["SLURM_PROCID": "0", "SLURM_STEP_NUM_TASKS": "1"]),
            place: "alone", launcher: .slurm),
        Seen(
            name: "a batch script without srun",
            environment: changed(
                srun,
                [
                    "SLURM_STEP_ID": nil, "SLURM_STEP_NODELIST": nil, "SLURM_STEP_NUM_TASKS": nil,
                    "SLURM_PROCID": "0",
                ]), place: "alone", warning: "this looks like a Slurm batch script without srun"),
        Seen(
            name: "a batch script of two nodes",
            environment: [
                "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_NNODES": "2",
                "SLURM_JOB_NODELIST": "n[1-2]",
            ], place: "alone", warning: "SLURM_NNODES is 2, but this process is alone"),
        Seen(
            name: "an interactive step of salloc",
            environment: changed(srun, ["SLURM_STEP_ID": "4294967290", "SLURM_PROCID": "0"]),
            place: "alone", warning: "run `srun geeps ...`"),
        Seen(
            name: "srun --mpi=pmi2",
            environment: srun.merging(["PMI_RANK": "2", "PMI_SIZE": "4", "PMI_JOBID": "123457.0"]) {
                $1
            }, place: "2/4 0 n1:16811", launcher: .pmi),
        Seen(
            name: "mpirun on one machine", environment: mpirun, place: "1/4 1 127.0.0.1:16025",
            launcher: .openMPI),
        Seen(
            name: "salloc mpirun: the daemon's Slurm variables",
            environment: changed(
                srun.merging(mpirun) { $1 },
                [
                    "OMPI_COMM_WORLD_LOCAL_SIZE": "2", "SLURM_PROCID": "0", "SLURM_NTASKS": "2",
                    "SLURM_STEP_NUM_TASKS": "2",
                ]), place: "1/4 1 n1:16025", launcher: .openMPI),
        Seen(
            name: "MPICH on one machine",
            environment: [
                "PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "1", "MPI_LOCALNRANKS": "2",
            ], place: "1/2 1 127.0.0.1:29500", launcher: .pmi),
        Seen(
            name: "TrainJob", environment: trainJob, place: "2/3 0 job-node-0-0.job:29500",
            launcher: .kubeflow),
        Seen(
            name: "indexed job",
            environment: [
                "JOB_COMPLETION_INDEX": "1", "GEEPS_WORLD_SIZE": "2",
                "GEEPS_RENDEZVOUS": "train-w-0-0.train:29500",
            ], place: "1/2 0 train-w-0-0.train:29500", launcher: .indexedJob),
        Seen(
            name: "one of many pods that do not belong together",
            environment: ["JOB_COMPLETION_INDEX": "1"], place: "alone",
            warning: "JOB_COMPLETION_INDEX is 1, but without GEEPS_WORLD_SIZE this process is alone"
        ),
        Seen(
            name: "an address of our own for another launcher",
            environment: changed(srun, ["GEEPS_RENDEZVOUS": "10.0.0.7:29500"]),
            place: "2/4 0 10.0.0.7:29500", launcher: .slurm),
        Seen(
            name: "our own variables outrank all",
            environment: changed(
                srun,
                [
                    "GEEPS_RANK": "2", "GEEPS_WORLD_SIZE": "4", "GEEPS_RENDEZVOUS": "a:1",
                ]), place: "2/4 0 a:1", launcher: .geeps),
        Seen(
            name: "torch's variables that srun disagrees with",
            environment: srun.merging([
                "RANK": "2", "WORLD_SIZE": "8", "MASTER_ADDR": "n1", "MASTER_PORT": "4000",
            ]) { $1 }, place: "2/8 0 n1:4001", launcher: .torchrun,
            warning: "WORLD_SIZE is 8 (torchrun) but SLURM_STEP_NUM_TASKS is 4 (Slurm)"),
        Seen(
            name: "ranks that disagree",
            environment: changed(
                srun,
                [
                    "GEEPS_RANK": "1", "GEEPS_WORLD_SIZE": "4", "GEEPS_RENDEZVOUS": "a:1",
                ]), place: "1/4 0 a:1", launcher: .geeps,
            warning: "GEEPS_RANK is 1 (GeePS) but SLURM_PROCID is 2 (Slurm)"),
    ]

    @Test(arguments: seen) func aPlaceIsReadAsTheLauncherMeantIt(seen: Seen) throws {
        let found = try LaunchEnvironment.detect(seen.environment)
        let place =
            found.launch.map { launch in
                "\(launch.rank)/\(launch.worldSize) \(launch.localRank) "
                    + "\(launch.rendezvous.map { "\($0)" } ?? "nowhere")"
            } ?? "alone"
        #expect(place == seen.place)
        #expect(found.claim?.launcher == seen.launcher)
        #expect(found.warnings.count == (seen.warning == nil ? 0 : 1), "\(found.warnings)")
        if let warning = seen.warning {
            #expect(found.warnings.first?.contains(warning) == true, "\(found.warnings)")
        }
    }

    struct Wrong: Sendable, CustomTestStringConvertible {
        var environment: [String: String]
        var message: String
        var testDescription: String { message }
    }

    static let wrong = [
        Wrong(
            environment: changed(mpirun, ["OMPI_COMM_WORLD_LOCAL_SIZE": "2"]),
            message: "hand it on by mpirun -x GEEPS_RENDEZVOUS=host:port"),
        Wrong(environment: changed(srun, ["SLURM_PROCID": "4"]), message: "SLURM_PROCID is 4 but"),
        Wrong(
            environment: changed(trainJob, ["PET_NPROC_PER_NODE": "8"]),
            message: "PET_NPROC_PER_NODE is 8"),
        Wrong(
            environment: changed(trainJob, ["PET_MASTER_ADDR": nil]),
            message: "PET_MASTER_ADDR is not set"
        ),
        Wrong(
            environment: changed(torchrun, ["MASTER_PORT": "no"]), message: "MASTER_PORT is 'no'"),
        Wrong(environment: changed(torchrun, ["WORLD_SIZE": "x"]), message: "WORLD_SIZE is 'x'"),
        Wrong(
            environment: ["RANK": "0", "WORLD_SIZE": "2"],
            message: "GEEPS_RENDEZVOUS is not set but WORLD_SIZE is 2"),
        Wrong(
            environment: ["GEEPS_RENDEZVOUS": "a:1"],
            message: "GEEPS_RANK is not set but GEEPS_RENDEZVOUS is"),
    ]

    @Test(arguments: wrong) func whatDoesNotFitIsNamed(wrong: Wrong) {
        #expect {
            try LaunchEnvironment.detect(wrong.environment)
        } throws: {
            ($0 as? CLIError)?.code == .usage && "\($0)".contains(wrong.message)
        }
    }
}
