import Foundation
import Glibc
import Testing

extension SystemTests {
    /// Training whose connections are reset by the kernel, again and again, while all processes live.
    @Suite(.serialized) struct ReconnectRunTests {
        /// Why no connection can be reset from outside; nil where it can.
        static let obstacle: String? = {
            if geteuid() != 0 { return "only root can reset other processes' connections" }
            return LauncherTools.path(of: "ss") == nil ? "no ss (iproute2) here" : nil
        }()

        /// Resets both ends of all established connections to `ports`; how many there were.
        private static func reset(_ ports: [UInt16]) throws -> Int {
            let process = Process()
            process.executableURL = URL(filePath: "/usr/bin/env")
            let filter = ports.map { "sport = :\($0)" }.joined(separator: " or ")
            process.arguments = ["ss", "-HKtn", "state", "established", "( \(filter) )"]
            let output = Pipe()
            process.standardOutput = output
            try process.run()
            let lines = output.fileHandleForReading.readDataToEndOfFile()
            process.waitUntilExit()
            return lines.split(separator: UInt8(ascii: "\n")).count
        }

        @Test(.enabled(if: obstacle == nil), arguments: [0, 2])
        func resetsOfAllConnectionsChangeNoBit(staleness: Int) async throws {
            let job = try SmallJob(
                workers: 3, steps: 6000, transport: "tcp", staleness: staleness)
            // Under a staleness runs differ; then it is enough that the run ends well.
            let isExact = staleness == 0
            if isExact {
                let undisturbed = try await job.start("undisturbed").wait()
                try #require(undisturbed.isSuccess, "\(undisturbed)")
            }
            let process = try job.start("reset", ["--json"])
            let workers = try await process.workers(3)
            try #require(try await job.hasTrained("reset", process), "\(process.error)")
            let ports = workers.flatMap(\.listeningPorts)
            // Of three keepers, and of rank 0's control plane.
            try #require(ports.count == 4, "\(ports)")
            var resets = 0
            while process.isRunning {
                resets += try Self.reset(ports)
                try await Task.sleep(for: .milliseconds(200))
            }
            let result = try await process.wait()
            #expect(result.isSuccess, "\(result)")
            #expect(resets >= 6, "only \(resets) connections were there to reset: \(result)")
            if isExact { #expect(try job.model("reset") == job.model("undisturbed")) }
            #expect(process.output.contains("\"reconnects\":"), "\(process.output)")
            #expect(!process.lines(with: "was lost and is there again after").isEmpty)
            #expect(!process.lines(with: "the control connection to rank 1 (").isEmpty)
            #expect(process.lines(with: "starting again").isEmpty, "\(process.error)")
            report("\(resets) resets", 0)
        }

        /// The lanes of a process that is killed are lost too; that is not waited for.
        @Test func aDeadProcessIsFoundThoughItsLanesAreTriedAgain() async throws {
            let job = try SmallJob(workers: 3, steps: 400_000, transport: "tcp")
            let process = try job.start("out", ["--set", "cluster.reconnect_timeout=10m"])
            let workers = try await process.workers(3)
            try #require(try await job.hasTrained("out", process), "\(process.error)")
            workers[1].send(SIGKILL)
            let start = ContinuousClock.now
            let ended = try await process.wait { ![0, 2].contains { workers[$0].isAlive } }
            #expect(ended && seconds(since: start) < 5, "\(process.error)")
            let gone = process.lines(with: "rank 1 (").filter { $0.contains(" is gone") }
            #expect(gone.count == 2, "\(process.error)")
            _ = try await process.wait()
            report("kill -9 with ten minutes to reconnect", seconds(since: start))
        }
    }
}
