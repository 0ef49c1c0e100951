import Foundation
import Glibc
import Testing

extension SystemTests {
    /// Jobs that are stopped, killed and gone on with: the weights at the end are those of a run that was left alone.
    @Suite(.serialized) struct CheckpointRunTests {
        private static let workers = 2

        /// Checkpoints every `every` clocks in `name`/checkpoints.
        private func arguments(every: Int, keep: Int = 3, _ more: [String] = []) -> [String] {
            ["--set", "checkpoint.every=\(every)", "--set", "checkpoint.keep=\(keep)"] + more
        }

        /// Tick of the newest complete checkpoint in the output directory `name`.
        private func newest(_ job: SmallJob, _ name: String) -> Int? {
            ticks(job, name).last
        }

        private func ticks(_ job: SmallJob, _ name: String) -> [Int] {
            let path = job.folder.path(name + "/checkpoints")
            let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
            return names.compactMap { $0.hasPrefix("step-") ? Int($0.dropFirst(5)) : nil }.sorted()
        }

        private func undisturbed(_ job: SmallJob, _ name: String = "whole") async throws -> Data {
            let result = try await job.start(name).wait()
            try #require(result.isSuccess, "\(result)")
            return try job.model(name)
        }

        @Test(arguments: [(1, 0), (2, 0), (2, 2)]) func aRunGoesOnFromItsCheckpoint(
            workers: Int, staleness: Int
        ) async throws {
            let job = try SmallJob(workers: workers, steps: 120, staleness: staleness)
            let whole = try await job.start("whole").wait()
            try #require(whole.isSuccess, "\(whole)")
            let first = try await job.start(
                "run", arguments(every: 25) + ["--set", "train.steps=80"]
            ).wait()
            try #require(first.isSuccess, "\(first)")
            let ticks = ticks(job, "run")
            // The first is always taken; a later one may be passed over while the disk is busy.
            let last = try #require(ticks.last)
            #expect(ticks.allSatisfy { $0 % 25 == 0 && $0 < 80 }, "\(ticks)")
            let second = try await job.start("run", arguments(every: 25, ["--json"])).wait()
            try #require(second.isSuccess, "\(second)")
            #expect(second.error.contains("resuming from"), "\(second)")
            #expect(second.error.contains(", step \(last)"), "\(second)")
            #expect(second.json["steps"] as? Int == 120)
            if staleness == 0 { #expect(try job.model("run") == job.model("whole")) }
        }

        /// Rows are cut anew, and training goes on with as many workers as there are.
        @Test(arguments: [1, 3]) func anotherNumberOfWorkersGoesOn(workers: Int) async throws {
            let job = try SmallJob(workers: 2, steps: 60)
            let first = try await job.start("run", arguments(every: 40)).wait()
            try #require(first.isSuccess, "\(first)")
            let second = try await job.start(
                "run",
                arguments(
                    every: 40,
                    [
                        "--set", "cluster.workers=\(workers)", "--set",
                        "cluster.keepers=\(workers + 1)", "--set", "train.steps=90",
                    ])
            ).wait()
            #expect(second.isSuccess && second.error.contains("step 40"), "\(second)")
        }

        /// A signal at any moment, and again while it is followed: a checkpoint at the next clock, code 75, and the
        /// same command finishes the job.
        @Test(arguments: [SIGTERM, SIGUSR1]) func aSignalStopsAtAClock(signal: Int32) async throws {
            let job = try SmallJob(workers: Self.workers, steps: 1500)
            let whole = try await undisturbed(job)
            let process = try job.start("run", arguments(every: 100_000))
            try #require(try await job.hasTrained("run", process), "\(process.error)")
            let ranks = process.children.map(OtherProcess.init)
            // As srun does it, which is to every rank and not to the launcher alone.
            for _ in 0..<20 {
                for rank in ranks { rank.send(signal) }
                try await Task.sleep(for: .milliseconds(2))
            }
            let stopped = try await process.wait()
            #expect(stopped.end == .exited(75), "\(stopped)")
            #expect(stopped.error.contains("stopped by"), "\(stopped)")
            let tick = try #require(newest(job, "run"))
            #expect(tick < 1500)
            let result = try await job.start("run", arguments(every: 100_000)).wait()
            #expect(result.isSuccess && result.error.contains("step \(tick)"), "\(result)")
            #expect(try job.model("run") == whole)
        }

        /// The first is for the next clock, which a rank that waits for the others does not reach.
        @Test(arguments: [(SIGTERM, 143), (SIGUSR1, 138)] as [(Int32, Int32)])
        func aSecondSignalEndsARankThatWaits(signal: Int32, code: Int32) async throws {
            let job = try SmallJob(workers: 2, steps: 10)
            let rank = try job.start(
                rank: 0, of: 2, port: try freePort(), "run", arguments(every: 5))
            let process = OtherProcess(identifier: rank.identifier)
            try #require(
                try await rank.wait { !rank.isRunning || process.listeningPorts.count > 1 })
            rank.send(signal)
            try await Task.sleep(for: .milliseconds(100))
            #expect(rank.isRunning)
            rank.send(signal)
            let result = try await rank.wait()
            #expect(result.end == .exited(code), "\(result)")
        }

        /// Killed at random, again and again: at last it ends, with the bits of a run that was left alone.
        @Test(arguments: [11, 12, 13] as [UInt64]) func aKilledProcessChangesNothing(seed: UInt64)
            async throws
        {
            var random = SeededGenerator(seed: seed)
            let job = try SmallJob(workers: Self.workers, steps: 1500)
            let whole = try await undisturbed(job)
            // Many checkpoints, so that some kills come while one is being written.
            let process = try job.start(
                "run", arguments(every: 7, ["--restarts", "2"]), timeout: .seconds(120))
            for _ in 0..<2 {
                try #require(
                    try await process.wait {
                        !process.isRunning || (newest(job, "run") ?? 0) > 0
                    } && process.isRunning, "\(process.error)")
                try await Task.sleep(for: .milliseconds(Int.random(in: 0..<300, using: &random)))
                guard let victim = process.children.randomElement(using: &random) else { break }
                OtherProcess(identifier: victim).send(SIGKILL)
                let starts = process.lines(with: "starting again").count
                _ = try await process.wait {
                    !process.isRunning || process.lines(with: "starting again").count > starts
                        || OtherProcess(identifier: victim).rank == nil
                }
            }
            let result = try await process.wait()
            #expect(result.isSuccess, "\(result)")
            #expect(result.error.contains("starting again"), "\(result)")
            #expect(try job.model("run") == whole)
        }

        @Test func aRunThatMayNotStartAgainEnds() async throws {
            let job = try SmallJob(workers: Self.workers, steps: 100_000)
            let process = try job.start("run", arguments(every: 20, ["--restarts", "0"]))
            let workers = try await process.workers(Self.workers)
            try #require(
                try await process.wait { !process.isRunning || newest(job, "run") != nil })
            workers[1].send(SIGKILL)
            let result = try await process.wait()
            #expect(result.end == .exited(137), "\(result)")
        }

        /// What a scheduler is told when a rank is lost: run me again.
        @Test func aLostRankUnderALauncherAsksToBeRunAgain() async throws {
            let job = try SmallJob(workers: Self.workers, steps: 100_000)
            let port = try freePort()
            let ranks = try (0..<Self.workers).map {
                try job.start(
                    rank: $0, of: Self.workers, port: port, "run", arguments(every: 20))
            }
            try #require(
                try await ranks[0].wait { !ranks[0].isRunning || newest(job, "run") != nil })
            ranks[1].send(SIGKILL)
            let result = try await ranks[0].wait()
            #expect(result.end == .exited(75), "\(result)")
            #expect(result.error.contains("run again to go on"), "\(result)")
        }

        /// Each damage is named, and the checkpoint before is taken; one that was asked for by its path is not.
        @Test(arguments: ["manifest.json", "keeper-00001.safetensors", "worker-00000.safetensors"])
        func aDamagedCheckpointIsPassedOver(file: String) async throws {
            let job = try SmallJob(workers: Self.workers, steps: 600)
            let whole = try await undisturbed(job)
            let first = try await job.start("run", arguments(every: 20)).wait()
            try #require(first.isSuccess, "\(first)")
            let ticks = ticks(job, "run")
            try #require(ticks.count > 1, "\(first)")
            let name = String("\(10_000_000_000 + ticks[ticks.count - 1])".dropFirst())
            let newest = job.folder.path("run/checkpoints/step-" + name)
            let path = newest + "/" + file
            var bytes = try Data(contentsOf: URL(filePath: path))
            bytes[bytes.count / 2] ^= 4
            try bytes.write(to: URL(filePath: path))
            let asked = try await job.start(
                "run", arguments(every: 20, ["--resume", newest])
            ).wait()
            #expect(asked.end == .exited(65) && asked.error.contains(file), "\(asked)")
            let result = try await job.start("run", arguments(every: 20)).wait()
            #expect(result.isSuccess && result.error.contains(file), "\(result)")
            #expect(result.error.contains(", step \(ticks[ticks.count - 2])"), "\(result)")
            #expect(try job.model("run") == whole)
        }

        @Test func aCheckpointBecomesAWeightsFile() async throws {
            let job = try SmallJob(workers: 2, steps: 30)
            let first = try await job.start("run", arguments(every: 29)).wait()
            try #require(first.isSuccess, "\(first)")
            let export = try await GeepsProcess.run([
                "checkpoint", "export", job.file, "--from",
                job.folder.path("run/checkpoints/step-0000000029"), "--to",
                job.folder.path("exported.safetensors"),
            ])
            #expect(export.isSuccess, "\(export)")
            // What a run of as many steps leaves.
            let short = try await job.start("short", ["--set", "train.steps=29"]).wait()
            try #require(short.isSuccess, "\(short)")
            let exported = URL(filePath: job.folder.path("exported.safetensors"))
            #expect(try Data(contentsOf: exported) == job.model("short"))
        }

        @Test func anotherModelIsRefused() async throws {
            let job = try SmallJob(workers: 1, steps: 30)
            _ = try await job.start("run", arguments(every: 20)).wait()
            let result = try await job.start(
                "run", arguments(every: 20, ["--set", "model.layers.0.out=64"])
            ).wait()
            #expect(result.end == .exited(65), "\(result)")
            #expect(result.error.contains("cannot resume"), "\(result)")
        }

        @Test func aNewRunDoesNotMixWithAnOldOne() async throws {
            let job = try SmallJob(workers: 1, steps: 30)
            _ = try await job.start("run", arguments(every: 20)).wait()
            let result = try await job.start("run", arguments(every: 20, ["--resume", "never"]))
                .wait()
            #expect(result.end == .exited(65), "\(result)")
            #expect(result.error.contains("earlier run"), "\(result)")
        }

        /// A directory that cannot be written is a warning; the run goes on to its end.
        @Test func aFailedCheckpointIsAWarning() async throws {
            let job = try SmallJob(workers: Self.workers, steps: 100)
            let whole = try await undisturbed(job)
            let file = try job.folder.write("file", "in the way")
            let result = try await job.start(
                "run", arguments(every: 20, ["--set", "checkpoint.directory=\(file)/x"])
            ).wait()
            #expect(result.isSuccess && result.error.contains("training goes on"), "\(result)")
            #expect(try job.model("run") == whole)
        }

        /// The system's answer to a write on a full disk, for the file of another rank than the first: all give that
        /// checkpoint up, and make the next.
        @Test func aFullDiskIsAWarning() async throws {
            let job = try SmallJob(workers: Self.workers, steps: 2100)
            let whole = try await undisturbed(job)
            let process = try job.start("run", arguments(every: 1000))
            try #require(try await job.hasTrained("run", process), "\(process.error)")
            let partial = job.folder.path("run/checkpoints/step-0000001000.partial")
            try FileManager.default.createDirectory(
                atPath: partial, withIntermediateDirectories: true)
            try FileManager.default.createSymbolicLink(
                atPath: partial + "/keeper-00001.safetensors", withDestinationPath: "/dev/full")
            let result = try await process.wait()
            #expect(result.isSuccess && result.error.contains("No space left"), "\(result)")
            #expect(result.error.contains("training goes on"), "\(result)")
            #expect(ticks(job, "run") == [2000])
            #expect(try job.model("run") == whole)
        }

        @Test func asynchronousRunsGoOnToo() async throws {
            let job = try SmallJob(workers: Self.workers, steps: 100)
            let options = ["--set", "consistency.staleness=async"]
            let first = try await job.start("run", arguments(every: 40, options)).wait()
            try #require(first.isSuccess, "\(first)")
            let last = try #require(newest(job, "run"))
            #expect(last % 40 == 0)
            let second = try await job.start("run", arguments(every: 40, options)).wait()
            #expect(second.isSuccess && second.error.contains(", step \(last)"), "\(second)")
        }
    }
}

/// Random numbers that a test can repeat.
struct SeededGenerator: RandomNumberGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }
}
