import Foundation
import Glibc
import Testing

extension SystemTests {
    /// Processes that die, stop or are killed in the middle of a job.
    @Suite(.serialized) struct FaultTests {
        /// Bound of the promise: when one process dies, the others have ended by then.
        static let promised = 10.0

        enum Moment: Sendable {
            /// When the job has trained for so many epochs.
            case afterEpochs(Int)
            /// So many milliseconds after the processes were started.
            case afterStart(Int)
        }

        static let deaths: [(rank: Int, transport: String, moment: Moment)] =
            [0, 1, 2].flatMap { rank in
                ["tcp", "shared-memory"].map { (rank, $0, .afterEpochs(1)) }
            } + [
                (0, "tcp", .afterEpochs(7)), (2, "shared-memory", .afterEpochs(9)),
                (1, "unix-socket", .afterEpochs(3)), (1, "tcp", .afterStart(20)),
                (0, "auto", .afterStart(60)), (2, "auto", .afterStart(120)),
            ] + (hasUCX ? [(1, "ucx", .afterEpochs(1)), (0, "ucx", .afterEpochs(2))] : [])

        @Test(arguments: deaths)
        func aKilledWorkerEndsTheOthers(rank: Int, transport: String, moment: Moment) async throws {
            let job = try SmallJob(workers: 3, steps: 400_000, transport: transport)
            let process = try job.start("out")
            let workers = try await process.workers(3)
            var hasTrained = false
            switch moment {
            case .afterEpochs(let epochs):
                hasTrained = try await job.hasTrained("out", epochs: epochs, process)
                try #require(hasTrained, "\(process.error)")
            case .afterStart(let milliseconds):
                try await Task.sleep(for: .milliseconds(milliseconds))
            }
            let ports = workers.flatMap(\.listeningPorts)
            workers[rank].send(SIGKILL)
            let start = ContinuousClock.now
            let result = try await process.wait()
            let time = seconds(since: start)
            #expect(time < Self.promised, "\(result)")
            #expect(result.end == .exited(128 + SIGKILL), "\(result)")
            #expect(!process.lines(with: "rank \(rank) was killed by SIGKILL").isEmpty, "\(result)")
            // Who was not there yet could not take part; either way the others say so by themselves.
            #expect(process.lines(with: "did not end, killing it").isEmpty, "\(result)")
            if hasTrained {
                let gone = process.lines(with: "rank \(rank) (").filter { $0.contains(" is gone") }
                #expect(gone.count == 2, "\(result)")
                for other in 0..<3 where other != rank {
                    #expect(!process.lines(with: "rank \(other) exited with code 69").isEmpty)
                }
            }
            #expect(workers.filter(\.isAlive).isEmpty)
            #expect(leftovers(ports: ports) == [])
            report("kill -9 of rank \(rank), \(transport), \(moment)", time)
        }

        @Test(arguments: [0, 1]) func aStoppedWorkerIsFoundSilent(rank: Int) async throws {
            let job = try SmallJob(workers: 3, steps: 400_000)
            let process = try job.start("out")
            let workers = try await process.workers(3)
            try #require(try await job.hasTrained("out", process), "\(process.error)")
            workers[rank].send(SIGSTOP)
            let start = ContinuousClock.now
            let others = workers.indices.filter { $0 != rank }
            let ended = try await process.wait { !others.contains { workers[$0].isAlive } }
            let time = seconds(since: start)
            #expect(ended && time < Self.promised, "\(process.error)")
            let silent = process.lines(with: "rank \(rank) (").filter {
                $0.contains("has been silent for ")
            }
            #expect(silent.count == 2, "\(process.error)")
            // The silence time is five seconds; less would be rash.
            #expect(time > 4, "\(process.error)")
            process.kill()
            #expect(try await eventually { !workers.contains { $0.isAlive } })
            report("SIGSTOP of rank \(rank)", time)
        }

        @Test func workersEndWithTheirSupervisor() async throws {
            let job = try SmallJob(workers: 3, steps: 400_000)
            let process = try job.start("out")
            let workers = try await process.workers(3)
            try #require(try await job.hasTrained("out", process), "\(process.error)")
            process.send(SIGKILL)
            let start = ContinuousClock.now
            #expect(try await eventually { !workers.contains { $0.isAlive } })
            #expect(seconds(since: start) < Self.promised)
            #expect(try await process.wait().end == .killed(signal: SIGKILL))
            report("kill -9 of the supervisor", seconds(since: start))
        }

        @Test(arguments: [(SIGINT, 130), (SIGTERM, 143)] as [(Int32, Int32)])
        func aSignalEndsTheJob(signal: Int32, code: Int32) async throws {
            let job = try SmallJob(workers: 3, steps: 400_000)
            let process = try job.start("out")
            let workers = try await process.workers(3)
            try #require(try await job.hasTrained("out", process), "\(process.error)")
            let ports = workers.flatMap(\.listeningPorts)
            process.send(signal)
            let start = ContinuousClock.now
            let result = try await process.wait()
            #expect(result.end == .exited(code), "\(result)")
            #expect(seconds(since: start) < Self.promised)
            #expect(workers.filter(\.isAlive).isEmpty)
            #expect(leftovers(ports: ports) == [])
            report("signal \(signal) to the supervisor", seconds(since: start))
        }

        @Test func aPauseChangesNothing() async throws {
            let job = try SmallJob(workers: 3, steps: 400)
            let undisturbed = try await job.start("undisturbed").wait()
            try #require(undisturbed.isSuccess, "\(undisturbed)")
            for rank in 0..<3 {
                let name = "paused\(rank)"
                let process = try job.start(name)
                let workers = try await process.workers(3)
                try #require(try await job.hasTrained(name, process), "\(process.error)")
                workers[rank].send(SIGSTOP)
                try await Task.sleep(for: .seconds(1))
                #expect(process.isRunning)
                workers[rank].send(SIGCONT)
                let result = try await process.wait()
                #expect(result.isSuccess, "\(result)")
                #expect(try job.model(name) == job.model("undisturbed"))
            }
        }
    }
}

/// Waits until `condition` holds; false after a bound that only a broken product reaches.
func eventually(_ condition: () -> Bool) async throws -> Bool {
    let deadline = ContinuousClock.now + .seconds(20)
    while !condition() {
        guard ContinuousClock.now < deadline else { return false }
        try await Task.sleep(for: .milliseconds(5))
    }
    return true
}

/// Notes a measured time where tests are read, with `GEEPS_TEST_TIMES` set.
func report(_ what: String, _ time: Double) {
    guard ProcessInfo.processInfo.environment["GEEPS_TEST_TIMES"] != nil else { return }
    print("measured: \(what): \(Int(time * 1000)) ms")
}
