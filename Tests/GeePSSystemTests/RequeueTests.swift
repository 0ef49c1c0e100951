import Foundation
import Glibc
import Testing

extension SystemTests {
    /// Batch jobs that a real Slurm puts back into its queue, and that go on from their checkpoint.
    @Suite(
        .serialized,
        .enabled(
            if: LauncherTools.obstacleToSlurm == nil,
            "\(LauncherTools.obstacleToSlurm ?? ""): make setup-cluster"))
    struct RequeueTests {
        /// A batch job of four hosts.
        private final class BatchJob {
            let cluster: SlurmCluster
            let job: SmallJob
            let number: String

            /// - Parameter end: the last lines of its script, which have `$code`.
            init(_ job: SmallJob, end: String) async throws {
                self.job = job
                cluster = try SlurmCluster()
                let secret = try job.folder.write("secret", "a secret for four hosts\n")
                chmod(secret, 0o600)
                let script = try job.folder.write(
                    "job.sh", "#!/bin/bash\nsrun --kill-on-bad-exit=0 \"$@\"\ncode=$?\n\(end)\n")
                let command = [
                    "sbatch", "--parsable", "-N4", "--ntasks-per-node=1", "--requeue",
                    "--open-mode=append", "-o", job.folder.path("log"), script,
                ]
                // Slurm gives the environment on to the job.
                let submission = try GeepsProcess(
                    job.arguments(
                        "slurm",
                        // Long enough to be disturbed, on any machine.
                        ["--set", "checkpoint.every=200", "--set", "emulate={clock: 2ms}"]),
                    launcher: cluster.launcher + command,
                    environment: oneThread.merging([
                        "HOME": job.folder.path(""), "GEEPS_SECRET_FILE": secret,
                    ]) { $1 }, timeout: .seconds(40))
                let result = try await submission.wait()
                try #require(result.isSuccess, "\(result)")
                number = result.output.trimmingCharacters(in: .whitespacesAndNewlines)
            }

            deinit { _ = try? cluster.output(of: ["scancel", "--signal=KILL", "--full", number]) }

            var log: String { job.folder.text("log") }

            /// What Slurm says of the job: its state, how often it was put back, and its code.
            func state() throws -> (name: String, restarts: String, code: String) {
                let text = try cluster.output(of: ["scontrol", "-o", "show", "job", number])
                let words = text.split(whereSeparator: \.isWhitespace)
                let values = ["JobState=", "Restarts=", "ExitCode="].map { key in
                    words.first { $0.hasPrefix(key) }.map { String($0.dropFirst(key.count)) } ?? ""
                }
                return (values[0], values[1], values[2])
            }

            /// Waits until `condition` holds, at most four minutes, which other tests at work may make it take.
            func wait(_ condition: () throws -> Bool) async throws -> Bool {
                let deadline = ContinuousClock.now + .seconds(240)
                while try !condition() {
                    guard ContinuousClock.now < deadline else { return false }
                    try await Task.sleep(for: .milliseconds(100))
                }
                return true
            }

            /// Waits until the first epochs are trained and a checkpoint is there.
            func hasTrained() async throws -> Bool {
                let folder = job.folder.path("slurm/checkpoints")
                return try await wait {
                    let names = (try? FileManager.default.contentsOfDirectory(atPath: folder)) ?? []
                    return names.contains { $0.hasPrefix("step-") && !$0.contains(".") }
                }
            }

            /// Waits for the end, which must be a good one after a restart, with the weights `expected`.
            ///
            /// On a machine that starves a rank for five seconds the job may be put back more than once.
            func endsWell(_ expected: Data) async throws {
                let isPutBack = try await wait { (Int(try state().restarts) ?? 0) > 0 }
                try #require(isPutBack, "\(log)")
                var end = try state()
                let deadline = ContinuousClock.now + .seconds(240)
                while !["COMPLETED", "FAILED", "CANCELLED"].contains(end.name) {
                    try #require(ContinuousClock.now < deadline, "\(end)\n\(log)")
                    if end.name == "PENDING" { try await startAgain() }
                    try await Task.sleep(for: .milliseconds(100))
                    end = try state()
                }
                try #require(end.name == "COMPLETED" && end.code == "0:0", "\(end)\n\(log)")
                #expect(log.contains("resuming from"), "\(log)")
                #expect(try job.model("slurm") == expected)
            }

            /// Ends the two minutes that Slurm lets a job wait before it starts again.
            ///
            /// Not within the second in which its hosts have ended the first try: they would refuse the second ("Job
            /// credential revoked").
            private func startAgain() async throws {
                try await Task.sleep(for: .seconds(2))
                // Refused where the job has started meanwhile.
                _ = try cluster.output(of: [
                    "scontrol", "update", "JobId=\(number)", "StartTime=now",
                ])
            }
        }

        /// Code 75 alone, where the cluster has RequeueExit=75; and a script that asks for it.
        static let ends = [
            "exit $code", "[ $code = 75 ] && scontrol requeue $SLURM_JOB_ID; exit $code",
        ]

        @Test(arguments: ends) func aJobThatIsStoppedGoesOn(end: String) async throws {
            let job = try SmallJob(workers: 4, steps: 2500)
            let undisturbed = try await job.start("undisturbed", timeout: .seconds(240)).wait()
            try #require(undisturbed.isSuccess, "\(undisturbed)")
            let batch = try await BatchJob(job, end: end)
            try #require(try await batch.hasTrained(), "\(batch.log)")
            // The steps of the job get it, as at the end of its time; not the script.
            _ = try batch.cluster.output(of: ["scancel", "--signal=TERM", batch.number])
            try await batch.endsWell(job.model("undisturbed"))
            #expect(batch.log.contains("stopped by SIGTERM"), "\(batch.log)")
        }

        /// For longer than Slurm's daemon on that host tries to tell how its task has ended, and than Slurm's controller
        /// tries to reach it; shorter than Slurm waits before it gives the host up.
        @Test func aJobWhoseHostWasCutOffGoesOn() async throws {
            let job = try SmallJob(workers: 4, steps: 2500)
            let undisturbed = try await job.start("undisturbed", timeout: .seconds(240)).wait()
            try #require(undisturbed.isSuccess, "\(undisturbed)")
            let batch = try await BatchJob(job, end: "exit $code")
            try #require(try await batch.hasTrained(), "\(batch.log)")
            try batch.cluster.cutOff(3)
            try await Task.sleep(for: .seconds(30))
            #expect(try batch.state().name == "RUNNING", "\(batch.log)")
            try batch.cluster.cutOff(3, false)
            try await batch.endsWell(job.model("undisturbed"))
            #expect(batch.log.contains("rank 2 (n3, pid"), "\(batch.log)")
        }
    }
}
