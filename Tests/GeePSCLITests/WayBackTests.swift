import Glibc
import Testing

@testable import GeePSCLI

@Suite struct WayBackTests {
    private static let srun = [
        "SLURM_PROCID": "2", "SLURM_NTASKS": "4", "SLURM_STEP_ID": "0", "SLURM_JOB_ID": "7",
        "SLURM_STEP_NODELIST": "n[1-4]",
    ]

    private func launch(rank: Int, port: UInt16 = 15007) -> Launch {
        Launch(
            rank: rank, worldSize: 4, localRank: 0,
            rendezvous: RendezvousAddress(host: "127.0.0.1", port: port))
    }

    private func wait(
        _ port: UInt16, _ patience: Duration, unless isStopped: () -> Bool = { false }
    ) throws -> Duration {
        let way = try #require(WayBack(for: launch(rank: 2, port: port), environment: Self.srun))
        return ContinuousClock().measure { way.wait(patience, unless: isStopped) }
    }

    @Test func tasksOfSrunHaveOneExceptRankZero() {
        #expect(WayBack(for: launch(rank: 2), environment: Self.srun) != nil)
        #expect(WayBack(for: launch(rank: 0), environment: Self.srun) == nil)
        #expect(WayBack(for: .alone, environment: Self.srun) == nil)
        let pmi = Self.srun.merging(["PMI_RANK": "2", "PMI_SIZE": "4"]) { $1 }
        #expect(WayBack(for: launch(rank: 2), environment: pmi) != nil)
    }

    /// Those look after the processes of other hosts themselves.
    @Test func otherLaunchersNeedNone() {
        let mpirun = ["OMPI_COMM_WORLD_RANK": "2", "OMPI_COMM_WORLD_SIZE": "4"]
        for environment in [mpirun, mpirun.merging(Self.srun) { $1 }, [:]] {
            #expect(WayBack(for: launch(rank: 2), environment: environment) == nil)
        }
    }

    @Test func aHostThatRefusesOrListensHasAnswered() throws {
        let host = try DeafHost()
        let listening = try wait(host.port, .seconds(30))
        host.close()
        let refused = try wait(host.port, .seconds(30))
        #expect(max(listening, refused) < .seconds(15))
    }

    @Test func itWaitsForAHostThatDoesNotAnswerUntilItDoes() throws {
        let host = try DeafHost()
        try host.fill()
        var looks = 0
        let waited = try wait(host.port, .seconds(120)) {
            looks += 1
            if looks == 3 { host.close() }
            return false
        }
        // On a busy machine a look may be over before the host is back.
        #expect(looks >= 3 && waited < .seconds(100))
    }

    @Test func patienceAndAStopEndTheWait() throws {
        let host = try DeafHost()
        try host.fill()
        #expect(try wait(host.port, .seconds(2)) >= .seconds(2))
        var looks = 0
        let stopped = try wait(host.port, .seconds(120)) {
            looks += 1
            return looks > 1
        }
        #expect(looks == 2 && stopped < .seconds(100))
    }
}

/// A port of this machine that does not answer once it is full: it drops what opens a connection, as a cut link does.
private final class DeafHost {
    let port: UInt16
    private let listener: Int32
    private var callers: [Int32] = []
    private var name = sockaddr_in()

    init() throws {
        listener = Self.socket()
        name.sin_family = sa_family_t(AF_INET)
        name.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
        let listener = listener
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        let status = withUnsafeMutablePointer(to: &name) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                bind(listener, $0, length) | listen(listener, 0)
                    | getsockname(listener, $0, &length)
            }
        }
        port = UInt16(bigEndian: name.sin_port)
        try #require(status == 0)
    }

    deinit { for caller in callers { Glibc.close(caller) } }

    /// Calls until there is no answer.
    func fill() throws {
        for _ in 0..<8 {
            let caller = Self.socket()
            callers.append(caller)
            withUnsafePointer(to: &name) { pointer in
                pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
                    _ = connect(caller, $0, socklen_t(MemoryLayout<sockaddr_in>.size))
                }
            }
            var item = pollfd(fd: caller, events: Int16(POLLOUT), revents: 0)
            if poll(&item, 1, 300) == 0 { return }
        }
        Issue.record("it answers all calls")
    }

    /// Nobody listens from now on, and the machine says so.
    func close() { Glibc.close(listener) }

    private static func socket() -> Int32 {
        Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue), 0)
    }
}
