import Foundation
import Glibc
import Testing

extension SystemTests {
    /// A running job says who waits for whom; a finished one, whom it has waited for.
    @Suite struct WhyTests {
        /// A job of three, running, with its workers in rank order.
        private func withJob(
            _ body: (SmallJob, GeepsProcess, [OtherProcess]) async throws -> Void
        ) async throws {
            let job = try SmallJob(workers: 3, steps: 400_000)
            let process = try job.start("out")
            let workers = try await process.workers(3)
            try #require(try await job.hasTrained("out", process), "\(process.error)")
            try await body(job, process, workers)
            process.kill()
        }

        @Test(arguments: [0, 2]) func aStoppedWorkerIsNamedByThoseWhoWait(rank: Int) async throws {
            try await withJob { job, _, workers in
                workers[rank].send(SIGSTOP)
                // Less than the silence that ends the job.
                try await Task.sleep(for: .seconds(1))
                let json = try await GeepsProcess.run(["why", job.folder.path("out"), "--json"])
                let text = try await GeepsProcess.run(["why", job.folder.path("out")])
                workers[rank].send(SIGCONT)
                #expect(json.isSuccess && text.isSuccess, "\(json)\n\(text)")
                #expect(json.json["schema"] as? String == "geeps.why/1")
                let roots = try #require(json.json["waits_for"] as? [[String: Any]])
                #expect(roots.first?["rank"] as? Int == rank, "\(json)")
                let others = [0, 1, 2].filter { $0 != rank }
                #expect(roots.first?["waiting"] as? [Int] == others, "\(json)")
                let processes = try #require(json.json["processes"] as? [[String: Any]])
                for other in others {
                    let worker = try #require(processes[other]["worker"] as? [String: Any])
                    #expect(worker["activity"] as? String == "read", "\(json)")
                    #expect(worker["seconds"] as? Double ?? 0 > 0.5)
                }
                #expect(
                    processes[rank]["silence"] as? String
                        == "it is stopped (SIGSTOP or a debugger)")
                for line in [
                    "workers \(others[0]), \(others[1]) wait for worker \(rank)",
                    "does not answer (", "s for table fc1",
                ] { #expect(text.output.contains(line), "\(text)") }
            }
        }

        @Test func theRunIsFoundFromAboveIt() async throws {
            try await withJob { job, _, _ in
                let found = try await GeepsProcess(
                    ["why"], launcher: ["/usr/bin/env", "-C", job.folder.path("")]
                ).wait()
                #expect(found.output.hasPrefix("out: 3 workers, 3 keepers, clock"), "\(found)")
            }
        }

        @Test func aRunThatIsOverIsNotAlive() async throws {
            let job = try SmallJob(workers: 2, steps: 5)
            let result = try await job.start("out").wait()
            #expect(result.isSuccess, "\(result)")
            let why = try await GeepsProcess.run(["why", job.folder.path("out")])
            #expect(why.end == .exited(69), "\(why)")
            #expect(why.error.contains("found no running job in \(job.folder.path("out"))"))
            let none = try await GeepsProcess.run(["why", job.folder.path("none")])
            #expect(none.end == .exited(73), "\(none)")
            // No socket is left.
            #expect(access(job.folder.path("out/.status"), F_OK) != 0)
        }

        @Test func aReportSaysWhereTheTimeOfEveryWorkerWent() async throws {
            let job = try SmallJob(workers: 2, steps: 300)
            let result = try await job.start("out", ["--json", "--quiet"]).wait()
            let steps = try #require(result.json["step_time"] as? [String: Any], "\(result)")
            let workers = try #require(steps["workers"] as? [[String: Double]])
            #expect(workers.count == 2)
            for worker in workers {
                let total = try #require(worker["seconds"])
                let parts = worker.filter { $0.key != "seconds" }.values.reduce(0, +)
                #expect(total > 0 && abs(parts / total - 1) < 0.02, "\(worker)")
            }
        }
    }
}
