import Foundation
import Testing

extension SystemTests {
    /// Times are measured once, and the plans of the same network find them.
    @Suite struct LayerTimesTests {
        private static func forecast(of result: GeepsResult) -> [String: Any]? {
            result.json["forecast"] as? [String: Any]
        }

        @Test func measuredLayersGiveAForecast() async throws {
            let folder = try TemporaryFolder()
            var job = TestJob(model: TestJob.mlp)
            job.memory = "{budget: 100%, policy: paper, link: 50MB/s}"
            let file = try folder.write("job.yaml", job.yaml(output: folder.path("run")))
            let before = try await GeepsProcess.run(["plan", file, "--json"])
            #expect(before.isSuccess && before.error.isEmpty, "\(before)")
            #expect(Self.forecast(of: before) == nil)
            #expect(before.json["policy"] as? String == "paper")

            let measured = try await GeepsProcess.run([
                "bench", "layers", file, "--runs", "3", "--json",
            ])
            #expect(measured.isSuccess, "\(measured)")
            #expect(measured.json["schema"] as? String == "geeps.layers/1")
            #expect(FileManager.default.fileExists(atPath: folder.path("job.layers.json")))

            let plan = try await GeepsProcess.run(["plan", file, "--json"])
            #expect(plan.isSuccess && plan.error.isEmpty, "\(plan)")
            let forecast = try #require(Self.forecast(of: plan))
            #expect(try #require(forecast["samples_per_second"] as? Double) > 0)
            #expect(plan.json["link_bytes_per_second"] as? Double == 5e7)
            let faster = try await GeepsProcess.run([
                "plan", file, "--json", "--link", "100GB/s", "--policy", "benefit",
            ])
            #expect(faster.json["policy"] as? String == "benefit")
            #expect(
                try #require(Self.forecast(of: faster)?["samples_per_second"] as? Double)
                    >= #require(forecast["samples_per_second"] as? Double))
            let drawing = folder.path("sweep.svg")
            let sweep = try await GeepsProcess.run(["plan", file, "--sweep", "--svg", drawing])
            #expect(sweep.isSuccess, "\(sweep)")
            #expect(sweep.output.contains("samples/s"))
            #expect(try String(contentsOfFile: drawing, encoding: .utf8).contains("samples/s"))
        }

        @Test func timesOfAnotherNetworkAreIgnoredInOneLineOrRefused() async throws {
            let folder = try TemporaryFolder()
            let job = TestJob(model: TestJob.mlp)
            let file = try folder.write("job.yaml", job.yaml(output: folder.path("run")))
            let times = folder.path("job.layers.json")
            let measured = try await GeepsProcess.run(["bench", "layers", file, "--runs", "1"])
            #expect(measured.isSuccess, "\(measured)")
            #expect(measured.output.contains("fc1"))
            let larger = [
                "plan", file, "--json", "--link", "1GB/s", "--set", "data.batch_size=8",
            ]
            let ignored = try await GeepsProcess.run(larger)
            #expect(ignored.isSuccess, "\(ignored)")
            #expect(ignored.error.split(separator: "\n").count == 1, "\(ignored)")
            #expect(ignored.error.contains("for batches of 16"), "\(ignored)")
            #expect(Self.forecast(of: ignored) == nil)
            let refused = try await GeepsProcess.run(larger + ["--times", times])
            #expect(refused.end == .exited(65), "\(refused)")
            _ = try folder.write("job.layers.json", "no times")
            let foreign = try await GeepsProcess.run(["plan", file, "--json"])
            #expect(foreign.isSuccess, "\(foreign)")
            #expect(foreign.error.contains("job.layers.json is ignored"), "\(foreign)")
        }
    }
}
