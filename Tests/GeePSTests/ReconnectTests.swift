import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSTransport
import Glibc
import Testing

@testable import GeePS

/// Lanes that are lost while both processes live: they are made anew, and what was lost is sent again.
@Suite(.serialized) struct ReconnectTests {
    /// Workers, lanes and losses of a run.
    struct Storm: Sendable, CustomTestStringConvertible {
        var carrier: Carrier
        var staleness: Staleness
        var testDescription: String { "\(carrier.rawValue), staleness \(staleness)" }

        static let all = [Carrier.tcp, .unixSocket, .sharedMemory].flatMap { carrier in
            [Staleness.bulkSynchronous, .clocks(2), .unbounded].map {
                Storm(carrier: carrier, staleness: $0)
            }
        }
    }

    @Test(arguments: Storm.all) func sumsAreExactWhileLanesAreLost(storm: Storm) throws {
        let address = try freeAddress()
        let log = Shared<[String]>([])
        let nodes = try joinNodes(3) { rank in
            nodeConfiguration(
                rank, of: 3, at: address, keepers: 3, carrier: .fixed(storm.carrier), lanes: 2,
                log: log
            ).with { $0.staleness = storm.staleness }
        }.map { try $0.get() }
        let breaker = Breaker(nodes, every: .milliseconds(3))
        let patience = Deadline.after(.seconds(60))
        try initialise(nodes[0])
        var clocks = 0
        let wrong = Shared<[Int?]>([])
        repeat {
            let next = clocks + 20
            let range = clocks..<next
            let isLockStep = storm.staleness == .bulkSynchronous
            let results = onRanks(3) { rank in
                try? isLockStep
                    ? train(nodes[rank], ranks: 3, clocks: range)
                    : trainLoosely(nodes[rank], ranks: 3, clocks: range)
            }
            wrong.update { $0 += results }
            clocks = next
            // Not counted in clocks: other tests may keep the breaker from its work.
        } while breaker.broken < 60 && !patience.hasPassed
        breaker.stop()
        #expect(wrong.value.allSatisfy { $0 == 0 }, "\(wrong.value)")
        #expect(breaker.broken >= 60, "\(clocks) clocks")
        #expect(leaveAll(nodes) == [true, true, true])
        #expect(nodes.allSatisfy { $0.membership.failure == nil })
        // The last of the repairs may end, and be told, while all leave.
        let repairs = nodes.map(\.client.counters.repairs)
        #expect(repairs.contains { $0.reconnects > 0 && $0.nanoseconds > 0 })
        let lines = log.value.filter { $0.contains("was lost and is there again") }
        #expect(lines.count == repairs.reduce(0) { $0 + Int($1.reconnects) })
    }

    /// The goodbye itself may be lost, and the last updates before it.
    @Test(arguments: [Carrier.tcp, .unixSocket, .sharedMemory])
    func lanesAreLostWhileAllLeave(carrier: Carrier) throws {
        for _ in 0..<10 {
            let address = try freeAddress()
            let nodes = try joinNodes(2) { rank in
                nodeConfiguration(
                    rank, of: 2, at: address, keepers: 2, carrier: .fixed(carrier), lanes: 2)
            }.map { try $0.get() }
            try initialise(nodes[0])
            let breaker = Breaker(nodes, every: .milliseconds(4))
            #expect(trainAll(nodes, clocks: 0..<2) == [0, 0])
            // Updates that nobody waits for, and at once the goodbye.
            for node in nodes {
                for table in smallTables.indices {
                    let update = try node.client.update(node.client.batch(of: table))
                    for index in 0..<update.count { update.values[index] = 1 }
                    update.finish()
                }
                node.client.clock()
            }
            #expect(leaveAll(nodes) == [true, true])
            breaker.stop()
            #expect(nodes.allSatisfy { $0.membership.failure == nil })
        }
    }

    /// A connection that knows the secret and has a higher number takes the place of the lane's earlier one; what was
    /// pushed by both counts once.
    @Test func aLaterConnectionGoesOnWhereTheEarlierOneWas() throws {
        let address = try freeAddress()
        let results = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(
                    rank, of: 2, at: address, carrier: .fixed(.tcp), lanes: 1)
                if rank == 1 { return try pushTwice(RawRank(configuration)) }
                let node = try Node.join(configuration, device: HostDevice())
                try initialise(node)
                let batch = node.client.batch(of: 0)
                #expect(try node.client.read(batch).values[5] == 5)
                node.client.clock()
                // The 7 of rank 1's push, once.
                #expect(try node.client.read(batch, isPlanned: false).values[5] == 12)
                #expect(node.leave(within: .seconds(20)))
            }
        }
        #expect(results == [nil, nil])
    }

    private func pushTwice(_ raw: RawRank) throws {
        let blocks = raw.configuration.map.blocksOfKeeper[0].count
        func push(_ lane: any Connection, tick: UInt64) throws {
            for block in 0..<blocks {
                var (header, payload) = raw.push(block: block, tick: tick)
                payload.withUnsafeMutableBytes { bytes in
                    for index in 0..<bytes.count / 4 {
                        bytes.storeBytes(of: 7, toByteOffset: index * 4, as: Float.self)
                    }
                }
                header.sender = 1
                try lane.sendBytes(header, payload)
            }
        }
        let first = try raw.lane(number: 1)
        for _ in 0..<blocks { _ = try first.receive(deadline: .after(.seconds(20))).header }
        try push(first, tick: 1)
        for _ in 0..<blocks { _ = try first.receive(deadline: .after(.seconds(20))).header }
        let again = try raw.hello(raw.dialled(0), sender: 1, keeper: 0, number: 1)
        #expect(again.kind == .refusal && again.text.contains("already"), "\(again.text)")
        // The first one is still open here; whoever comes later has it closed.
        let second = try raw.dialled(0)
        #expect(try raw.hello(second, sender: 1, keeper: 0, number: 2).kind == .welcome)
        #expect(throws: TransportError.self) {
            while true { _ = try first.receive(deadline: .after(.seconds(20))).header }
        }
        // It says that it lacks half of the blocks.
        let points = (0..<blocks).map { ResumePoint(age: $0 % 2 == 0 ? 1 : 0, tick: 0) }
        try second.sendBytes(FrameHeader(.resume), ResumePoint.encode(points))
        let answer = try second.receive(deadline: .after(.seconds(20)))
        #expect(
            ResumePoint.decode(answer.payload, count: blocks)
                == Array(repeating: ResumePoint(age: 1, tick: 1), count: blocks))
        for block in 0..<blocks where block % 2 == 1 {
            let rows = try second.receive(deadline: .after(.seconds(20))).header
            #expect(rows.third == UInt64(block) && rows.tick == 1 && rows.second == 1)
        }
        try push(second, tick: 1)
        try second.sendBytes(FrameHeader(.goodbye))
        #expect(
            try second.receive(deadline: .after(.seconds(20))).header.kind == .goodbye)
        #expect(raw.membership.leave(within: .seconds(20)))
    }

    /// A rank that takes the other's lane, loses it, and is not to be reached any more.
    private func losingItsLane(
        _ configuration: NodeConfiguration, _ listener: Listener
    ) throws -> RawRank {
        let raw = try RawRank(configuration, endpoint: listener.endpoint)
        let lane = try listener.accept(deadline: .after(.seconds(20)))
        let (_, proof) = try LaneHandshake.admit(
            lane, key: raw.key, deadline: .after(.seconds(20)))
        try lane.sendBytes(FrameHeader(.welcome), proof)
        listener.close()
        lane.close()
        return raw
    }

    /// A keeper that lives but is not to be reached any more.
    @Test func aLaneThatCannotBeMadeAnewIsGivenUpInTime() throws {
        let address = try freeAddress()
        let listener = try Listener()
        let results = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(
                    rank, of: 2, at: address, keepers: 2, carrier: .fixed(.tcp), lanes: 1
                ).with { $0.reconnectTimeout = .milliseconds(300) }
                if rank == 1 {
                    let raw = try losingItsLane(configuration, listener)
                    #expect(eventually { raw.membership.failure != nil })
                    raw.membership.leave(within: .seconds(5))
                    return
                }
                let node = try Node.join(configuration, device: HostDevice())
                defer {
                    node.membership.abort(reason: "the read has failed")
                    node.leave(within: .seconds(5))
                }
                let start = monotonicNanoseconds()
                defer { #expect(monotonicNanoseconds() - start < 5_000_000_000) }
                _ = try train(node, ranks: 1, clocks: 0..<1)
            }
        }
        let message = results[0] ?? "no failure"
        #expect(message.contains("keeper 1 at rank 1 ("), "\(message)")
        #expect(message.contains("was not made anew within 0.3 seconds"), "\(message)")
        #expect(results[1] == nil)
    }

    /// While a lane is being made anew, the news that the peer is dead ends the wait at once.
    @Test func aDeadPeerIsNamedWhileItsLaneIsMadeAnew() throws {
        let address = try freeAddress()
        let listener = try Listener()
        let results = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(
                    rank, of: 2, at: address, keepers: 2, carrier: .fixed(.tcp), lanes: 1
                ).with { $0.reconnectTimeout = .seconds(300) }
                if rank == 1 {
                    let raw = try losingItsLane(configuration, listener)
                    withExtendedLifetime(raw) { _ = usleep(300_000) }
                    // Gone without a goodbye.
                    return
                }
                let node = try Node.join(configuration, device: HostDevice())
                defer { node.leave(within: .seconds(5)) }
                let start = monotonicNanoseconds()
                defer { #expect(monotonicNanoseconds() - start < 5_000_000_000) }
                _ = try train(node, ranks: 1, clocks: 0..<1)
            }
        }
        let message = results[0] ?? "no failure"
        #expect(message.contains("rank 1 (") && message.contains("is gone"), "\(message)")
        #expect(results[1] == nil)
    }
}

/// Clocks whose reads may lag; looks at the values when all updates must be in.
///
/// - Returns: how many values were not what they should be.
private func trainLoosely(_ node: Node, ranks: Int, clocks: Range<Int>) throws -> Int {
    let client = node.client
    let batches = smallTables.indices.map { client.batch(of: $0) }
    for clock in clocks {
        for batch in batches {
            _ = try client.read(batch).count
            let update = try client.update(batch)
            for index in 0..<update.count { update.values[index] = Float(clock % 3 + 1) }
            update.finish()
        }
        client.clock()
    }
    let sum = (0..<clocks.upperBound).reduce(0) { $0 + Float($1 % 3 + 1) } * Float(ranks)
    var wrong = 0
    let isThere = eventually(within: .seconds(20)) {
        wrong = batches.reduce(0) { total, batch in
            guard let buffer = try? client.read(batch, isPlanned: false) else { return total + 1 }
            return total
                + (0..<buffer.count).count { buffer.values[$0] != Float($0 % 11) + sum }
        }
        return wrong == 0
    }
    return isThere ? 0 : wrong
}

/// Breaks one connection after the other, as a router that forgets connections would.
///
/// Works on the sockets of this process that were accepted at certain ports.
final class Breaker: Sendable {
    private let ports: Set<UInt16>
    private let count = Shared(0)
    private let isStopped = Shared(false)
    private let thread: Shared<DedicatedThread?> = Shared(nil)

    /// Breaks the nodes' lanes.
    convenience init(_ nodes: [Node], every pause: Duration) {
        let ports = nodes.flatMap { node in
            node.membership.processes.compactMap { try? Endpoint(decoding: $0.endpoint).port }
        }
        self.init(ports: Set(ports), every: pause)
    }

    /// Breaks connections that were accepted at `ports`, at most so many.
    init(ports: Set<UInt16>, every pause: Duration, atMost most: Int = .max) {
        self.ports = ports
        let microseconds = UInt64(pause.components.attoseconds / 1_000_000_000_000)
        let running = DedicatedThread(name: "breaker") { [self] in
            var random = SplitMix64(state: 7)
            while !isStopped.value, broken < most {
                // From nothing to twice the pause: the last lane that is open must have a chance.
                usleep(UInt32(random.next() % (2 * microseconds)))
                breakOne(&random)
            }
        }
        thread.update { $0 = running }
    }

    /// Connections broken so far.
    var broken: Int { count.value }

    func stop() {
        isStopped.update { $0 = true }
        thread.value?.join()
    }

    private func breakOne(_ random: inout SplitMix64) {
        let candidates = connections()
        defer { for descriptor in candidates { close(descriptor) } }
        guard !candidates.isEmpty else { return }
        let chosen = candidates[Int(random.next() % UInt64(candidates.count))]
        var nobody = sockaddr()
        nobody.sa_family = sa_family_t(AF_UNSPEC)
        let isReset =
            random.next() % 2 == 0
            && connect(chosen, &nobody, socklen_t(MemoryLayout<sockaddr>.size)) == 0
        // The one sends a reset, the other an orderly end of the stream.
        if !isReset { shutdown(chosen, Int32(SHUT_RDWR)) }
        count.update { $0 += 1 }
    }

    /// Duplicates of the descriptors of all open ones, so that none can become another's meanwhile.
    private func connections() -> [Int32] {
        var found: [Int32] = []
        // All numbers first: a copy is one too.
        for number in (Int32(3)..<1024).filter({ fcntl($0, F_GETFD) >= 0 }) {
            let copy = fcntl(number, F_DUPFD_CLOEXEC, 3)
            guard copy >= 0 else { continue }
            if isOfPorts(copy) { found.append(copy) } else { close(copy) }
        }
        return found
    }

    private func isOfPorts(_ descriptor: Int32) -> Bool {
        var storage = sockaddr_storage()
        var length = socklen_t(MemoryLayout<sockaddr_storage>.size)
        let (status, isConnected) = withUnsafeMutablePointer(to: &storage) { pointer in
            pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { name in
                let isConnected = getpeername(descriptor, name, &length) == 0
                length = socklen_t(MemoryLayout<sockaddr_storage>.size)
                return (getsockname(descriptor, name, &length), isConnected)
            }
        }
        guard status == 0, isConnected else { return false }
        let family = Int32(storage.ss_family)
        return withUnsafeBytes(of: &storage) { bytes in
            switch family {
            case AF_INET:
                return ports.contains(UInt16(bytes[2]) << 8 | UInt16(bytes[3]))
            case AF_UNIX:
                guard length > 3 else { return false }
                let name = String(decoding: bytes[3..<Int(length)], as: UTF8.self)
                return ports.contains { name.hasPrefix("geeps-tcp-\($0)") }
            default: return false
            }
        }
    }
}
