import GeePSCore
import Glibc
import Testing

@testable import GeePS

/// Control connections that are lost while all processes live: they are made anew, and what was lost is said again.
@Suite(.serialized) struct ControlReturnTests {
    private func soon() -> Deadline { .after(.seconds(30)) }

    /// Settings under which ranks may come back, as those of nodes.
    private func returning(
        silence: Duration = .seconds(20), isGone: @escaping @Sendable (Int) -> Bool = { _ in false }
    ) -> @Sendable (Int) -> ControlSettings {
        { _ in
            var settings = quiet(heartbeat: .milliseconds(20), silence: silence)
            settings.isGone = { isGone($0.rank) }
            return settings
        }
    }

    /// A job whose address is known.
    private func job(
        _ ranks: Int, settings: @escaping @Sendable (Int) -> ControlSettings
    ) throws -> (members: [Membership], port: UInt16, address: String) {
        let address = try freeAddress()
        let members = try onRanks(ranks) {
            join($0, of: ranks, at: address, settings: settings($0))
        }.map { try $0.get() }
        return (members, try ControlAddress(parsing: address).port, address)
    }

    @Test func everyCollectiveIsOneRoundWhileConnectionsAreLost() throws {
        let (members, port, _) = try job(3, settings: returning())
        for member in members {
            member.setStatusSource { [rank = UInt8(member.rank)] in [rank] }
        }
        let breaker = Breaker(ports: [port], every: .milliseconds(3))
        let patience = Deadline.after(.seconds(60))
        var rounds = 0
        while breaker.broken < 60, !patience.hasPassed {
            let results = onRanks(3) { [rounds] rank in
                (0..<20).map { index -> Bool in
                    let sum = try? members[rank].sum(
                        [Double(rounds + index), Double(rank)], label: "x", deadline: soon())
                    return sum == [Double(3 * (rounds + index)), 3]
                }
            }
            #expect(results.allSatisfy { !$0.contains(false) })
            rounds += 20
        }
        breaker.stop()
        #expect(breaker.broken >= 60, "\(rounds) rounds")
        // Who has lost its connection at the end comes back too.
        #expect(eventually { members[0].statuses(until: .after(.seconds(5))) == [[1], [2]] })
        let returns = members.map(\.counters.returns)
        // Rank 0 has counted also those whose connection was lost before the rank knew it was back.
        #expect(returns[1] > 5 && returns[2] > 5, "\(returns)")
        #expect(returns[0] >= returns[1] + returns[2], "\(returns)")
        #expect(leaveAll(members) == [true, true, true])
        #expect(members.allSatisfy { $0.failure == nil })
    }

    @Test func goodbyesAndTheFarewellAreNotLostWithAConnection() throws {
        for _ in 0..<20 {
            let (members, port, _) = try job(3, settings: returning())
            let breaker = Breaker(ports: [port], every: .milliseconds(1), atMost: 4)
            // Some are lost before, some after.
            usleep(1000)
            let results = leaveAll(members)
            breaker.stop()
            #expect(results == [true, true, true])
            #expect(members.allSatisfy { $0.failure == nil })
        }
    }

    @Test func anAbortIsNotLostWithAConnection() throws {
        for _ in 0..<10 {
            let (members, port, _) = try job(2, settings: returning())
            let breaker = Breaker(ports: [port], every: .milliseconds(1), atMost: 4)
            usleep(1000)
            members[1].abort(reason: "disk full")
            breaker.stop()
            #expect(eventually { members[0].failure != nil })
            #expect(members[0].failure?.kind == .aborted && members[0].failure?.rank == 1)
            leaveAll(members)
        }
    }

    /// The connection of a process that dies is lost like any other; the difference is that nobody listens any more.
    @Test func aProcessThatHasDiedIsNotWaitedFor() throws {
        let isGone = Shared(false)
        var (members, _, _): ([Membership?], UInt16, String) = try job(
            3, settings: returning { _ in isGone.value })
        members[2] = nil
        usleep(200_000)
        #expect(members[0]?.failure == nil && members[1]?.failure == nil)
        let start = monotonicNanoseconds()
        isGone.update { $0 = true }
        #expect(eventually { members[0]?.failure != nil && members[1]?.failure != nil })
        #expect(monotonicNanoseconds() - start < 5_000_000_000)
        #expect(members[1]?.failure?.rank == 2 && members[1]?.failure?.kind == .closed)
        leaveAll(members.compactMap { $0 })
    }

    @Test func whoDoesNotComeBackHasBeenSilent() throws {
        var (members, _, _): ([Membership?], UInt16, String) = try job(
            3, settings: returning(silence: .milliseconds(1500)))
        members[1] = nil
        #expect(eventually { members[0]?.failure != nil && members[2]?.failure != nil })
        #expect(members[2]?.failure?.rank == 1 && members[2]?.failure?.kind == .silent)
        leaveAll(members.compactMap { $0 })
    }

    @Test func rankZeroIsGoneWhereNobodyListens() throws {
        var (members, _, _): ([Membership?], UInt16, String) = try job(3, settings: returning())
        let start = monotonicNanoseconds()
        members[0] = nil
        #expect(eventually { members[1]?.failure != nil && members[2]?.failure != nil })
        #expect(monotonicNanoseconds() - start < 5_000_000_000)
        #expect(members[1]?.failure?.rank == 0 && members[1]?.failure?.kind == .closed)
        leaveAll(members.compactMap { $0 })
    }

    /// Knowing the secret is not enough to take a rank's place.
    @Test func anotherProcessOfTheJobCannotComeBackAsARank() throws {
        let (members, _, address) = try job(2, settings: returning())
        for (rank, identity) in [(1, UInt64(0)), (0, 0), (7, 0)] {
            let thief = try RawPeer(address, rank: rank)
            try #require(thief.authenticate(rank: rank))
            thief.link.send(.rejoin(Rejoin(rank: rank, identity: identity, heard: 0)))
            var answer: ControlMessage?
            #expect(
                eventually {
                    answer = (try? thief.link.receive())?.first ?? answer
                    return answer != nil || thief.link.ending != nil
                })
            guard case .refusal(let error) = answer else {
                Issue.record("\(String(describing: answer))")
                continue
            }
            #expect(error.message == "rank \(rank) of this job is another process")
        }
        let sums = onRanks(2) { try? members[$0].sum([1], label: "x", deadline: soon()) }
        #expect(sums == [[2], [2]] && members[0].counters.returns == 0)
        #expect(leaveAll(members) == [true, true])
    }

    /// Strangers at rank 0's port while the job runs: silent ones, ones without the secret, and late joiners.
    @Test func strangersAtTheOpenPortDisturbNobody() throws {
        let (members, _, address) = try job(2, settings: returning())
        var crowd: [RawPeer] = []
        for index in 0..<300 {
            let peer = try RawPeer(address, rank: 1)
            switch index % 3 {
            case 0: break
            case 1: peer.sendRaw(Array("GET / HTTP/1.1\r\nHost: geeps\r\n\r\n".utf8) + [0, 1, 2])
            default:
                if index < 30 { #expect(!peer.authenticate(rank: 1, secret: JobSecret())) }
            }
            crowd.append(peer)
        }
        let late = join(1, of: 2, at: address, timeout: .milliseconds(500))
        #expect(code(late) == .timeout, "\(message(late))")
        for _ in 0..<50 {
            let sums = onRanks(2) { try? members[$0].sum([1], label: "x", deadline: soon()) }
            #expect(sums == [[2], [2]])
        }
        #expect(leaveAll(members) == [true, true])
        withExtendedLifetime(crowd) {}
    }

    /// A process that says it has more than was said, or comes back twice at once.
    @Test func whatCannotHaveBeenHeardIsMalformed() throws {
        let address = try freeAddress()
        let joined = Shared(Joined?.none)
        let settings = returning()
        let thread = DedicatedThread(name: "rank 0") {
            let result = join(0, of: 2, at: address, settings: settings(0))
            joined.update { $0 = result }
        }
        let first = try RawPeer.joined(address, rank: 1, of: 2)
        thread.join()
        let member = try #require(joined.value).get()
        joined.update { $0 = nil }
        // The later connection takes the place of the earlier one, which is still open.
        let second = try RawPeer(address, rank: 1)
        try #require(second.authenticate(rank: 1))
        second.link.send(.rejoin(Rejoin(rank: 1, identity: 1, heard: 0)))
        #expect(
            eventually {
                ((try? second.link.receive()) ?? []).contains(.rejoined(heard: 0))
            })
        #expect(
            eventually {
                _ = try? first.link.receive()
                return first.link.ending != nil
            })
        #expect(member.failure == nil)
        let third = try RawPeer(address, rank: 1)
        try #require(third.authenticate(rank: 1))
        third.link.send(.rejoin(Rejoin(rank: 1, identity: 1, heard: 99)))
        #expect(eventually { member.failure != nil })
        #expect(member.failure?.kind == .malformed && member.failure?.rank == 1)
        #expect(
            member.failure?.detail == "99 messages received by its own word, 0 were sent")
        member.leave()
    }
}
