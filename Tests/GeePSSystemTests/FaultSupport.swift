import Foundation
import Glibc
import Testing

/// Keeps sums the same whatever starts a rank, and the machine free for several.
let oneThread = ["OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "passive"]

/// A small job on made-up data, in a folder that goes with it.
final class SmallJob: Sendable {
    let folder: TemporaryFolder
    let file: String

    /// - Parameter steps: a thousand take about a second where nothing else runs.
    init(workers: Int, steps: Int, transport: String = "auto", staleness: Int = 0) throws {
        folder = try TemporaryFolder()
        file = try folder.write(
            "job.yaml",
            """
            model:
              layers:
                - {name: fc1, type: linear, out: 96}
                - {type: relu}
                - {name: fc2, type: linear, out: 10}
            data: {format: synthetic, samples: 960, features: 128, classes: 10, batch_size: 8}
            optimizer: {name: sgd, lr: 0.02, momentum: 0.9}
            train: {steps: \(steps), seed: 3}
            consistency: {staleness: \(staleness)}
            cluster: {workers: \(workers), keepers: \(workers), transport: \(transport)}
            """)
    }

    /// What a run that leaves its results in `name` is started with.
    func arguments(_ name: String, _ more: [String] = []) -> [String] {
        ["train", file, "--set", "output.directory=\(folder.path(name))"] + more
    }

    /// Starts all workers.
    func start(_ name: String, _ more: [String] = [], timeout: Duration = .seconds(60)) throws
        -> GeepsProcess
    {
        try GeepsProcess(arguments(name, more), environment: oneThread, timeout: timeout)
    }

    /// Starts one rank, as a launcher would.
    func start(
        rank: Int, of worldSize: Int, port: UInt16, _ name: String, _ more: [String] = [],
        timeout: Duration = .seconds(60)
    ) throws -> GeepsProcess {
        let place = [
            "GEEPS_RANK": "\(rank)", "GEEPS_WORLD_SIZE": "\(worldSize)",
            "GEEPS_RENDEZVOUS": "127.0.0.1:\(port)", "GEEPS_SECRET": "the secret of these tests",
        ]
        return try GeepsProcess(
            arguments(name, more), environment: oneThread.merging(place) { $1 }, timeout: timeout)
    }

    /// The weights that a run left in `name`, every bit of them.
    func model(_ name: String) throws -> Data {
        try Data(contentsOf: URL(filePath: folder.path(name + "/model.safetensors")))
    }

    /// Waits until rank 0 has finished `epochs` epochs.
    func hasTrained(_ name: String, epochs: Int = 1, _ process: GeepsProcess) async throws -> Bool {
        try await process.wait {
            !process.isRunning
                || folder.text(name + "/metrics.jsonl").split(separator: "\n").count >= epochs
        } && process.isRunning
    }
}

/// A process that may not be a child of this one.
struct OtherProcess {
    let identifier: pid_t

    /// Whether it runs: a zombie, which its parent has not buried, does not.
    var isAlive: Bool {
        guard let text = try? String(contentsOfFile: "/proc/\(identifier)/stat", encoding: .utf8),
            let state = text.split(separator: ")").last?.split(separator: " ").first
        else { return false }
        return state != "Z" && state != "X"
    }

    /// The rank that its environment gives it.
    var rank: Int? {
        let bytes = (try? Data(contentsOf: URL(filePath: "/proc/\(identifier)/environ"))) ?? Data()
        let prefix = "GEEPS_RANK="
        return bytes.split(separator: 0).map { String(decoding: $0, as: UTF8.self) }
            .first { $0.hasPrefix(prefix) }.flatMap { Int($0.dropFirst(prefix.count)) }
    }

    /// The ports of its lanes: those with a socket beside them for peers of the same host.
    var lanePorts: [UInt16] {
        let sockets = (try? String(contentsOfFile: "/proc/net/unix", encoding: .utf8)) ?? ""
        let names = sockets.split(whereSeparator: \.isWhitespace)
        return listeningPorts.filter { port in
            names.contains { $0.hasPrefix("@geeps-tcp-\(port)") }
        }
    }

    /// What its descriptors are.
    private var files: Set<String> {
        let descriptors = "/proc/\(identifier)/fd"
        let names = (try? FileManager.default.contentsOfDirectory(atPath: descriptors)) ?? []
        return Set(
            names.compactMap {
                try? FileManager.default.destinationOfSymbolicLink(atPath: descriptors + "/" + $0)
            })
    }

    /// The TCP ports it listens on, in order.
    var listeningPorts: [UInt16] {
        // UCX in this process leaves its sockets to the processes that are started.
        let sockets = files.subtracting(OtherProcess(identifier: getpid()).files)
        let table = (try? String(contentsOfFile: "/proc/net/tcp", encoding: .utf8)) ?? ""
        // A table that changes while it is read may have a line twice.
        let ports = table.split(separator: "\n").dropFirst().compactMap { line -> UInt16? in
            let fields = line.split(separator: " ")
            // Local address, state (0A listens), inode.
            guard fields.count > 9, fields[3] == "0A", sockets.contains("socket:[\(fields[9])]")
            else { return nil }
            return fields[1].split(separator: ":").last.flatMap { UInt16($0, radix: 16) }
        }
        return Set(ports).sorted()
    }

    func send(_ signal: Int32) { _ = Glibc.kill(identifier, signal) }

    /// A number of /proc/PID/status, such as `VmRSS` (KiB) or `Threads`.
    func status(_ key: String) -> Int? {
        let text =
            (try? String(contentsOfFile: "/proc/\(identifier)/status", encoding: .utf8)) ?? ""
        return text.split(separator: "\n").first { $0.hasPrefix(key + ":") }
            .flatMap { $0.split(whereSeparator: \.isWhitespace).dropFirst().first }
            .flatMap { Int($0) }
    }

    /// How many files it has open.
    var openFiles: Int {
        (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(identifier)/fd"))?.count ?? 0
    }
}

extension GeepsProcess {
    /// Waits until all workers are there; by rank.
    func workers(_ count: Int) async throws -> [OtherProcess] {
        var found: [OtherProcess] = []
        let areThere = try await wait {
            found = children.map { OtherProcess(identifier: $0) }
            // Between fork and exec a child still has the environment of its parent.
            return !isRunning || Set(found.compactMap(\.rank)) == Set(0..<count)
        }
        try #require(areThere && found.count == count, "\(error)")
        return found.sorted { $0.rank ?? 0 < $1.rank ?? 0 }
    }

    /// The lines of standard error that have `text`.
    func lines(with text: String) -> [Substring] {
        error.split(separator: "\n").filter { $0.contains(text) }
    }
}

/// What processes leave behind when they do not clean up: the names of shared memory, and the abstract
/// sockets of the given ports.
func leftovers(ports: [UInt16]) -> [String] {
    let memory = ((try? FileManager.default.contentsOfDirectory(atPath: "/dev/shm")) ?? [])
        .filter { $0.contains("geeps") }
    let table = (try? String(contentsOfFile: "/proc/net/unix", encoding: .utf8)) ?? ""
    let sockets = ports.flatMap { port in
        table.split(separator: "\n").filter { $0.contains("geeps-tcp-\(port)") }.map(String.init)
    }
    return memory + sockets
}

/// A socket of 127.0.0.1 that listens until it is let go.
final class TakenPort {
    let port: UInt16
    private let descriptor: Int32

    init() throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(0)
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let descriptor = descriptor
        let status = withUnsafeMutablePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(descriptor, $0, length) == 0 ? getsockname(descriptor, $0, &length) : -1
            }
        }
        try #require(status == 0 && listen(descriptor, 8) == 0)
        port = UInt16(bigEndian: address.sin_port)
    }

    deinit { close(descriptor) }
}

/// A port of 127.0.0.1 that was free a moment ago.
func freePort() throws -> UInt16 { try TakenPort().port }

func loopback(_ port: UInt16) -> sockaddr_in {
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    address.sin_port = port.bigEndian
    return address
}

func seconds(since start: ContinuousClock.Instant) -> Double {
    (ContinuousClock.now - start) / .seconds(1)
}
