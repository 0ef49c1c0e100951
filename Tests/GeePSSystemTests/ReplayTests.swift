import Foundation
import Testing

extension SystemTests {
    /// Workloads on the real parameter server.
    @Suite struct ReplayTests {
        private static let adamLike =
            GeepsProcess.root.appending(path: "Workloads/adamlike.json").path()

        /// The machine is shared with other tests: its cores are no concern here.
        private func replay(_ arguments: String...) async throws -> GeepsResult {
            try await GeepsProcess.run(
                [
                    "replay", Self.adamLike, "--bytes-scale", "512", "--dilation", "0.1",
                    "--clocks",
                    "2", "--warm-up", "1", "--cpu-limit", "100000%",
                ] + arguments)
        }

        @Test(arguments: ["1", "all"])
        func whatLeavesAWorkerIsItsShareOfTheModel(group: String) async throws {
            let result = try await replay("--workers", "2", "--layers-per-table", group)
            let ratio = try #require(result.json["wire_over_ideal"] as? Double)
            #expect((1..<1.01).contains(ratio), "\(ratio)")
            let stall = try #require(result.json["stall"] as? Double)
            #expect((-0.01..<1).contains(stall))
        }

        @Test(arguments: ["0", "1", "async"])
        func everySlackRunsToTheEnd(staleness: String) async throws {
            for mode in [[], ["--cpu-side"]] {
                let result = try await GeepsProcess.run(
                    [
                        "replay", Self.adamLike, "--bytes-scale", "512", "--dilation", "0.1",
                        "--clocks", "2", "--warm-up", "1", "--cpu-limit", "100000%", "--workers",
                        "2", "--staleness", staleness,
                    ] + mode)
                #expect(result.json["samples_per_second"] as? Double ?? 0 > 0)
            }
        }

        @Test func foregroundCopiesStallAsLongAsTheyTake() async throws {
            // Two reads and an update of 420 MB a clock at 100 MB/s; in the background they would overlap.
            let result = try await replay("--cpu-side", "--link", "100MB/s")
            let clock = try #require(result.json["clock_seconds"] as? Double)
            #expect(clock > 2.15 + 3 * 4.2)
        }

        @Test func aShareOfTheMemoryIsEnough() async throws {
            let result = try await replay("--budget", "50%")
            #expect(result.json["samples_per_second"] as? Double ?? 0 > 0)
        }

        @Test func aRunThatTakesTheCoresIsRefused() async throws {
            let result = try await GeepsProcess.run([
                "replay", Self.adamLike, "--bytes-scale", "64", "--dilation", "0.01", "--clocks",
                "2", "--warm-up", "1", "--cpu-limit", "1%",
            ])
            #expect(result.end == .exited(75))
            #expect(result.error.contains("of the cores, more than 1%"))
        }

        @Test func aRecordedJobIsReplayedAndForecast() async throws {
            let folder = try TemporaryFolder()
            let job = try folder.write("job.yaml", TestJob().yaml(output: folder.path("run")))
            _ = try await GeepsProcess.run(["bench", "layers", job])
            let workload = folder.path("job.workload.json")
            _ = try await GeepsProcess.run(["plan", job, "--record", workload])
            let replayed = try await GeepsProcess.run([
                "replay", workload, "--bytes-scale", "1", "--dilation", "20", "--clocks", "3",
                "--cpu-limit", "100000%",
            ])
            #expect(replayed.json["samples_per_second"] as? Double ?? 0 > 0)
            let plan = try await GeepsProcess.run([
                "plan", job, "--workers", "64", "--network", "25Gb/s", "--json",
            ])
            #expect(plan.json["schema"] as? String == "geeps.forecast/1")
            #expect((plan.json["choices"] as? [Any])?.isEmpty == false)
        }
    }
}
