import Foundation
import Glibc
import Testing

extension SystemTests {
    /// Ten thousand connections that never say who they are.
    @Suite(.serialized) struct FloodTests {
        private static let connections = 10_000

        /// What a process has taken from the system.
        private struct Footprint {
            var kibibytes = 0
            var threads = 0
            var files = 0

            init(_ process: OtherProcess) {
                kibibytes = process.status("VmRSS") ?? 0
                threads = process.status("Threads") ?? 0
                files = process.openFiles
            }

            /// The limits of SECURITY.md: 64 undecided lanes, 128 callers at the rendezvous, and some to spare.
            func isBounded(from before: Footprint) -> Bool {
                kibibytes - before.kibibytes <= 32 << 10 && threads - before.threads <= 100
                    && files - before.files <= 300
            }
        }

        /// Connects again and again, and keeps as many connections open as this process may have.
        ///
        /// - Returns: the largest footprint of each of `processes` meanwhile.
        private func flood(_ ports: [UInt16], _ processes: [OtherProcess]) throws -> [Footprint] {
            var limit = rlimit()
            getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            let room = max(100, Int(min(limit.rlim_cur, 1 << 20)) - 500)
            var open: [Stranger] = []
            var largest = processes.map { Footprint($0) }
            for index in 0..<Self.connections {
                if open.count == room { open.removeFirst(room / 2) }
                open.append(try Stranger(port: ports[index % ports.count]))
                guard index % 200 == 199 else { continue }
                for (number, process) in processes.enumerated() {
                    let now = Footprint(process)
                    largest[number].kibibytes = max(largest[number].kibibytes, now.kibibytes)
                    largest[number].threads = max(largest[number].threads, now.threads)
                    largest[number].files = max(largest[number].files, now.files)
                }
            }
            // The newest are hung up on like all others.
            #expect(open.suffix(70).allSatisfy { $0.isHungUp(within: 20) })
            return largest
        }

        @Test func atTheOpenPortsTrainingGoesOn() async throws {
            let job = try SmallJob(workers: 2, steps: 4000, transport: "tcp")
            let undisturbed = try await job.start("undisturbed").wait()
            try #require(undisturbed.isSuccess, "\(undisturbed)")
            // Long enough to be attacked, on any machine.
            let process = try job.start("attacked", ["--set", "emulate={clock: 5ms}"])
            let workers = try await process.workers(2)
            try #require(try await job.hasTrained("attacked", process), "\(process.error)")
            let ports = workers.flatMap(\.listeningPorts)
            // Of two keepers, and of rank 0's control plane.
            try #require(ports.count == 3, "\(ports)")
            let before = workers.map { Footprint($0) }
            let start = ContinuousClock.now
            let largest = try flood(ports, workers)
            report(
                "\(Self.connections) connections, \(before) to \(largest)", seconds(since: start))
            for (now, before) in zip(largest, before) {
                #expect(now.isBounded(from: before), "\(before) to \(now)")
            }
            #expect(process.isRunning, "the job was over before the attack: \(process.error)")
            let result = try await process.wait()
            #expect(result.isSuccess, "\(result)")
            #expect(process.lines(with: "lane from").count <= 20)
            #expect(try job.model("attacked") == job.model("undisturbed"))
        }

        @Test func atTheRendezvousTheRanksStillMeet() async throws {
            let job = try SmallJob(workers: 2, steps: 50)
            let port = try freePort()
            let zero = try job.start(rank: 0, of: 2, port: port, "attacked")
            let listener = OtherProcess(identifier: zero.identifier)
            try #require(
                try await zero.wait { !zero.isRunning || listener.listeningPorts.contains(port) })
            let before = Footprint(listener)
            let start = ContinuousClock.now
            let largest = try flood([port], [listener])
            report(
                "\(Self.connections) connections, \(before) to \(largest)", seconds(since: start))
            #expect(largest[0].isBounded(from: before), "\(before) to \(largest)")
            let one = try job.start(rank: 1, of: 2, port: port, "one")
            for process in [zero, one] {
                let result = try await process.wait()
                #expect(result.isSuccess, "\(result)")
            }
        }
    }
}
