import Foundation
import Testing

extension SystemTests {
    /// Device memory decides how long training takes, never what comes out.
    @Suite struct ManagedTrainingTests {
        /// Deep for their width, so that a third of the memory is more than a layer needs.
        enum Net: String, CaseIterable {
            case mlp, cnn

            var model: String {
                switch self {
                case .mlp:
                    let hidden = (0..<10).map {
                        "{name: f\($0), type: linear, out: 48}, {type: \($0 % 3 == 1 ? "tanh" : "relu")}"
                    }
                    return "{layers: [\(hidden.joined(separator: ", ")), "
                        + "{name: last, type: linear, out: 10}]}"
                case .cnn:
                    // Running statistics are state that lives on from clock to clock.
                    let norms = [3: "{name: n3, type: batch_norm}, ", 5: "{type: lrn, size: 3}, "]
                    let hidden = (0..<11).map {
                        "{name: c\($0), type: conv, out: 8, kernel: 3, pad: 1}, "
                            + (norms[$0] ?? "")
                            + "{type: \($0 % 3 == 1 ? "tanh" : "relu")}"
                    }
                    return
                        "{layers: [\(hidden.joined(separator: ", ")), {type: maxpool, kernel: 2}, "
                        + "{type: dropout, p: 0.2}, {name: last, type: linear, out: 10}]}"
                }
            }
        }

        private static func job(_ net: Net, workers: Int, memory: String?) -> TestJob {
            var job = TestJob(
                model: net.model, data: TestJob.digits(batchSize: 16), train: "{steps: 30}",
                cluster: "{workers: \(workers)}")
            job.memory = memory
            return job
        }

        /// The runs that all others are compared with.
        private static let references = Dictionary(
            uniqueKeysWithValues: Net.allCases.flatMap { net in
                [1, 2].map { workers in
                    (
                        "\(net) \(workers)",
                        Task { try await job(net, workers: workers, memory: nil).run().model }
                    )
                }
            })

        /// The least budget, as `geeps plan` says it.
        private static func leastBytes(_ net: Net) async throws -> Int {
            let folder = try TemporaryFolder()
            let file = try folder.write(
                "job.yaml", job(net, workers: 1, memory: nil).yaml(output: folder.path("run")))
            let plan = try await GeepsProcess.run(["plan", file, "--json"])
            return try #require(plan.json["least_bytes"] as? Int)
        }

        @Test(arguments: Net.allCases, ["100%", "60%", "35%", "least"])
        func anyBudgetTrainsTheSameBits(net: Net, budget: String) async throws {
            var text = budget
            if budget == "least" { text = "\(try await Self.leastBytes(net))" }
            for workers in [1, 2] {
                let expected = try await Self.references["\(net) \(workers)"]?.value
                for policy in ["benefit", "paper"] {
                    for isPinned in [true, false] {
                        let run = try await Self.job(
                            net, workers: workers,
                            memory: "{budget: \(text), policy: \(policy), pinned_host: \(isPinned)}"
                        ).run()
                        #expect(run.model == expected, "\(workers) workers, \(policy), \(isPinned)")
                        let memory = try #require(run.result.json["memory"] as? [String: Any])
                        #expect(memory["deviations"] as? Int == 0)
                        #expect(memory["on_demand"] as? Int == 0)
                    }
                }
            }
        }

        /// A CPU-side parameter server is slower, and no other one.
        @Test(arguments: Net.allCases)
        func foregroundCopiesTrainTheSameBits(net: Net) async throws {
            for workers in [1, 2] {
                let expected = try await Self.references["\(net) \(workers)"]?.value
                let run = try await Self.job(
                    net, workers: workers, memory: "{parameter_cache: host, background: false}"
                ).run()
                #expect(run.model == expected, "\(workers) workers")
            }
        }

        /// A mini-batch cut in two or four sees the same samples; sums differ in their rounding alone.
        @Test(arguments: [2, 4], [nil, "{budget: 60%}"])
        func severalBatchesAClockTrainAsOneDoes(count: Int, memory: String?) async throws {
            let whole = try await TestJob(
                model: Net.mlp.model, data: TestJob.digits(batchSize: 32), train: "{steps: 40}"
            ).run()
            var cut = TestJob(
                model: Net.mlp.model, data: TestJob.digits(batchSize: 32 / count),
                train: "{steps: 40, batches_per_clock: \(count)}")
            cut.memory = memory
            let parts = try await cut.run()
            let distance = try Distance(parts.tensors(), from: whole.tensors())
            #expect(distance.norm <= 1e-5, "\(distance)")
            let losses = (try parts.number("train_loss"), try whole.number("train_loss"))
            #expect(abs(losses.0 / losses.1 - 1) <= 1e-5, "\(losses)")
            // What travels does not grow with the mini-batches; notices of waits are a few bytes, as many as there are.
            let bytes = (try parts.number("bytes_sent"), try whole.number("bytes_sent"))
            #expect(abs(bytes.0 / bytes.1 - 1) < 0.02, "\(bytes)")
        }

        /// Parameters eight times the device's memory.
        @Test func parametersFarBeyondTheBudgetTrain() async throws {
            let layers = (0..<40).map { "{name: f\($0), type: linear, out: 64}, {type: relu}" }
            let model =
                "{layers: [\(layers.joined(separator: ", ")), {name: last, type: linear, out: 10}]}"
            // 40 layers of 16.6 KB against the room of one backward step.
            var job = TestJob(model: model, train: "{steps: 10}", cluster: "{workers: 2}")
            let expected = try await job.run().model
            job.memory = "{budget: 76KiB}"
            let run = try await job.run()
            #expect(run.model == expected)
            let memory = try #require(run.result.json["memory"] as? [String: Any])
            #expect(try #require(memory["device_bytes"] as? Int) * 8 <= 40 * 64 * 64 * 4)
        }

        @Test func aBudgetThatIsTooSmallIsRefusedBeforeTheRunWithWhatWouldDo() async throws {
            let job = Self.job(.mlp, workers: 2, memory: "{budget: 8KiB}")
            let result = try await job.attempt()
            #expect(result.end == .exited(65))
            #expect(result.error.contains("the least that would do is"), "\(result)")
            #expect(result.error.contains("f0 backward") || result.error.contains("forward"))
            #expect(result.error.split(separator: "\n").count == 1, "once, not once a rank")
        }

        @Test func pinnedMemoryThatRunsOutIsSaidOnce() async throws {
            var job = Self.job(.mlp, workers: 2, memory: "{budget: 40%, pinned_limit: 64KiB}")
            job.train = "{steps: 5}"
            let result = try await job.attempt()
            #expect(result.isSuccess, "\(result)")
            #expect(
                result.error.components(separatedBy: "pageable memory takes its place").count == 2,
                "\(result.error)")
        }

        /// Copies of a run within a budget lie beside its layers, and bytes are those of the plan.
        @Test func aTraceShowsLayersAndCopies() async throws {
            var job = Self.job(.cnn, workers: 1, memory: "{budget: 40%, link: 2GB/s}")
            job.train = "{steps: 5}"
            let folder = try TemporaryFolder()
            let file = try folder.write("job.yaml", job.yaml(output: folder.path("run")))
            let trace = folder.path("trace.json")
            let run = try await TrainedJob(
                job: file, options: ["--trace", trace], output: folder.path("run"), folder: folder)
            let data = try Data(contentsOf: URL(filePath: trace))
            let object = try #require(
                try JSONSerialization.jsonObject(with: data) as? [String: Any])
            let events = try #require(object["traceEvents"] as? [[String: Any]])
            let layers = events.filter { $0["cat"] as? String == "compute" }
            // Every step but the load of the batch, five times.
            #expect(layers.count % 5 == 0 && layers.count > 100)
            #expect(layers.contains { $0["name"] as? String == "c3 backward" })
            // Running statistics are read back once, at the end, outside the plan.
            let copiedOut = events.filter { event in
                event["cat"] as? String == "copy device to host"
                    && (event["name"] as? String)?.hasSuffix(" read back") == false
            }.compactMap { ($0["args"] as? [String: Any])?["bytes"] as? Int }
            let memory = try #require(run.result.json["memory"] as? [String: Any])
            #expect(copiedOut.reduce(0, +) == memory["bytes_out"] as? Int)
            let planned = try #require(memory["planned_bytes_out"] as? Int)
            #expect(copiedOut.reduce(0, +) == 5 * planned)
        }

        /// On a link that crawls, layers run again instead of moving their results; the bits are the same.
        @Test func recomputedLayersTrainTheSameBits() async throws {
            var job = Self.job(.cnn, workers: 1, memory: "{budget: 40%, link: 20MB/s}")
            job.train = "{steps: 4}"
            let expected = try await Self.job(.cnn, workers: 1, memory: nil).with(steps: 4).run()
            let folder = try TemporaryFolder()
            let file = try folder.write("job.yaml", job.yaml(output: folder.path("run")))
            let bench = try await GeepsProcess.run(["bench", "layers", file, "--runs", "3"])
            try #require(bench.isSuccess, "\(bench)")
            let run = try await TrainedJob(job: file, output: folder.path("run"), folder: folder)
            let memory = try #require(run.result.json["memory"] as? [String: Any])
            let recomputed = try #require(memory["recomputed"] as? [String])
            #expect(!recomputed.isEmpty)
            #expect(run.model == expected.model)
        }
    }
}

extension TestJob {
    fileprivate func with(steps: Int) -> TestJob {
        var job = self
        job.train = "{steps: \(steps)}"
        return job
    }
}
