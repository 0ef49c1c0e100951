import Foundation
import GeePSCore
import Glibc
import Testing

extension SystemTests {
    /// Strangers that send nonsense to the ports of a running job.
    @Suite(.serialized) struct AttackTests {
        /// At both workers' TCP ports, which carry the job's lanes, at the sockets beside them that peers
        /// of the same host would use, and at rank 0's port for ranks that come back.
        @Test func nonsenseAtTheOpenPortsDoesNotDisturb() async throws {
            let job = try SmallJob(workers: 2, steps: 5000, transport: "tcp")
            let undisturbed = try await job.start("undisturbed").wait()
            try #require(undisturbed.isSuccess, "\(undisturbed)")
            let process = try job.start("attacked")
            let workers = try await process.workers(2)
            try #require(try await job.hasTrained("attacked", process), "\(process.error)")
            let ports = workers.map(\.lanePorts)
            try #require(ports.allSatisfy { $0.count == 1 }, "\(ports)")
            let control = Set(workers[0].listeningPorts).subtracting(ports[0])
            try #require(control.count == 1, "\(control)")
            let start = ContinuousClock.now
            var random = SystemRandomNumberGenerator()
            var closed = 0
            for index in 0..<1000 {
                let bytes = Nonsense.frame(index, &random)
                closed += try Stranger(port: ports[index % 2][0]).isTurnedAway(after: bytes) ? 1 : 0
            }
            for index in 0..<200 {
                let bytes = Nonsense.localRequest(index, &random)
                closed +=
                    try Stranger(abstract: "geeps-tcp-\(ports[index % 2][0])")
                    .isTurnedAway(after: bytes) ? 1 : 0
            }
            for port in control {
                for index in 0..<200 {
                    let bytes = Nonsense.frame(index, &random)
                    closed += try Stranger(port: port).isTurnedAway(after: bytes) ? 1 : 0
                }
            }
            report("1,400 strangers", seconds(since: start))
            #expect(closed == 1400)
            #expect(process.isRunning, "the job was over before the attack: \(process.error)")
            let result = try await process.wait()
            #expect(result.isSuccess, "\(result)")
            let complaints = process.lines(with: "lane from").count
            #expect(complaints > 0 && complaints <= 20)
            #expect(try job.model("attacked") == job.model("undisturbed"))
        }

        @Test func nonsenseAtTheRendezvousDoesNotDisturb() async throws {
            let job = try SmallJob(workers: 2, steps: 50)
            let undisturbed = try await job.start("undisturbed").wait()
            try #require(undisturbed.isSuccess, "\(undisturbed)")
            let port = try freePort()
            let zero = try job.start(rank: 0, of: 2, port: port, "attacked")
            let listener = OtherProcess(identifier: zero.identifier)
            try #require(
                try await zero.wait { !zero.isRunning || listener.listeningPorts.contains(port) })
            var random = SystemRandomNumberGenerator()
            var closed = 0
            for index in 0..<1000 {
                let bytes = Nonsense.frame(index, &random)
                closed += try Stranger(port: port).isTurnedAway(after: bytes) ? 1 : 0
            }
            #expect(closed == 1000)
            let one = try job.start(rank: 1, of: 2, port: port, "one")
            for process in [zero, one] {
                let result = try await process.wait()
                #expect(result.isSuccess, "\(result)")
            }
            #expect(zero.lines(with: "turned away").count <= 2, "\(zero.error)")
            #expect(try job.model("attacked") == job.model("undisturbed"))
        }

        /// Callers that say nothing are hung up on after the handshake time.
        @Test func silentCallersAreHungUpOn() async throws {
            let job = try SmallJob(workers: 2, steps: 400_000, transport: "tcp")
            let process = try job.start("out")
            let workers = try await process.workers(2)
            try #require(try await job.hasTrained("out", process), "\(process.error)")
            let port = try #require(workers[0].listeningPorts.first)
            let callers = try (0..<40).map { _ in try Stranger(port: port) }
            let closed = callers.count { $0.isHungUp(within: 20) }
            #expect(closed == 40)
            #expect(process.isRunning)
        }
    }
}

/// Bytes that no process of a job sends.
private enum Nonsense {
    /// For a TCP port: one of several kinds, by `index`.
    static func frame(_ index: Int, _ random: inout some RandomNumberGenerator) -> [UInt8] {
        var header = FrameHeader(index % 2 == 0 ? .hello : .control)
        header.sender = UInt32.random(in: 0...3, using: &random)
        header.second = 1
        switch index % 8 {
        case 0: return noise(Int.random(in: 1...300, using: &random), &random)
        case 1: return Array(encoded(header).prefix(Int.random(in: 0..<64, using: &random)))
        case 2:
            var bytes = encoded(header)
            bytes[4] = UInt8.random(in: 4...255, using: &random)
            return bytes
        case 3:
            header.payloadBytes = 16
            return encoded(header) + noise(16, &random)
        case 4:
            header.payloadBytes = UInt32.random(in: 17...(16 << 20), using: &random)
            return encoded(header) + noise(100, &random)
        case 5:
            var bytes = encoded(header)
            bytes[Int.random(in: 0..<64, using: &random)] ^=
                1 << UInt8.random(in: 0..<8, using: &random)
            return bytes
        case 6:
            // The beginning of a good handshake, and a proof of noise.
            header.kind = .hello
            header.payloadBytes = 32
            var proof = FrameHeader(.proof)
            proof.payloadBytes = 32
            return encoded(header) + noise(32, &random) + encoded(proof) + noise(32, &random)
        default:
            header.kind = .rows
            header.third = .max
            return encoded(header)
        }
    }

    /// For the socket of peers on the same host: 16 bytes are due.
    static func localRequest(_ index: Int, _ random: inout some RandomNumberGenerator) -> [UInt8] {
        let magic: [UInt8] = [0x50, 0x47, 0x53, 0x4C]
        switch index % 4 {
        case 0: return noise(16, &random)
        case 1: return noise(Int.random(in: 0..<16, using: &random), &random)
        // Shared memory of any size, and no memory passed along.
        case 2: return magic + [1, 2, 0, 0] + noise(8, &random)
        default:
            return magic + [1, UInt8.random(in: 3...255, using: &random), 0, 0] + noise(8, &random)
        }
    }

    private static func noise(_ count: Int, _ random: inout some RandomNumberGenerator) -> [UInt8] {
        (0..<count).map { _ in UInt8.random(in: .min ... .max, using: &random) }
    }

    private static func encoded(_ header: FrameHeader) -> [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Limits.frameHeaderBytes)
        bytes.withUnsafeMutableBytes { header.encode(into: $0) }
        return bytes
    }
}

/// A connection of somebody who does not belong there.
final class Stranger {
    private let descriptor: Int32

    init(port: UInt16) throws {
        descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
        var address = loopback(port)
        let descriptor = descriptor
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
            }
        }
        try #require(status == 0, "connect: \(String(cString: strerror(errno)))")
    }

    init(abstract name: String) throws {
        descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue), 0)
        var address = sockaddr_un()
        address.sun_family = sa_family_t(AF_UNIX)
        withUnsafeMutableBytes(of: &address.sun_path) { path in
            for (index, byte) in name.utf8.enumerated() { path[index + 1] = byte }
        }
        let length = socklen_t(MemoryLayout<sa_family_t>.size + 1 + name.utf8.count)
        let descriptor = descriptor
        let status = withUnsafePointer(to: &address) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                connect(descriptor, $0, length)
            }
        }
        try #require(status == 0, "connect: \(String(cString: strerror(errno)))")
    }

    deinit { close(descriptor) }

    /// Sends `bytes` and nothing more; whether the other side then closes.
    func isTurnedAway(after bytes: [UInt8]) -> Bool {
        _ = send(descriptor, bytes, bytes.count, Int32(MSG_NOSIGNAL))
        shutdown(descriptor, Int32(SHUT_WR))
        return isHungUp(within: 20)
    }

    /// Whether the other side closes; what it says before does not matter.
    func isHungUp(within seconds: Int) -> Bool {
        var patience = timeval(tv_sec: seconds, tv_usec: 0)
        setsockopt(
            descriptor, SOL_SOCKET, SO_RCVTIMEO, &patience,
            socklen_t(MemoryLayout<timeval>.size))
        var bytes = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = recv(descriptor, &bytes, bytes.count, 0)
            if count > 0 || (count < 0 && errno == EINTR) { continue }
            return count == 0 || errno == ECONNRESET
        }
    }
}
