import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSTransport
import Glibc
import Testing

@testable import GeePS

/// A shape of a job.
struct JobShape: Sendable, CustomTestStringConvertible {
    var carrier: CarrierChoice
    var workers: Int
    var keepers: Int
    var lanes: Int

    var testDescription: String {
        "\(carrierName(carrier)), \(workers) workers, \(keepers) keepers, \(lanes) lanes"
    }

    static let all = nodeCarriers.flatMap { carrier in
        [2, 3].flatMap { workers in
            [1, 2, 3].flatMap { keepers in
                [1, 3].map {
                    JobShape(carrier: carrier, workers: workers, keepers: keepers, lanes: $0)
                }
            }
        }
    }
}

let nodeCarriers: [CarrierChoice] = [
    .fixed(.tcp), .fixed(.unixSocket), .fixed(.sharedMemory), .auto,
]

func carrierName(_ choice: CarrierChoice) -> String {
    switch choice {
    case .auto: Carrier.sharedMemory.rawValue
    case .fixed(let carrier): carrier.rawValue
    }
}

extension NodeConfiguration {
    /// A configuration with one thing changed.
    func with(_ change: (inout NodeConfiguration) -> Void) -> NodeConfiguration {
        var copy = self
        change(&copy)
        return copy
    }
}

@Suite(.serialized) struct NodeTests {
    @Test(arguments: JobShape.all) func sumsAreExactAndBytesAreCounted(shape: JobShape) throws {
        let address = try freeAddress()
        let nodes = try joinNodes(shape.workers) { rank in
            nodeConfiguration(
                rank, of: shape.workers, at: address, keepers: shape.keepers,
                carrier: shape.carrier, lanes: shape.lanes)
        }.map { try $0.get() }
        try initialise(nodes[0])
        #expect(trainAll(nodes, clocks: 0..<4) == Array(repeating: 0, count: shape.workers))
        let map = nodeConfiguration(0, of: shape.workers, at: address, keepers: shape.keepers).map
        let rows = map.blocks.reduce(0) { $0 + 64 + map.byteCount(of: $1) }
        let points = map.blocks.count * 16
        for (rank, node) in nodes.enumerated() {
            let outside = (0..<shape.keepers).count { $0 % shape.workers != rank } * shape.lanes
            let counters = node.client.counters
            let inside = (0..<shape.keepers).count { $0 % shape.workers == rank }
            // Hello and proof, challenge and welcome of every lane that leaves the process; resume points of all lanes;
            // rank 0's initial values.
            let opening = outside * 192 + (outside + inside) * 64 + points
            // And a header for each wait that was long enough to be told: at most one for a read or an update of
            // the four clocks.
            let notices = Int(counters.bytesSent) - (opening + rows * (rank == 0 ? 5 : 4))
            #expect(notices % 64 == 0, "rank \(rank)")
            #expect((0...(4 * 2 * smallTables.count)).contains(notices / 64), "rank \(rank)")
            #expect(counters.bytesReceived == UInt64(opening + rows * 5), "rank \(rank)")
            #expect(counters.repairs == RepairCounters())
            #expect(
                node.carriers
                    == (0..<shape.keepers).map {
                        $0 % shape.workers == rank
                            ? "in-process x1" : "\(carrierName(shape.carrier)) x\(shape.lanes)"
                    })
        }
        #expect(leaveAll(nodes) == Array(repeating: true, count: shape.workers))
    }

    /// Processes that only keep hold all rows; those that work reach them from outside.
    @Test(arguments: [1, 2, 3]) func processesMayOnlyKeep(keepers: Int) throws {
        let address = try freeAddress()
        let nodes = try joinNodes(4) { rank in
            nodeConfiguration(rank, of: 4, at: address, keepers: keepers).with {
                $0.workerCount = 2
            }
        }.map { try $0.get() }
        try initialise(nodes[0])
        #expect(trainAll(Array(nodes[0..<2]), clocks: 0..<3) == [0, 0])
        for node in nodes[0..<2] {
            #expect(node.carriers == Array(repeating: "shared-memory x1", count: keepers))
        }
        #expect(nodes[2].carriers.isEmpty && nodes[3].carriers.isEmpty)
        #expect(leaveAll(nodes) == Array(repeating: true, count: 4))
    }

    @Test(arguments: [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]])
    func processesMayStartInAnyOrder(order: [Int]) throws {
        let address = try freeAddress()
        let nodes = try joinNodes(3, delays: order.map { $0 * 60 }) {
            nodeConfiguration($0, of: 3, at: address, keepers: 3)
        }.map { try $0.get() }
        try initialise(nodes[0])
        #expect(trainAll(nodes, clocks: 0..<2) == [0, 0, 0])
        #expect(leaveAll(nodes) == [true, true, true])
    }

    /// In a process of its own, where nobody else starts threads or opens files.
    @Test func leavingGivesBackEveryThreadAndDescriptor() async {
        await #expect(processExitsWith: .success) {
            func entries(_ path: String) -> Int {
                guard let directory = opendir(path) else { return -1 }
                defer { closedir(directory) }
                var count = 0
                while readdir(directory) != nil { count += 1 }
                return count
            }
            func round(_ carrier: CarrierChoice) throws {
                let address = try freeAddress()
                let nodes = try joinNodes(3) {
                    nodeConfiguration(
                        $0, of: 3, at: address, keepers: 3, carrier: carrier, lanes: 2)
                }.map { try $0.get() }
                try initialise(nodes[0])
                guard trainAll(nodes, clocks: 0..<2) == [0, 0, 0],
                    leaveAll(nodes) == [true, true, true]
                else { exit(3) }
            }
            // Once to have what the process keeps for good.
            for carrier in nodeCarriers { try round(carrier) }
            usleep(100_000)
            let before = (entries("/proc/self/task"), entries("/proc/self/fd"))
            for carrier in nodeCarriers { for _ in 0..<3 { try round(carrier) } }
            let settled = eventually(within: .seconds(10)) {
                entries("/proc/self/task") <= before.0 && entries("/proc/self/fd") <= before.1
            }
            guard settled else { exit(4) }
        }
    }

    struct Disagreement: Sendable, CustomTestStringConvertible {
        var name: String
        var change: @Sendable (inout NodeConfiguration) -> Void
        var sides: [String]
        var testDescription: String { name }
    }

    static let disagreements = [
        Disagreement(
            name: "table layout",
            change: { $0.tables[0] = TableLayout(name: "weights", rowCount: 19) },
            sides: ["rank 0 has 18 rows of 128", "rank 1 has 19 rows of 128"]),
        Disagreement(
            name: "optimizer", change: { $0.optimizer.learningRate = 0.5 },
            sides: ["learning rate: rank 0 has 0.0", "rank 1 has 0.5"]),
        Disagreement(
            name: "staleness", change: { $0.staleness = .clocks(3) },
            sides: ["staleness: rank 0 has 0", "rank 1 has 3"]),
        Disagreement(
            name: "block bytes", change: { $0.blockBytes = 2048 },
            sides: ["block bytes: rank 0 has 1024", "rank 1 has 2048"]),
        Disagreement(
            name: "another table",
            change: { $0.tables.append(TableLayout(name: "extra", rowCount: 1)) },
            sides: ["table extra: rank 0 has nothing", "rank 1 has 1 rows of 128"]),
    ]

    @Test(arguments: disagreements)
    func processesThatDifferAreRefusedWithBothSides(disagreement: Disagreement) throws {
        let address = try freeAddress()
        let outcomes = joinNodes(2) { rank in
            nodeConfiguration(rank, of: 2, at: address).with {
                if rank == 1 { disagreement.change(&$0) }
            }
        }
        for outcome in outcomes {
            let error = reason(outcome)
            #expect(error?.code == .disagreement)
            for side in disagreement.sides {
                #expect(error?.message.contains(side) == true, "\(error?.message ?? "joined")")
            }
        }
    }

    @Test func aTimeoutNamesWhoIsMissing() throws {
        let address = try freeAddress()
        let outcomes = onRanks(2) { index in
            Result { () throws(LaunchError) in
                try Node.join(
                    nodeConfiguration(index * 2, of: 4, at: address).with {
                        $0.joinTimeout = .milliseconds(400)
                    }, device: HostDevice())
            }
        }
        for outcome in outcomes {
            #expect(reason(outcome)?.code == .timeout)
            let message = reason(outcome)?.message ?? "joined"
            #expect(message.contains("ranks 1 and 3 of 4 did not join"), "\(message)")
        }
    }

    @Test func aWaitThatExpiresNamesPeerTableRowsAndTick() throws {
        let address = try freeAddress()
        let outcomes = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(rank, of: 2, at: address, keepers: 2).with {
                    $0.waitTimeout = .milliseconds(300)
                }
                let node = try Node.join(configuration, device: HostDevice())
                defer { node.leave(within: .seconds(5)) }
                // Rank 1 never ends its clock.
                if rank == 0 { try initialise(node) }
                let batch = node.client.batch(of: 0)
                _ = try node.client.read(batch).age
                if rank == 1 {
                    try node.membership.barrier(label: "end", deadline: .after(.seconds(20)))
                    return
                }
                node.client.clock()
                defer {
                    try? node.membership.barrier(label: "end", deadline: .after(.seconds(20)))
                }
                _ = try node.client.read(batch).age
            }
        }
        let message = outcomes[0] ?? "no error"
        for part in ["table weights", "rows 0..<2", "age 1", "keeper 0", "have age 0"] {
            #expect(message.contains(part), "\(message)")
        }
        #expect(outcomes[1] == nil)
    }
}
