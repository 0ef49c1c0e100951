import Foundation
import Glibc
import Testing

extension SystemTests {
    /// Jobs that Open MPI's own mpirun starts.
    @Suite(
        .serialized,
        .enabled(if: LauncherTools.mpirun != nil, "no mpirun here: make setup-cluster"))
    struct OpenMPITests {
        private func mpirun(_ ranks: Int) -> [String] {
            [
                LauncherTools.mpirun ?? "", "--allow-run-as-root", "--oversubscribe", "-n",
                "\(ranks)",
            ]
        }

        /// Without a word about secrets: ranks of one user have the user's own.
        @Test func ranksTrainToTheSameBits() async throws {
            let job = try SmallJob(workers: 2, steps: 100)
            let supervised = try await job.start("supervised").wait()
            try #require(supervised.isSuccess, "\(supervised)")
            let environment = oneThread.merging(["HOME": job.folder.path("")]) { $1 }
            let result = try await GeepsProcess(
                job.arguments("mpi"), launcher: mpirun(2), environment: environment,
                timeout: .seconds(40)
            ).wait()
            #expect(result.isSuccess, "\(result)")
            #expect(try job.model("mpi") == job.model("supervised"))
            #expect(access(job.folder.path(".config/geeps/secret"), R_OK) == 0)
        }

        @Test func doctorSaysWhatItSees() async throws {
            let folder = try TemporaryFolder()
            let result = try await GeepsProcess(
                ["doctor"], launcher: mpirun(2), environment: ["HOME": folder.path("")],
                timeout: .seconds(40)
            ).wait()
            #expect(result.isSuccess, "\(result)")
            for rank in 0..<2 {
                #expect(
                    result.output.contains(
                        "rank \(rank) of 2, \(rank) on this machine (Open MPI: OMPI_COMM_WORLD_RANK"
                    ),
                    "\(result)")
            }
        }
    }

    /// Jobs on a real Slurm cluster of four hosts, each with its own network and name.
    @Suite(
        .serialized,
        .enabled(
            if: LauncherTools.obstacleToSlurm == nil,
            "\(LauncherTools.obstacleToSlurm ?? ""): make setup-cluster"))
    struct SlurmTests {
        private func start(
            _ cluster: SlurmCluster, _ command: [String], _ arguments: [String],
            home: TemporaryFolder, environment: [String: String] = [:]
        ) throws -> GeepsProcess {
            try GeepsProcess(
                arguments, launcher: cluster.launcher + command,
                environment: oneThread.merging(["HOME": home.path("")]) { $1 }
                    .merging(environment) { $1 },
                timeout: .seconds(40))
        }

        @Test func srunTrainsOnFourHosts() async throws {
            let job = try SmallJob(workers: 4, steps: 60)
            let supervised = try await job.start("supervised").wait()
            try #require(supervised.isSuccess, "\(supervised)")
            let cluster = try SlurmCluster()
            let secret = try job.folder.write("secret", "a secret for four hosts\n")
            chmod(secret, 0o600)
            let result = try await start(
                cluster, ["srun", "-N4"], job.arguments("slurm"), home: job.folder,
                environment: ["GEEPS_SECRET_FILE": secret]
            ).wait()
            #expect(result.isSuccess, "\(result)")
            #expect(try job.model("slurm") == job.model("supervised"))
        }

        /// Under salloc the ranks of mpirun carry Slurm's variables of their daemon.
        @Test(.enabled(if: LauncherTools.mpirun != nil, "no mpirun here: make setup-cluster"))
        func mpirunUnderSallocTrainsOnTwoHosts() async throws {
            let job = try SmallJob(workers: 4, steps: 30)
            let cluster = try SlurmCluster()
            let result = try await start(
                cluster,
                [
                    "salloc", "-N2", "--ntasks-per-node=2", LauncherTools.mpirun ?? "",
                    "--allow-run-as-root", "-n", "4",
                ], job.arguments("mpi"), home: job.folder
            ).wait()
            #expect(result.isSuccess, "\(result)")
            #expect(
                FileManager.default.fileExists(atPath: job.folder.path("mpi/model.safetensors")))
        }

        @Test func aBatchScriptWithoutSrunIsToldSo() async throws {
            let folder = try TemporaryFolder()
            let cluster = try SlurmCluster()
            let script = try folder.write("job.sh", "#!/bin/bash\n\"$@\"\n")
            let output = folder.path("out")
            let result = try await start(
                cluster, ["sbatch", "--wait", "-N2", "-o", output, script], ["doctor"],
                home: folder
            ).wait()
            #expect(result.isSuccess, "\(result)")
            let text = folder.text("out")
            #expect(text.contains("alone: no launcher"), "\(text)")
            #expect(text.contains("this looks like a Slurm batch script without srun"), "\(text)")
        }

        @Test func aHostWithAnotherSecretIsNotServed() async throws {
            let job = try SmallJob(workers: 2, steps: 30)
            let cluster = try SlurmCluster()
            let shell =
                "GEEPS_SECRET=\"secret number $SLURM_PROCID of two\" exec \"$@\""
            let result = try await start(
                cluster, ["srun", "-N2", "-K", "bash", "-c", shell, "-"],
                job.arguments("none", ["--set", "cluster.join_timeout=8s"]), home: job.folder
            ).wait()
            #expect(!result.isSuccess && !result.isTimedOut, "\(result)")
            #expect(result.error.contains("cannot prove to each other"), "\(result)")
        }

        /// srun lets the other ranks run on when one is lost, so they must end by themselves.
        @Test func aHostThatIsCutOffEndsTheJob() async throws {
            let job = try SmallJob(workers: 3, steps: 1_000_000)
            let cluster = try SlurmCluster()
            let process = try start(
                cluster, ["srun", "-N3"], job.arguments("cut"), home: job.folder)
            try #require(try await job.hasTrained("cut", process), "\(process.error)")
            try cluster.cutOff(3)
            let named = try await process.wait {
                !process.isRunning || process.lines(with: "rank 2 (n3, pid").count > 0
            }
            #expect(named && process.error.contains("silent for"), "\(process.error)")
        }
    }

    /// `geeps run`.
    @Suite(.serialized) struct RunTests {
        private func run(_ ranks: Int, _ script: String) async throws -> GeepsResult {
            try await GeepsProcess.run(
                ["run", "--nproc", "\(ranks)", "--", "sh", "-c", script], timeout: .seconds(40))
        }

        @Test func everyRankHasItsPlaceAndItsPrefix() async throws {
            let result = try await run(
                3,
                "echo rank $GEEPS_RANK of $GEEPS_WORLD_SIZE, $GEEPS_LOCAL_RANK here; "
                    + "echo ${#GEEPS_SECRET} $OMP_NUM_THREADS >&2")
            #expect(result.isSuccess, "\(result)")
            #expect(
                result.output.split(separator: "\n").sorted()
                    == (0..<3).map { "[rank \($0)] rank \($0) of 3, \($0) here" })
            #expect(
                result.error.split(separator: "\n").sorted() == (0..<3).map { "[rank \($0)] 64 1" })
        }

        @Test func theFirstFailureEndsTheRest() async throws {
            let start = ContinuousClock.now
            let result = try await run(
                3, "[ $GEEPS_RANK = 1 ] && { sleep 0.3; exit 17; }; exec sleep 30")
            #expect(result.end == .exited(17), "\(result)")
            #expect(seconds(since: start) < 15)
        }

        /// The codes that schedulers act on.
        @Test(arguments: [
            ("exit 75", Int32(75)), ("kill -KILL $$", 128 + SIGKILL), ("exit 0", 0),
        ])
        func theCodeIsTheRanks(script: String, code: Int32) async throws {
            #expect(try await run(2, script).end == .exited(code))
        }

        @Test func aSignalReachesEveryRank() async throws {
            let script = "trap 'exit 3' TERM; echo ready; while :; do sleep 0.05; done"
            let process = try GeepsProcess(
                ["run", "--nproc", "2", "--", "sh", "-c", script], timeout: .seconds(40))
            try #require(
                try await process.wait { process.output.split(separator: "\n").count == 2 })
            process.send(SIGTERM)
            #expect(try await process.wait().end == .exited(3))
        }

        /// Who stops early in good order is about to be followed by the others, and a signal would cut them short.
        @Test func whenOneStopsEarlyTheOthersAreLeftToIt() async throws {
            let result = try await run(
                2,
                "[ $GEEPS_RANK = 0 ] && exit 75; trap 'exit 9' TERM; sleep 0.5; echo saved; exit 75"
            )
            #expect(result.end == .exited(75), "\(result)")
            #expect(result.output == "[rank 1] saved\n")
        }

        @Test func aProgramThatIsNotThereIsNamed() async throws {
            let result = try await GeepsProcess.run(["run", "--nproc", "2", "--", "no-such-thing"])
            #expect(result.end == .exited(64))
            #expect(result.error.contains("found no program 'no-such-thing' in PATH"))
        }

        @Test func itStartsTrainingToo() async throws {
            let job = try SmallJob(workers: 2, steps: 60)
            let supervised = try await job.start("supervised").wait()
            try #require(supervised.isSuccess, "\(supervised)")
            let result = try await GeepsProcess.run(
                ["run", "--nproc", "2", "--", GeepsProcess.program.path()] + job.arguments("run"),
                environment: oneThread)
            #expect(result.isSuccess, "\(result)")
            #expect(try job.model("run") == job.model("supervised"))
        }
    }
}
