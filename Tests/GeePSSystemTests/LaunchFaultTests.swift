import Foundation
import Glibc
import Testing

extension SystemTests {
    /// Jobs that cannot start, or whose processes do not fit together.
    @Suite(.serialized) struct LaunchFaultTests {
        private func has(_ result: GeepsResult, _ texts: String...) -> Bool {
            texts.allSatisfy { result.error.contains($0) }
        }

        private func runAll(_ processes: [GeepsProcess]) async throws -> [GeepsResult] {
            var results: [GeepsResult] = []
            for process in processes { results.append(try await process.wait()) }
            return results
        }

        @Test(arguments: [[0, 1, 2], [2, 1, 0], [1, 2, 0]])
        func ranksStartedByHandTrainToTheSameBits(order: [Int]) async throws {
            let job = try SmallJob(workers: 3, steps: 120)
            let supervised = try await job.start("supervised").wait()
            try #require(supervised.isSuccess, "\(supervised)")
            let port = try freePort()
            var processes: [GeepsProcess] = []
            for rank in order {
                processes.append(try job.start(rank: rank, of: 3, port: port, "by-hand"))
                try await Task.sleep(for: .milliseconds(150))
            }
            for result in try await runAll(processes) { #expect(result.isSuccess, "\(result)") }
            #expect(try job.model("by-hand") == job.model("supervised"))
        }

        @Test func aLonelyRankNamesWhoIsMissing() async throws {
            let job = try SmallJob(workers: 3, steps: 10)
            let port = try freePort()
            let patience = ["--set", "cluster.join_timeout=2s"]
            let results = try await runAll([
                job.start(rank: 0, of: 3, port: port, "zero", patience),
                job.start(rank: 1, of: 3, port: try freePort(), "one", patience),
            ])
            #expect(results.map(\.end) == [.exited(69), .exited(69)], "\(results)")
            #expect(
                has(results[0], "ranks 1 and 2 of 3 did not join within 2.0 s"), "\(results[0])")
            #expect(has(results[1], "rank 0 at 127.0.0.1:", "did not answer"), "\(results[1])")
        }

        @Test func anUnknownVariableIsNamed() async throws {
            let job = try SmallJob(workers: 2, steps: 10)
            let result = try await GeepsProcess.run(
                job.arguments("out"), environment: ["GEEPS_FOO": "1"])
            #expect(result.end == .exited(64))
            #expect(has(result, "unknown environment variable GEEPS_FOO"), "\(result)")
        }

        @Test func jobsThatDifferArePrintedFromBothSides() async throws {
            let job = try SmallJob(workers: 2, steps: 10)
            let port = try freePort()
            let results = try await runAll([
                job.start(rank: 0, of: 2, port: port, "zero"),
                job.start(rank: 1, of: 2, port: port, "one", ["--set", "optimizer.lr=0.5"]),
            ])
            for result in results {
                #expect(result.end == .exited(65))
                #expect(
                    has(result, "learning rate: rank 0 has 0.02, rank 1 has 0.5"), "\(result)")
            }
        }

        @Test func anOutputThatCannotBeMadeEndsAllRanks() async throws {
            let job = try SmallJob(workers: 3, steps: 10)
            let port = try freePort()
            let output = ["--set", "output.directory=/proc/nowhere/run"]
            let results = try await runAll(
                (0..<3).map { try job.start(rank: $0, of: 3, port: port, "out", output) })
            #expect(results[0].end == .exited(73), "\(results[0])")
            #expect(has(results[0], "geeps: cannot create directory /proc/nowhere"))
            for result in results.dropFirst() {
                #expect(result.end == .exited(69), "\(result)")
                #expect(has(result, "rank 0 (", "could not take part"), "\(result)")
            }
        }

        @Test func anOutputThatCannotBeMadeIsFoundBeforeAnythingStarts() async throws {
            let job = try SmallJob(workers: 3, steps: 10)
            let result = try await GeepsProcess.run([
                "train", job.file, "--set", "output.directory=/proc/nowhere/run",
            ])
            #expect(result.end == .exited(73), "\(result)")
            #expect(has(result, "geeps: cannot create directory /proc/nowhere"), "\(result)")
            #expect(!has(result, "rank"), "\(result)")
        }

        @Test(arguments: [0, 1, 2])
        func oneRankWithoutItsDataEndsAll(rank: Int) async throws {
            let job = try SmallJob(workers: 3, steps: 10)
            let port = try freePort()
            let missing = ["--set", "data={format: mnist, path: /nowhere/digits}"]
            let start = ContinuousClock.now
            let results = try await runAll(
                (0..<3).map {
                    try job.start(
                        rank: $0, of: 3, port: port, "out\($0)", $0 == rank ? missing : [])
                })
            for (index, result) in results.enumerated() {
                #expect(result.end == .exited(index == rank ? 65 : 69), "\(result)")
                #expect(has(result, "/nowhere/digits"), "\(result)")
                if index != rank {
                    #expect(has(result, "rank \(rank) (", "could not take part"), "\(result)")
                }
            }
            // Far below the minute that a rank waits for one that does not come.
            #expect(seconds(since: start) < FaultTests.promised)
            report("rank \(rank) without data: all ended", seconds(since: start))
        }

        @Test func missingDataIsFoundBeforeAnythingStarts() async throws {
            let job = try SmallJob(workers: 3, steps: 10)
            let result = try await GeepsProcess.run(
                job.arguments("out", ["--set", "data={format: mnist, path: /nowhere/digits}"]))
            #expect(result.end == .exited(65))
            #expect(has(result, "/nowhere/digits"), "\(result)")
            #expect(!has(result, "rank 0"), "\(result)")
        }

        @Test func damagedDataIsNamedByItsFile() async throws {
            let job = try SmallJob(workers: 2, steps: 10)
            let folder = try TemporaryFolder()
            let digits = GeepsProcess.root.appending(path: "data/digits")
            for name in try FileManager.default.contentsOfDirectory(atPath: digits.path()) {
                let bytes = try Data(contentsOf: digits.appending(path: name))
                let isHalf = name.hasPrefix("train-images")
                try bytes.prefix(isHalf ? bytes.count / 2 : bytes.count)
                    .write(to: folder.url.appending(path: name))
            }
            let path = folder.url.path()
            let result = try await GeepsProcess.run(
                job.arguments("out", ["--set", "data={format: mnist, path: \(path)}"]))
            #expect(result.end == .exited(65), "\(result)")
            #expect(has(result, "train-images"), "\(result)")
        }

        @Test func tooFewSamplesForOneStepAreRefusedBeforeAnythingStarts() async throws {
            let job = try SmallJob(workers: 3, steps: 10)
            let result = try await GeepsProcess.run(
                job.arguments("few", ["--set", "data.samples=23"]))
            #expect(result.end == .exited(65), "\(result)")
            #expect(
                has(result, "one step takes 3 workers x 8 samples, but the data set has 23"),
                "\(result)")
            #expect(!has(result, "rank"), "\(result)")
            let exact = try await GeepsProcess.run(
                job.arguments("exact", ["--set", "data.samples=24"]))
            #expect(exact.isSuccess, "\(exact)")
        }

        @Test func aPortInUseIsNamed() async throws {
            let job = try SmallJob(workers: 2, steps: 10)
            let taken = try TakenPort()
            let setting = ["--set", "cluster.port=\(taken.port)"]
            let start = ContinuousClock.now
            let result = try await job.start("out", setting).wait()
            #expect(result.end == .exited(69), "\(result)")
            #expect(has(result, "port \(taken.port)", "Address already in use"), "\(result)")
            #expect(seconds(since: start) < FaultTests.promised)
            withExtendedLifetime(taken) {}
        }
    }
}
