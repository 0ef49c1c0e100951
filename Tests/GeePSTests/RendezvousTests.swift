import GeePSCore
import Glibc
import Testing

@testable import GeePS

@Suite(.serialized) struct RendezvousTests {
    @Test(arguments: [1, 2, 5], [false, true])
    func everybodyFindsEverybodyInAnyOrderOfStart(ranks: Int, rankZeroLast: Bool) throws {
        let address = try freeAddress()
        let joined = onRanks(ranks) { rank in
            let place = rankZeroLast ? ranks - 1 - rank : rank
            usleep(UInt32(place) * 30_000)
            return join(rank, of: ranks, at: address)
        }
        let members = try joined.map { try $0.get() }
        for (rank, member) in members.enumerated() {
            #expect(member.rank == rank)
            #expect(member.worldSize == ranks)
            #expect(member.processes == (0..<ranks).map { describe($0) })
            #expect(member.failure == nil)
        }
        #expect(leaveAll(members) == Array(repeating: true, count: ranks))
    }

    @Test func rankZeroMayHaveTheSystemChooseThePort() throws {
        let address = Shared("")
        var settings = quiet()
        settings.onListening = { found in address.update { $0 = found } }
        let rankZero = settings
        let joined = onRanks(2) { rank in
            if rank == 0 { return join(0, of: 2, at: "127.0.0.1:0", settings: rankZero) }
            _ = eventually { !address.value.isEmpty }
            return join(1, of: 2, at: address.value)
        }
        leaveAll(try joined.map { try $0.get() })
    }

    @Test func aPortIsFreeForTheNextRunAtOnce() throws {
        let address = try freeAddress()
        for _ in 0..<3 {
            let members = try onRanks(2) { join($0, of: 2, at: address) }.map { try $0.get() }
            leaveAll(members)
        }
    }

    @Test func theMissingAreNamedAtEveryRank() throws {
        let address = try freeAddress()
        let present = [0, 1, 3, 4]
        let joined = onRanks(4) {
            join(present[$0], of: 6, at: address, timeout: .milliseconds(900))
        }
        for result in joined {
            #expect(code(result) == .timeout)
            #expect(
                message(result).hasPrefix("ranks 2 and 5 of 6 did not join within 0.9 s: "))
            #expect(message(result).contains(address))
        }
    }

    @Test func aSilentRankZeroIsNamedWithTheReason() throws {
        let address = try freeAddress()
        let joined = join(1, of: 2, at: address, timeout: .milliseconds(300))
        #expect(code(joined) == .timeout)
        #expect(
            message(joined).hasPrefix(
                "rank 0 at \(address) did not answer rank 1 within 0.3 s: Connection refused; "))
    }

    @Test func somethingElseAtThePortIsNamed() throws {
        let place = try ControlAddress(parsing: "127.0.0.1:0")
        let (listener, port) = try ControlSocket.listen(at: place)
        let isDone = Shared(false)
        let server = DedicatedThread(name: "not GeePS") {
            var kept: [Descriptor] = []
            while !isDone.value {
                if let (socket, _) = (try? ControlSocket.accept(from: listener)) ?? nil {
                    let text = Array(
                        "HTTP/1.1 400 Bad Request\r\n\(String(repeating: "-", count: 80))".utf8)
                    _ = send(socket.number, text, text.count, Int32(MSG_NOSIGNAL))
                    kept.append(socket)
                }
                usleep(1000)
            }
        }
        let joined = join(1, of: 2, at: "127.0.0.1:\(port)", timeout: .milliseconds(300))
        isDone.update { $0 = true }
        server.join()
        #expect(message(joined).contains("something other than GeePS answered: not a GeePS frame"))
    }

    @Test func twoProcessesOfOneRankAreRefusedEverywhere() throws {
        let address = try freeAddress()
        let ranks = [0, 1, 2, 2]
        let joined = onRanks(4) { join(ranks[$0], of: 4, at: address) }
        for result in joined {
            #expect(code(result) == .rank)
            #expect(
                message(result) == "two processes joined as rank 2: rank 2 (node2, pid 102) and "
                    + "rank 2 (node2, pid 102); each process needs a rank of its own")
        }
    }

    @Test func differentWorldSizesAreRefusedAtBothSides() throws {
        let address = try freeAddress()
        let joined = onRanks(2) { join($0, of: $0 == 0 ? 2 : 3, at: address) }
        for result in joined {
            #expect(code(result) == .worldSize)
            #expect(
                message(result) == "rank 1 (node1, pid 101) was started for a world size of 3, "
                    + "rank 0 (node0, pid 100) for 2")
        }
    }

    @Test func differingAgreementsAreShownAtBothSides() throws {
        let address = try freeAddress()
        let texts = [
            "layout: 3 tables\noptimizer: sgd\nblock: 512\n",
            "layout: 3 tables\noptimizer: adam\nblock: 512\nversion: 2\n",
        ]
        let joined = onRanks(2) { join($0, of: 2, at: address, agreement: texts[$0]) }
        for result in joined {
            #expect(code(result) == .disagreement)
            #expect(
                message(result) == """
                    rank 0 (node0, pid 100) and rank 1 (node1, pid 101) do not agree:
                      optimizer: rank 0 has sgd, rank 1 has adam
                      version: rank 0 has nothing, rank 1 has 2
                    """)
        }
    }

    @Test func aRefusalReachesThoseWhoComeALittleLater() throws {
        let address = try freeAddress()
        let joined = onRanks(4) { rank in
            if rank == 3 { usleep(300_000) }
            return join(
                rank, of: 4, at: address, agreement: rank == 1 ? "a: 1" : "a: 2",
                settings: quiet(linger: .seconds(20)))
        }
        for result in joined { #expect(code(result) == .disagreement) }
    }

    /// A rank that finds a wrong file does not let the others wait for it.
    @Test(arguments: [0, 1, 2]) func whoDeclinesEndsTheWaitOfAll(decliner: Int) throws {
        let address = try freeAddress()
        let joined = onRanks(3) { rank -> Joined? in
            usleep(UInt32((rank * 2) % 3) * 30_000)
            guard rank == decliner else { return join(rank, of: 3, at: address) }
            Rendezvous.decline(
                rank: rank, worldSize: 3, address: address, reason: "no data at /nowhere",
                settings: quiet())
            return nil
        }
        for outcome in joined.compactMap({ $0 }) {
            #expect(code(outcome) == .peerLost)
            let text = message(outcome)
            #expect(text.contains("rank \(decliner) ("), "\(text)")
            #expect(text.contains("could not take part in the job: no data at /nowhere"), "\(text)")
        }
    }

    @Test func whenAllDeclineNobodyWaits() throws {
        let address = try freeAddress()
        let start = monotonicNanoseconds()
        onRanks(3) { rank in
            Rendezvous.decline(
                rank: rank, worldSize: 3, address: address, reason: "no data",
                patience: .seconds(30), settings: quiet())
        }
        #expect(monotonicNanoseconds() - start < 15_000_000_000)
    }

    @Test func aRankThatDiesBeforeTheStartMayComeAgain() throws {
        let address = try freeAddress()
        let joined = onRanks(3) { rank in
            switch rank {
            case 0: return join(0, of: 3, at: address)
            case 1:
                if let peer = try? RawPeer(address) { _ = peer }
                _ = eventually {
                    guard let peer = try? RawPeer(address), peer.authenticate(rank: 1) else {
                        return false
                    }
                    let request = JoinRequest(worldSize: 3, identity: 5, process: describe(1))
                    peer.link.send(.join(request))
                    usleep(50_000)
                    return true
                }
                return join(1, of: 3, at: address)
            default:
                usleep(300_000)
                return join(2, of: 3, at: address)
            }
        }
        leaveAll(try joined.map { try $0.get() })
    }

    @Test func strangersDoNotDisturbAndAreLoggedOnce() throws {
        let address = try freeAddress()
        let lines = Shared([String]())
        var settings = quiet(handshake: .milliseconds(200))
        settings.log = { line in lines.update { $0.append(line) } }
        let rankZero = settings
        let joined = onRanks(2) { rank in
            if rank == 0 { return join(0, of: 2, at: address, settings: rankZero) }
            _ = eventually { (try? RawPeer(address)) != nil }
            let silent = try? RawPeer(address)
            var random = SplitMix64(state: 11)
            for index in 0..<1000 {
                guard let peer = try? RawPeer(address) else { continue }
                var bytes = random.bytes(Int(random.next() % 300))
                if index % 4 == 0 {
                    // A real frame, cut short or with one bit turned.
                    let request = JoinRequest(worldSize: 2, identity: 5, process: describe(1))
                    bytes = ControlMessage.join(request).frame(sender: 1)
                    let bit = Int(random.next() % UInt64(bytes.count * 8))
                    if index % 8 == 0 {
                        bytes[bit / 8] ^= 1 << UInt8(bit % 8)
                    } else {
                        bytes.removeLast(bit / 8 + 1)
                    }
                }
                peer.sendRaw(bytes)
            }
            _ = silent
            return join(1, of: 2, at: address)
        }
        leaveAll(try joined.map { try $0.get() })
        #expect(lines.value.count == 2)
        #expect(lines.value.first?.hasPrefix("rendezvous: turned away 127.0.0.1:") == true)
        // Those of the last moment are still undecided when the job is complete.
        let turnedAway = lines.value.last.flatMap { Int($0.split(separator: " ")[3]) } ?? 0
        #expect((800...1002).contains(turnedAway))
    }

    @Test func aConnectionThatSaysNothingIsDroppedAfterTheHandshakeTime() throws {
        let address = try freeAddress()
        let lines = Shared([String]())
        let ends = Shared(0)
        var settings = quiet(handshake: .milliseconds(100))
        settings.log = { line in lines.update { $0.append(line) } }
        let rankZero = settings
        let joined = onRanks(2) { rank in
            if rank == 0 { return join(0, of: 2, at: address, settings: rankZero) }
            _ = eventually { (try? RawPeer(address)) != nil }
            if let silent = try? RawPeer(address),
                eventually({
                    silent.link.discard()
                    return silent.link.ending != nil
                })
            {
                ends.update { $0 += 1 }
            }
            return join(1, of: 2, at: address)
        }
        #expect(ends.value == 1)
        leaveAll(try joined.map { try $0.get() })
    }

    @Test func aPeerOfAnotherVersionLearnsWhy() throws {
        let address = try freeAddress()
        let answers = Shared([ControlMessage]())
        let joined = onRanks(2) { rank in
            if rank == 0 { return join(0, of: 2, at: address) }
            _ = eventually { (try? RawPeer(address)) != nil }
            if let peer = try? RawPeer(address) {
                var bytes = ControlMessage.heartbeat(heard: 0).frame(sender: 1)
                bytes[4] = 9
                peer.sendRaw(bytes)
                _ = eventually {
                    let found = ((try? peer.link.receive()) ?? []).filter {
                        if case .challenge = $0 { false } else { true }
                    }
                    answers.update { $0 += found }
                    return !found.isEmpty || peer.link.ending != nil
                }
            }
            return join(1, of: 2, at: address)
        }
        leaveAll(try joined.map { try $0.get() })
        guard case .refusal(let error)? = answers.value.first else {
            Issue.record("no refusal: \(answers.value)")
            return
        }
        #expect(error.message.contains("frame version 9, this program speaks 4"))
    }

    /// 192.0.2.0/24 is nobody's: rank 0 does not listen on all interfaces for it.
    @Test func rankZeroListensWhereItIsToldAndNowhereElse() throws {
        let port = try ControlAddress(parsing: freeAddress()).port
        let refused = join(0, of: 2, at: "192.0.2.7:\(port)")
        #expect(code(refused) == .address)
        #expect(message(refused).contains("it is no address of this machine"))
        let listening = Shared(false)
        var settings = quiet()
        settings.interface = "127.0.0.1"
        settings.onListening = { _ in listening.update { $0 = true } }
        let waited = join(
            0, of: 2, at: "192.0.2.7:\(port)", timeout: .milliseconds(300), settings: settings)
        #expect(code(waited) == .timeout && listening.value)
    }

    @Test(arguments: ["127.0.0.1", "[::1]"]) func theInterfaceIsTheOneThatLeadsToRankZero(
        host: String
    ) throws {
        let address = try ControlAddress(parsing: "\(host):29500")
        let found = try ControlSocket.localAddress(toward: address, deadline: .after(.seconds(1)))
        #expect(found == address.host)
    }

    @Test func aNameThatIsNoneIsTriedAndNamed() throws {
        let address = try ControlAddress(parsing: "no-such-host.invalid:29500")
        #expect {
            try ControlSocket.localAddress(toward: address, deadline: .after(.milliseconds(300)))
        } throws: {
            ($0 as? LaunchError)?.code == .address && "\($0)".contains("no-such-host.invalid")
        }
    }

    @Test func aPortInUseIsNamed() throws {
        let place = try ControlAddress(parsing: "127.0.0.1:0")
        let (listener, port) = try ControlSocket.listen(at: place)
        let joined = join(0, of: 2, at: "127.0.0.1:\(port)")
        withExtendedLifetime(listener) {}
        #expect(code(joined) == .address)
        #expect(
            message(joined).hasPrefix(
                "rank 0 cannot listen at 127.0.0.1:\(port): Address already in use; "))
    }

    @Test(arguments: [
        (1, 2, "127.0.0.1:0", LaunchError.Code.address), (0, 2, "nowhere", .address),
        (0, 2, ":99", .address), (0, 2, "::1:99", .address), (0, 2, "host:65536", .address),
        (2, 2, "127.0.0.1:1", .rank), (-1, 2, "127.0.0.1:1", .rank),
        (0, 0, "127.0.0.1:1", .worldSize), (0, 4097, "127.0.0.1:1", .worldSize),
    ])
    func wrongArgumentsAreRefusedAtOnce(
        rank: Int, worldSize: Int, address: String, expected: LaunchError.Code
    ) {
        #expect(throws: LaunchError.self) {
            do throws(LaunchError) {
                _ = try Rendezvous.join(
                    rank: rank, worldSize: worldSize, address: address,
                    description: ProcessDescription(
                        rank: rank, host: "h", pid: 1, endpoint: [], agreement: ""),
                    timeout: .seconds(60))
            } catch {
                #expect(error.code == expected)
                throw error
            }
        }
    }

    @Test func addressesOfIPv6AreBracketed() throws {
        let address = try ControlAddress(parsing: "[::1]:9000")
        #expect(address.host == "::1" && address.port == 9000)
        #expect(address.description == "[::1]:9000")
    }

    @Test func agreementsDifferLineByLine() {
        let differences = agreementDifferences(
            "a: 1\na: 2\nb: x: y\nc", of: "left", "a: 1\na: 3\nb: x: z\nd: 4", of: "right")
        #expect(
            differences == [
                "a: left has 2, right has 3", "b: left has x: y, right has x: z",
                "c: left has this line, right has nothing", "d: left has nothing, right has 4",
            ])
        #expect(agreementDifferences("a: 1\nb: 2", of: "l", "b: 2\na: 1", of: "r").count == 1)
        #expect(agreementDifferences("a: 1", of: "l", "a: 1", of: "r").isEmpty)
    }

    @Test func rankListsReadWell() {
        #expect(rankList([3]) == "rank 3")
        #expect(rankList([2, 5]) == "ranks 2 and 5")
        #expect(rankList([1, 2, 5]) == "ranks 1, 2 and 5")
        #expect(rankList(Array(0..<18)).hasSuffix("14, 15 and 2 more"))
    }
}
