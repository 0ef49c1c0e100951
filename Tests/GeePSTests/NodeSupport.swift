import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSTransport
import Glibc
import Testing

@testable import GeePS

/// Two small tables in blocks of two rows, so that every keeper and lane has several and the last is short.
let smallTables = [
    TableLayout(name: "weights", valueCount: 2300), TableLayout(name: "bias", valueCount: 500),
]

/// What the nodes of a test job have in common; updates are added up, so that sums of whole numbers are exact.
func nodeConfiguration(
    _ rank: Int, of worldSize: Int, at address: String, keepers: Int = 1,
    carrier: CarrierChoice = .auto, lanes: Int? = nil, log: Shared<[String]>? = nil
) -> NodeConfiguration {
    var configuration = NodeConfiguration(
        tables: smallTables,
        optimizer: OptimizerConfiguration(rule: .add, learningRate: 0, reduction: .sum))
    configuration.rank = rank
    configuration.worldSize = worldSize
    configuration.keeperCount = keepers
    configuration.rendezvous = address
    configuration.carrier = carrier
    configuration.laneCount = lanes
    configuration.blockBytes = 1024
    configuration.waitTimeout = .seconds(60)
    configuration.control = quiet()
    if let log { configuration.control.log = { line in log.update { $0.append(line) } } }
    return configuration
}

typealias JoinedNode = Result<Node, LaunchError>

/// Joins a job of several nodes, each on a thread of its own; the outcomes in rank order.
func joinNodes(
    _ worldSize: Int, delays: [Int] = [],
    _ configuration: @escaping @Sendable (Int) -> NodeConfiguration
) -> [JoinedNode] {
    onRanks(worldSize) { rank in
        if rank < delays.count { usleep(UInt32(delays[rank]) * 1000) }
        return Result { () throws(LaunchError) in
            try Node.join(configuration(rank), device: HostDevice())
        }
    }
}

/// The reason why a node could not join.
func reason(_ joined: JoinedNode) -> LaunchError? {
    if case .failure(let error) = joined { return error }
    return nil
}

/// Leaves at all nodes together.
@discardableResult
func leaveAll(_ nodes: [Node]) -> [Bool] {
    onRanks(nodes.count) { nodes[$0].leave(within: .seconds(20)) }
}

/// The whole number that rank `rank` adds to value `index` in the clock that completes `tick`.
private func part(rank: Int, tick: Int, index: Int) -> Float {
    Float((rank + 1) * tick + index % 7)
}

/// What a value is when `ranks` workers have completed `ticks` clocks.
private func expected(ranks: Int, ticks: Int, index: Int) -> Float {
    var sum = Float(index % 11)
    for tick in 0..<ticks {
        for rank in 0..<ranks { sum += part(rank: rank, tick: tick + 1, index: index) }
    }
    return sum
}

/// Rank 0 gives all tables their values.
func initialise(_ node: Node) throws {
    for (table, layout) in smallTables.enumerated() {
        let values = (0..<layout.valueCount).map { Float($0 % 11) }
        try values.withUnsafeBufferPointer { try node.client.initialise(table, values: $0) }
    }
}

/// One worker's clocks from `first`, looking at every value before each.
///
/// - Returns: how many values were not what they should be.
func train(_ node: Node, ranks: Int, clocks: Range<Int>) throws -> Int {
    let client = node.client
    let batches = smallTables.indices.map { client.batch(of: $0) }
    var wrong = 0
    for clock in clocks {
        for batch in batches {
            let buffer = try client.read(batch)
            wrong += (0..<buffer.count).count {
                buffer.values[$0] != expected(ranks: ranks, ticks: clock, index: $0)
            }
            let update = try client.update(batch)
            for index in 0..<update.count {
                update.values[index] = part(
                    rank: node.membership.rank, tick: clock + 1, index: index)
            }
            update.finish()
        }
        client.clock()
    }
    for batch in batches {
        let buffer = try client.read(batch, isPlanned: false)
        wrong += (0..<buffer.count).count {
            buffer.values[$0] != expected(ranks: ranks, ticks: clocks.upperBound, index: $0)
        }
    }
    return wrong
}

/// Trains at all nodes together; wrong values by rank, nil where it failed.
func trainAll(_ nodes: [Node], clocks: Range<Int>) -> [Int?] {
    onRanks(nodes.count) { rank in
        try? train(nodes[rank], ranks: nodes.count, clocks: clocks)
    }
}

/// A process of the job that speaks by hand: it joins the membership and knows the key.
struct RawRank {
    let membership: Membership
    let key: LaneKey
    let configuration: NodeConfiguration

    /// Joins as `configuration.rank`; its lanes are to be reached at `endpoint`.
    init(_ configuration: NodeConfiguration, endpoint: Endpoint? = nil) throws(LaunchError) {
        self.configuration = configuration
        membership = try Rendezvous.join(
            rank: configuration.rank, worldSize: configuration.worldSize,
            address: configuration.rendezvous,
            description: ProcessDescription(
                rank: configuration.rank, endpoint: endpoint?.encoded() ?? [],
                agreement: configuration.fullAgreement),
            timeout: .seconds(20), settings: configuration.control)
        key = try LaneKey.agree(
            membership, secret: testSecret, deadline: .after(.seconds(20)))
    }

    /// A connection to the process of `rank` on which nothing was said.
    func dialled(_ rank: Int) throws -> any Connection {
        try dial(
            Endpoint(decoding: membership.processes[rank].endpoint),
            carrier: configuration.carrier, deadline: .after(.seconds(20)))
    }

    /// Says hello and returns the answer.
    func hello(
        _ connection: any Connection, sender: Int, keeper: UInt64, lane: UInt64 = 0,
        lanes: UInt64 = 1, number: UInt32 = 0, way: UInt32 = 0
    ) throws -> (kind: FrameKind, text: String) {
        try sayHello(
            connection, key: key, sender: UInt32(sender), keeper: keeper, lane: lane,
            lanes: lanes, number: number, way: way)
    }

    /// The lane to keeper 0, accepted; both sides have said that they have nothing.
    func lane(number: UInt32 = 0) throws -> any Connection {
        let connection = try dialled(0)
        let answer = try hello(
            connection, sender: configuration.rank, keeper: 0, number: number)
        #expect(answer.kind == .welcome, "\(answer.text)")
        let count = configuration.map.blocksOfKeeper[0].count
        try connection.sendBytes(
            FrameHeader(.resume),
            ResumePoint.encode(Array(repeating: ResumePoint(age: nil, tick: 0), count: count)))
        let header = try connection.receive(deadline: .after(.seconds(20))).header
        #expect(header.kind == .resume)
        return connection
    }

    /// A push of a whole block of keeper 0.
    func push(block index: Int, tick: UInt64) -> (header: FrameHeader, payload: [UInt8]) {
        let map = configuration.map
        let block = map.blocks[map.blocksOfKeeper[0][index]]
        var header = FrameHeader(.push)
        header.table = UInt32(block.table)
        header.sender = UInt32(configuration.rank)
        header.firstRow = UInt64(block.rows.lowerBound)
        header.rowCount = UInt32(block.rows.count)
        header.tick = tick
        header.third = UInt64(index)
        return (header, [UInt8](repeating: 0, count: map.byteCount(of: block)))
    }
}

/// Says hello by hand and waits for the answer.
func sayHello(
    _ connection: any Connection, key: LaneKey, sender: UInt32, keeper: UInt64, lane: UInt64,
    lanes: UInt64, number: UInt32 = 0, way: UInt32 = 0
) throws -> (kind: FrameKind, text: String) {
    var hello = FrameHeader(.hello)
    hello.sender = sender
    hello.table = number
    hello.tick = lane
    hello.second = lanes
    hello.third = keeper
    hello.rowCount = way
    do throws(TransportError) {
        try LaneHandshake.open(connection, hello: hello, key: key) { () throws(TransportError) in
            try connection.receive(deadline: .after(.seconds(20)))
        }
        return (.welcome, "")
    } catch {
        guard error.code == .refused else { throw error }
        return (.refusal, error.message)
    }
}

extension Connection {
    func sendBytes(_ header: FrameHeader, _ payload: [UInt8] = []) throws {
        try payload.withUnsafeBytes { try send(header, payload: $0) }
    }
}

/// The error of a wait that fails.
func failure(_ body: () throws -> Void) -> String? {
    do {
        try body()
        return nil
    } catch {
        return "\(error)"
    }
}
