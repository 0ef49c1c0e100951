import GeePS
import GeePSCore
import Testing

@testable import GeePSCLI

@Suite struct WaitGraphTests {
    private static let peers = (0..<3).map {
        ProcessStatus.Peer(host: "node", pid: UInt32(100 + $0))
    }

    private static func status(
        _ rank: Int, _ worker: WorkerStanding, lacks: [KeeperStanding.Missing]
    ) -> ProcessStatus {
        ProcessStatus(
            rank: rank, peers: peers, workerCount: 3, ownerOfKeeper: [0, 1, 2],
            tables: ["conv1", "fc1"], worker: worker,
            keepers: [
                KeeperStanding(
                    keeper: rank,
                    tables: [
                        KeeperStanding.Oldest(
                            table: 0, rows: 0..<128, age: 40, missing: lacks,
                            missingCount: lacks.count, nanoseconds: 3_100_000_000)
                    ])
            ])
    }

    private static func waiting(on keepers: [Int], seconds: Double = 3.2) -> WorkerStanding {
        WorkerStanding(
            tick: 41, activity: .read, table: 0, neededAge: 41,
            nanoseconds: UInt64(seconds * 1e9),
            lacking: keepers.map {
                WorkerStanding.Lack(keeper: $0, rows: ($0 * 128)..<($0 * 128 + 128), age: 40)
            }, sending: [])
    }

    private static let computing = WorkerStanding(
        tick: 40, activity: .computing, table: nil, neededAge: 0, nanoseconds: 3_300_000_000,
        lacking: [], sending: [])
    private static let late = [KeeperStanding.Missing(worker: 2, tick: 40)]

    private func graph(_ statuses: [ProcessStatus]) throws -> WaitGraph {
        try #require(WaitGraph(statuses) { _, rank in "silence of \(rank)" })
    }

    @Test func aWaitNamesTheKeeperAndTheWorkerThatItLacks() throws {
        let graph = try graph([
            Self.status(0, Self.waiting(on: [0]), lacks: Self.late),
            Self.status(1, Self.waiting(on: [0], seconds: 3), lacks: Self.late),
            Self.status(2, Self.computing, lacks: []),
        ])
        #expect(
            WaitGraphText(graph).lines(run: "runs/a") == [
                "runs/a: 3 workers, 3 keepers, clocks 40 to 41",
                "worker 0  clock 41, waits 3.2 s for table conv1 rows 0..<128 of clock 41",
                "          └ keeper 0 (worker 0's process): lacks the update of worker 2 (last clock 40)",
                "worker 1  clock 41, waits 3 s for table conv1 rows 0..<128 of clock 41",
                "          └ keeper 0 (worker 0's process): lacks the update of worker 2 (last clock 40)",
                "worker 2  clock 40, computes since 3.3 s", "",
                "workers 0, 1 wait for worker 2", "",
                "keeper  process   table  rows     age  lacks                     since",
                "0       worker 0  conv1  0..<128  40   worker 2 (last clock 40)  3.1 s",
                "1       worker 1  conv1  0..<128  40   worker 2 (last clock 40)  3.1 s",
            ])
        #expect(graph.json(run: "a").text.contains(#""waits_for":[{"rank":2,"waiting":[0,1]}]"#))
    }

    @Test func whoDoesNotAnswerIsWhomTheOthersWaitFor() throws {
        let graph = try graph([
            Self.status(0, Self.waiting(on: [0, 2]), lacks: Self.late),
            Self.status(1, Self.computing, lacks: []),
        ])
        let lines = WaitGraphText(graph).lines(run: "a")
        #expect(
            lines.contains {
                $0.hasSuffix("keeper 2 (worker 2's process), rows 256..<384: does not answer")
            })
        #expect(lines.contains("worker 2  does not answer (node, pid 102): silence of 2"))
        #expect(lines.contains("worker 0 waits for worker 2"))
    }

    @Test func aChainOfWaitsEndsAtItsEnd() throws {
        let graph = try graph([
            Self.status(
                0, Self.waiting(on: [0]), lacks: [KeeperStanding.Missing(worker: 1, tick: 40)]),
            Self.status(1, Self.waiting(on: [1]), lacks: Self.late),
            Self.status(2, Self.computing, lacks: []),
        ])
        #expect(graph.culprits.map(\.rank) == [2])
        #expect(graph.culprits.first?.waiting == [0, 1])
    }

    @Test func rowsThatTheirKeeperHasAreOnTheirWay() throws {
        var old = Self.waiting(on: [1])
        old.neededAge = 40
        let graph = try graph([
            Self.status(0, old, lacks: []), Self.status(1, Self.computing, lacks: []),
            Self.status(2, Self.computing, lacks: []),
        ])
        #expect(graph.processes[0].edges.map(\.cause) == [.onTheirWay])
        #expect(graph.culprits.isEmpty)
    }

    @Test func answersOfAnotherJobAreLeftOut() throws {
        var stranger = Self.status(2, Self.computing, lacks: [])
        stranger.tables = ["other", "tables"]
        let graph = try graph([Self.status(0, Self.computing, lacks: []), stranger])
        #expect(graph.processes[2].silence == "silence of 2")
        #expect(WaitGraph([]) { _, _ in "" } == nil)
    }
}
