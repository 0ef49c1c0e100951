import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSTransport
import Glibc
import Testing

@testable import GeePS

/// What a process that is not of the job, or a broken one that is, does at the door of a data lane.
@Suite(.serialized) struct StrangerTests {
    /// What somebody who does not know the secret does.
    enum Visit: String, CaseIterable, Sendable {
        case garbage
        case halfAHeader
        case wrongSecret
        case reconnectWithoutTheSecret
        case noNonce
        case hugeFrameAnnounced
        case anotherKind
        case hangsUp
        case silence
    }

    static let ways: [Carrier] = [.tcp, .unixSocket, .sharedMemory]

    private func visit(
        _ visit: Visit, _ endpoint: Endpoint, by carrier: Carrier
    ) throws -> any Connection {
        let connection = try dial(
            endpoint, carrier: .fixed(carrier), deadline: .after(.seconds(20)))
        var hello = FrameHeader(.hello)
        hello.second = 1
        switch visit {
        case .garbage, .halfAHeader, .hugeFrameAnnounced:
            // Bytes that no connection would send need a socket of our own; TCP is the way all have.
            let socket = try ControlSocket.connect(
                to: ControlAddress(parsing: "\(endpoint)"), deadline: .after(.seconds(20)))
            var random = SplitMix64(state: 3)
            var bytes = random.bytes(visit == .halfAHeader ? 32 : 200)
            if visit == .hugeFrameAnnounced {
                hello.payloadBytes = UInt32(Limits.framePayloadBytesMaximum)
                bytes = [UInt8](repeating: 0, count: 64)
                bytes.withUnsafeMutableBytes { hello.encode(into: $0) }
            }
            _ = send(socket.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            usleep(20_000)
        case .wrongSecret, .reconnectWithoutTheSecret:
            // As if rank 0 had lost its lane to keeper 1 and came again.
            let isAgain = visit == .reconnectWithoutTheSecret
            let key = LaneKey(secret: JobSecret(), salt: [])
            let answer = try sayHello(
                connection, key: key, sender: 0, keeper: isAgain ? 1 : 0, lane: 0, lanes: 1,
                number: isAgain ? .max : 0)
            #expect(answer.kind == .refusal)
            #expect(answer.text.contains("secret"), "\(answer.text)")
        case .noNonce:
            try connection.sendBytes(hello)
            #expect(
                (try? connection.receive(deadline: .after(.seconds(20))).header.kind) == .refusal)
        case .anotherKind:
            try connection.sendBytes(FrameHeader(.push))
            #expect(
                (try? connection.receive(deadline: .after(.seconds(20))).header.kind) == .refusal)
        case .hangsUp: connection.close()
        case .silence: break
        }
        return connection
    }

    @Test(arguments: ways, Visit.allCases)
    func strangersAreTurnedAwayAndTrainingGoesOn(carrier: Carrier, visit: Visit) throws {
        let address = try freeAddress()
        let log = Shared<[String]>([])
        let nodes = try joinNodes(2) {
            nodeConfiguration($0, of: 2, at: address, keepers: 2, log: log)
        }.map { try $0.get() }
        try initialise(nodes[0])
        #expect(trainAll(nodes, clocks: 0..<1) == [0, 0])
        let endpoint = try Endpoint(decoding: nodes[1].membership.processes[1].endpoint)
        let guests = try (0..<3).map { _ in try self.visit(visit, endpoint, by: carrier) }
        #expect(trainAll(nodes, clocks: 1..<4) == [0, 0])
        // At most a line for each connection, of which some visits make two.
        #expect(log.value.count <= 6, "\(log.value)")
        #expect(nodes.allSatisfy { $0.client.counters.repairs.reconnects == 0 })
        let start = monotonicNanoseconds()
        #expect(leaveAll(nodes) == [true, true])
        // Nobody waits for a caller that has not said hello.
        #expect(monotonicNanoseconds() - start < 4_000_000_000)
        withExtendedLifetime(guests) {}
    }

    @Test func manySilentStrangersDoNotDelayTheEnd() throws {
        let address = try freeAddress()
        let log = Shared<[String]>([])
        let nodes = try joinNodes(2) {
            nodeConfiguration($0, of: 2, at: address, log: log)
        }.map { try $0.get() }
        try initialise(nodes[0])
        let endpoint = try Endpoint(decoding: nodes[0].membership.processes[0].endpoint)
        let guests = try (0..<100).map { _ in
            try dial(endpoint, carrier: .fixed(.tcp), deadline: .after(.seconds(20)))
        }
        #expect(trainAll(nodes, clocks: 0..<3) == [0, 0])
        let start = monotonicNanoseconds()
        #expect(leaveAll(nodes) == [true, true])
        #expect(monotonicNanoseconds() - start < 4_000_000_000)
        withExtendedLifetime(guests) {}
    }

    struct Hello: Sendable, CustomTestStringConvertible {
        var name: String
        var sender: Int
        var keeper: UInt64
        var lane: UInt64 = 0
        var lanes: UInt64 = 1
        var way: UInt32 = 0
        /// What the refusal says.
        var answer: String
        var testDescription: String { name }
    }

    static let hellos = [
        Hello(name: "keeper of another process", sender: 1, keeper: 1, answer: "keeper 1"),
        Hello(name: "no such keeper", sender: 1, keeper: 9, answer: "keeper 9"),
        Hello(name: "a keeper beyond Int", sender: 1, keeper: .max, answer: "keeper"),
        Hello(name: "a rank outside the job", sender: 2, keeper: 0, answer: "worker 2"),
        Hello(name: "the last lane and one", sender: 1, keeper: 0, lane: 1, answer: "lane 1 of 1"),
        Hello(name: "no lanes", sender: 1, keeper: 0, lanes: 0, answer: "lane 0 of 0"),
        Hello(name: "too many lanes", sender: 1, keeper: 0, lanes: 65, answer: "lane 0 of 65"),
        Hello(
            name: "a lane beyond Int", sender: 1, keeper: 0, lane: .max, lanes: .max, answer: "lane"
        ),
        Hello(name: "a lane that is open", sender: 1, keeper: 0, answer: "already"),
        Hello(name: "the process's own lane", sender: 0, keeper: 0, answer: "already"),
        Hello(
            name: "another count of lanes", sender: 1, keeper: 0, lane: 1, lanes: 2, answer: "lanes"
        ),
        Hello(name: "an unknown way", sender: 1, keeper: 0, way: 2, answer: "way 2"),
    ]

    /// Rank 1 speaks by hand: it knows the secret, and asks for what it must not have.
    @Test(arguments: hellos, ways)
    func aWrongHelloIsRefusedAndTrainingGoesOn(hello: Hello, carrier: Carrier) throws {
        let address = try freeAddress()
        let log = Shared<[String]>([])
        let results = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(
                    rank, of: 2, at: address, carrier: .fixed(carrier), log: log)
                if rank == 1 { return try askWrongly(RawRank(configuration), hello) }
                let node = try Node.join(configuration, device: HostDevice())
                try initialise(node)
                for clock in 0..<3 {
                    // Rank 1 makes no updates, so only the first part is there.
                    let wrong = try train(node, ranks: 1, clocks: clock..<clock + 1)
                    #expect(wrong == 0)
                }
                #expect(node.leave(within: .seconds(20)))
            }
        }
        #expect(results == [nil, nil])
        #expect(log.value.count == 1, "\(log.value)")
    }

    /// Opens its lane, asks for the wrong one, and takes part for three clocks without updates.
    private func askWrongly(_ raw: RawRank, _ hello: Hello) throws {
        let lane = try raw.lane()
        let second = try raw.dialled(0)
        let answer = try raw.hello(
            second, sender: hello.sender, keeper: hello.keeper, lane: hello.lane,
            lanes: hello.lanes, way: hello.way)
        #expect(answer.kind == .refusal)
        #expect(answer.text.contains(hello.answer), "\(answer.text)")
        let blocks = raw.configuration.map.blocksOfKeeper[0].count
        for _ in 0..<blocks { _ = try lane.receive(deadline: .after(.seconds(20))).header }
        for tick in 1...3 {
            for block in 0..<blocks {
                try lane.sendBytes(raw.push(block: block, tick: UInt64(tick)).header)
            }
            for _ in 0..<blocks {
                let rows = try lane.receive(deadline: .after(.seconds(20))).header
                #expect(rows.kind == .rows && rows.tick == UInt64(tick))
            }
        }
        try lane.sendBytes(FrameHeader(.goodbye))
        #expect(raw.membership.leave(within: .seconds(20)))
    }

    struct Crime: Sendable, CustomTestStringConvertible {
        var name: String
        /// Ticks pushed for block 0 before, in order.
        var before = 0
        var change: @Sendable (inout FrameHeader, inout [UInt8]) -> Void
        var words: String
        var testDescription: String { name }
    }

    static let crimes = [
        Crime(
            name: "a block that is not there", change: { h, _ in h.third = 999 }, words: "block 999"
        ),
        Crime(
            name: "a block beyond Int", change: { h, _ in h.third = .max },
            words: "block 4294967295"),
        Crime(
            name: "the rows of another block", change: { h, _ in h.firstRow += 2 },
            words: "rows 2+2"),
        Crime(name: "a row too few", change: { h, _ in h.rowCount -= 1 }, words: "rows 0+1"),
        Crime(name: "another table", change: { h, _ in h.table = 1 }, words: "table 1"),
        Crime(name: "a value too few", change: { _, p in p.removeLast(4) }, words: "1020 bytes"),
        Crime(
            name: "a value too many", change: { _, p in p += [0, 0, 0, 0] }, words: "1028 bytes"),
        Crime(name: "a gap", change: { h, _ in h.tick = 2 }, words: "gap(expected: 1)"),
        Crime(
            name: "a tick at the end of time", change: { h, _ in h.tick = .max },
            words: "gap(expected: 1)"),
        Crime(
            name: "too far ahead", before: 2, change: { h, _ in h.tick = 3 },
            words: "tooFarAhead(limit: "),
        Crime(name: "rows for a keeper", change: { h, _ in h.kind = .rows }, words: "a rows frame"),
        Crime(name: "a second hello", change: { h, _ in h.kind = .hello }, words: "a hello frame"),
        Crime(
            name: "control traffic", change: { h, _ in h.kind = .control }, words: "a control frame"
        ),
        Crime(
            name: "initial values from another rank than 0",
            change: { h, _ in h.kind = .initialise }, words: "only rank 0 gives them"),
        Crime(
            name: "a wrong checksum",
            change: { h, _ in
                h.flags = FrameHeader.payloadChecked
                h.payloadChecksum = 1
            }, words: "checksum"),
    ]

    /// Rank 1 says hello as it should and then breaks the protocol: the job fails, with its name.
    @Test(arguments: crimes, ways)
    func aBrokenPeerFailsTheJobByName(crime: Crime, carrier: Carrier) throws {
        let address = try freeAddress()
        let results = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(
                    rank, of: 2, at: address, carrier: .fixed(carrier))
                if rank == 1 { return try commit(crime, RawRank(configuration)) }
                let node = try Node.join(configuration, device: HostDevice())
                defer { node.leave(within: .seconds(5)) }
                try initialise(node)
                _ = try train(node, ranks: 1, clocks: 0..<2)
            }
        }
        let message = results[0] ?? "no failure"
        #expect(message.contains("rank 1 ("), "\(message)")
        #expect(message.contains(crime.words), "\(message)")
        #expect(results[1] == nil, "\(results[1] ?? "")")
    }

    private func commit(_ crime: Crime, _ raw: RawRank) throws {
        let lane = try raw.lane()
        let blocks = raw.configuration.map.blocksOfKeeper[0].count
        for _ in 0..<blocks { _ = try lane.receive(deadline: .after(.seconds(20))).header }
        for tick in 0..<crime.before {
            let push = raw.push(block: 0, tick: UInt64(tick + 1))
            try lane.sendBytes(push.header, push.payload)
        }
        var (header, payload) = raw.push(block: 0, tick: UInt64(crime.before + 1))
        crime.change(&header, &payload)
        try? lane.sendBytes(header, payload)
        #expect(eventually { raw.membership.failure != nil })
        let failure = "\(raw.membership.failure.map { "\($0)" } ?? "none")"
        #expect(failure.contains("rank 1 ("), "\(failure)")
        raw.membership.leave(within: .seconds(5))
    }

    /// Between the roster and the lanes: nobody answers there, and nobody waits until the time is up.
    @Test func aPeerThatDiesWhileLanesAreOpenedIsNamed() throws {
        let address = try freeAddress()
        let nowhere = try Endpoint(
            host: "127.0.0.1", port: ControlAddress(parsing: freeAddress()).port)
        let results = onRanks(2) { rank -> LaunchError? in
            let configuration = nodeConfiguration(
                rank, of: 2, at: address, keepers: 2, carrier: .fixed(.tcp)
            ).with { $0.joinTimeout = .seconds(300) }
            do throws(LaunchError) {
                if rank == 1 {
                    _ = try RawRank(configuration, endpoint: nowhere)
                } else {
                    _ = try Node.join(configuration, device: HostDevice())
                }
                return nil
            } catch {
                return error
            }
        }
        #expect(results.count == 2 && results[1] == nil)
        #expect(results[0]?.code == .peerLost)
        let message = results[0]?.message ?? "joined"
        #expect(message.contains("rank 1 (") && message.contains("is gone"), "\(message)")
    }

    static let keeperCrimes = [
        Crime(
            name: "a tick never pushed", change: { h, _ in h.second = 1 },
            words: "acknowledgesUnsent"),
        Crime(
            name: "a block that is not there", change: { h, _ in h.third = 99 }, words: "block 99"),
        Crime(
            name: "a block beyond Int", change: { h, _ in h.third = .max }, words: "block 184467"),
        Crime(name: "a row too many", change: { h, _ in h.rowCount += 1 }, words: "expected table"),
        Crime(name: "no values", change: { _, p in p = [] }, words: "in 0 bytes"),
        Crime(name: "a push", change: { h, _ in h.kind = .push }, words: "a push frame"),
        Crime(name: "a welcome", change: { h, _ in h.kind = .welcome }, words: "a welcome frame"),
    ]

    /// Rank 1 has keeper 1, and sends a worker what it must not believe.
    @Test(arguments: keeperCrimes, ways)
    func aBrokenKeeperIsNamed(crime: Crime, carrier: Carrier) throws {
        let address = try freeAddress()
        let listener = try Listener()
        defer { listener.close() }
        let results = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(
                    rank, of: 2, at: address, keepers: 2, carrier: .fixed(carrier), lanes: 1)
                if rank == 1 { return try keepBadly(crime, configuration, listener) }
                let node = try Node.join(configuration, device: HostDevice())
                defer {
                    node.membership.abort(reason: "the read has failed")
                    node.leave(within: .seconds(5))
                }
                _ = try train(node, ranks: 1, clocks: 0..<1)
            }
        }
        let message = results[0] ?? "no failure"
        #expect(message.contains("keeper 1 at rank 1 ("), "\(message)")
        #expect(message.contains(crime.words), "\(message)")
        #expect(results[1] == nil, "\(results[1] ?? "")")
    }

    private func keepBadly(
        _ crime: Crime, _ configuration: NodeConfiguration, _ listener: Listener
    ) throws {
        let raw = try RawRank(configuration, endpoint: listener.endpoint)
        let lane = try listener.accept(deadline: .after(.seconds(20)))
        let (_, proof) = try LaneHandshake.admit(
            lane, key: raw.key, deadline: .after(.seconds(20)))
        try lane.sendBytes(FrameHeader(.welcome), proof)
        let map = configuration.map
        let count = map.blocksOfKeeper[1].count
        try lane.sendBytes(
            FrameHeader(.resume),
            ResumePoint.encode(Array(repeating: ResumePoint(age: nil, tick: 0), count: count)))
        let block = map.blocks[map.blocksOfKeeper[1][0]]
        var header = FrameHeader(.rows)
        header.table = UInt32(block.table)
        header.firstRow = UInt64(block.rows.lowerBound)
        header.rowCount = UInt32(block.rows.count)
        var payload = [UInt8](repeating: 0, count: map.byteCount(of: block))
        crime.change(&header, &payload)
        try? lane.sendBytes(header, payload)
        #expect(eventually { raw.membership.failure != nil })
        raw.membership.leave(within: .seconds(5))
    }
}
