import GeePSCore
import Glibc
import Testing

@testable import GeePS

@Suite(.serialized) struct MembershipTests {
    private func soon() -> Deadline { .after(.seconds(30)) }

    private func outcome<R>(_ body: () throws(LaunchError) -> R) -> LaunchError? {
        do throws(LaunchError) {
            _ = try body()
            return nil
        } catch {
            return error
        }
    }

    @Test(arguments: [1, 2, 5]) func sumsAreTakenInRankOrder(ranks: Int) throws {
        let members = try job(ranks)
        // The small ones vanish in one order of addition and survive in another.
        let parts: [[Double]] = (0..<ranks).map { rank in
            [[1e16, 1, -1e16, 1, 3][rank], Double(rank) + 0.1]
        }
        var expected = parts[0]
        for part in parts.dropFirst() {
            for index in part.indices { expected[index] += part[index] }
        }
        for round in 0..<5 {
            let sums = onRanks(ranks) { rank in
                usleep(UInt32((rank * 7 + round * 3) % ranks) * 2000)
                return try? members[rank].sum(parts[rank], label: "loss", deadline: soon())
            }
            for sum in sums { #expect(sum == expected) }
        }
        #expect(leaveAll(members) == Array(repeating: true, count: ranks))
    }

    @Test func sumsKeepOddNumbersAndTheirLimit() throws {
        let members = try job(2)
        let most = ControlLimits.collectiveBytes / 8
        let sums = onRanks(2) { rank in
            let large = try? members[rank].sum(
                Array(repeating: Double(rank + 1), count: most), label: "large", deadline: soon())
            let odd = try? members[rank].sum(
                [.infinity, -0.0], label: "odd", deadline: soon())
            let tooLarge = outcome { () throws(LaunchError) in
                try members[rank].sum(
                    Array(repeating: 0, count: most + 1), label: "large", deadline: soon())
            }
            return (large ?? [], odd ?? [], tooLarge)
        }
        for (large, odd, tooLarge) in sums {
            // Counted, because a difference would print all of them.
            #expect(large.count { $0 == 3 } == most)
            #expect(odd.first == .infinity && odd.last?.sign == .minus)
            #expect(tooLarge?.code == .argument)
        }
        leaveAll(members)
    }

    @Test func aBarrierWaitsForTheLast() throws {
        let members = try job(3)
        let arrived = Shared(0)
        let seen = onRanks(3) { rank in
            usleep(UInt32(rank) * 20_000)
            arrived.update { $0 += 1 }
            try? members[rank].barrier(label: "b", deadline: soon())
            return arrived.value
        }
        #expect(seen == [3, 3, 3])
        leaveAll(members)
    }

    @Test func broadcastGivesTheBytesOfRankZero() throws {
        let members = try job(3)
        let bytes = SplitMix64.bytes(seed: 5, count: 1 << 20)
        let received = onRanks(3) { rank in
            let given = rank == 0 ? bytes : [9, 9]
            return try? members[rank].broadcast(given, label: "seed", deadline: soon())
        }
        for found in received { #expect((found == bytes) as Bool) }
        leaveAll(members)
    }

    @Test func callsOfSeveralThreadsOfOneRankAreTakenOneByOne() throws {
        let members = try job(2)
        let sums = onRanks(8) { index in
            (0..<20).map { _ in
                (try? members[index % 2].sum([1], label: "x", deadline: soon())) ?? []
            }
        }
        for sum in sums.joined() { #expect(sum == [2]) }
        leaveAll(members)
    }

    @Test func differentLabelsAreAnErrorThatNamesBoth() throws {
        let members = try job(2)
        let errors = onRanks(2) { rank in
            outcome { () throws(LaunchError) in
                try members[rank].sum([1], label: rank == 0 ? "loss" : "norm", deadline: soon())
            }
        }
        for error in errors {
            #expect(error?.code == .mismatch)
            #expect(error?.message.contains("rank 0 called sum \"loss\"") == true)
            #expect(error?.message.contains("rank 1 called sum \"norm\"") == true)
        }
        // The round is over; the next one is a new one.
        let sums = onRanks(2) { try? members[$0].sum([2], label: "loss", deadline: soon()) }
        #expect(sums == [[4], [4]])
        leaveAll(members)
    }

    @Test func aDeadlineNamesTheRanksThatDidNotArrive() throws {
        let members = try job(4)
        let errors = onRanks(2) { rank in
            outcome { () throws(LaunchError) in
                try members[rank].sum(
                    [1], label: "loss",
                    deadline: .after(rank == 1 ? .milliseconds(200) : .seconds(30)))
            }
        }
        for error in errors {
            #expect(error?.code == .timeout)
            #expect(
                error?.message == "sum \"loss\": ranks 2 and 3 of 4 did not arrive within 0.2 s of "
                    + "the call of rank 1")
        }
        // Who comes late to a failed round hears the same.
        let late = outcome { () throws(LaunchError) in
            try members[2].sum([1], label: "loss", deadline: soon())
        }
        #expect(late == errors[0])
        for member in members { #expect(member.failure == nil) }
        leaveAll(members)
    }

    @Test(arguments: [0, 2])
    func aProcessThatEndsWithoutGoodbyeIsReportedEverywhere(dying: Int) throws {
        var members: [Membership?] = try job(4)
        let survivors = members.enumerated().filter { $0.offset != dying }.compactMap(\.element)
        let seen = Shared([String]())
        for member in survivors {
            member.onFailure { failure in seen.update { $0.append(failure.description) } }
        }
        let errors = Shared([LaunchError?]())
        let waiting = survivors.map { member in
            DedicatedThread(name: "waiting") {
                let error = outcome { () throws(LaunchError) in
                    try member.barrier(label: "b", deadline: soon())
                }
                errors.update { $0.append(error) }
            }
        }
        usleep(20_000)
        members[dying] = nil
        #expect(eventually(within: .seconds(10)) { seen.value.count == 3 })
        let text =
            "rank \(dying) (node\(dying), pid \(100 + dying)) is gone: its connection closed "
            + "without a goodbye"
        #expect(seen.value == [text, text, text])
        for thread in waiting { thread.join() }
        #expect(errors.value.map { $0?.code } == [.peerLost, .peerLost, .peerLost])
        #expect(errors.value.first??.message == "barrier \"b\": \(text)")
        for member in survivors {
            #expect(member.failure?.kind == .closed)
            let late = Shared(0)
            member.onFailure { _ in late.update { $0 += 1 } }
            #expect(late.value == 1)
            #expect(member.leave() == false)
        }
        #expect(seen.value.count == 3)
    }

    @Test(arguments: [0, 1])
    func aSilentProcessIsReportedEverywhere(silent: Int) throws {
        // Its threads live but send nothing after the first heartbeat.
        let members = try job(3) { rank in
            quiet(
                heartbeat: rank == silent ? .seconds(3600) : .milliseconds(50),
                silence: rank == silent ? .seconds(3600) : .milliseconds(1500))
        }
        #expect(eventually { members.allSatisfy { $0.failure != nil } })
        for member in members {
            #expect(member.failure?.rank == silent)
            #expect(member.failure?.kind == .silent)
            let text = member.failure?.description ?? ""
            #expect(
                text.hasPrefix(
                    "rank \(silent) (node\(silent), pid \(100 + silent)) has been silent for "))
        }
        leaveAll(members)
    }

    @Test func heartbeatsKeepAnIdleJobAlive() throws {
        let members = try job(3) { _ in
            quiet(heartbeat: .milliseconds(20), silence: .seconds(2))
        }
        #expect(eventually { members.allSatisfy { $0.counters.heartbeatsReceived > 110 } })
        for member in members {
            #expect(member.failure == nil)
            #expect(member.counters.heartbeatsSent > 100)
            #expect(member.counters.longestSilenceNanoseconds > 0)
        }
        #expect(leaveAll(members) == [true, true, true])
    }

    @Test(arguments: [0, 1]) func anAbortGivesItsReasonToAll(aborting: Int) throws {
        let members = try job(3)
        members[aborting].abort(reason: "disk full")
        // The aborting rank hears it last, so the others have been sent it already.
        #expect(members[aborting].failure?.kind == .aborted)
        #expect(eventually { members.allSatisfy { $0.failure != nil } })
        for member in members {
            #expect(
                member.failure?.description
                    == "rank \(aborting) (node\(aborting), pid \(100 + aborting)) failed: disk full"
            )
        }
        leaveAll(members)
    }

    @Test func theFirstFailureWins() throws {
        let members = try job(4)
        onRanks(4) { members[$0].abort(reason: "reason \($0)") }
        #expect(eventually { members.allSatisfy { $0.failure != nil } })
        #expect(Set(members.map(\.failure)).count == 1)
        leaveAll(members)
    }

    @Test func aLongReasonIsCut() throws {
        let members = try job(2)
        members[1].abort(reason: String(repeating: "ü", count: 100_000))
        #expect(eventually { members[0].failure != nil })
        #expect(members[0].failure?.kind == .aborted)
        #expect(members[0].failure?.detail.hasSuffix("ü...") == true)
        leaveAll(members)
    }

    @Test func whoLeavesEarlyIsNotDead() throws {
        let members = try job(3)
        let other = DedicatedThread(name: "early") {
            _ = members[2].leave(within: .milliseconds(50))
        }
        other.join()
        usleep(100_000)
        #expect(members[0].failure == nil && members[1].failure == nil)
        let error = outcome { () throws(LaunchError) in
            try members[1].barrier(label: "end", deadline: soon())
        }
        #expect(error?.code == .left)
        #expect(
            error?.message
                == "barrier \"end\": rank 2 of 3 said goodbye and will not take part")
        #expect(leaveAll(Array(members[..<2])) == [true, true])
        #expect(members[0].failure == nil && members[1].failure == nil)
    }

    @Test func rankZeroWaitsForTheOthersAndSaysSoWhenItStops() throws {
        let members = try job(3)
        #expect(members[0].leave(within: .milliseconds(100)) == false)
        #expect(eventually { members[1].failure != nil && members[2].failure != nil })
        #expect(
            members[1].failure?.description
                == "rank 0 (node0, pid 100) left before the others had finished: it had waited "
                + "0.1 s for ranks 1 and 2")
        #expect(members[0].failure == nil)
        leaveAll(members)
    }

    @Test func nothingCanBeCalledAfterLeaving() throws {
        let members = try job(2)
        leaveAll(members)
        let error = outcome { () throws(LaunchError) in
            try members[1].barrier(label: "b", deadline: soon())
        }
        #expect(error?.code == .left)
        #expect(members[1].leave() == true)
    }

    @Test func threadsAndDescriptorsAreGivenBack() throws {
        func entries(_ path: String) -> Int {
            guard let directory = opendir(path) else { return 0 }
            defer { closedir(directory) }
            var count = 0
            while readdir(directory) != nil { count += 1 }
            return count
        }
        leaveAll(try job(3))
        let descriptors = entries("/proc/self/fd")
        let threads = entries("/proc/self/task")
        for round in 0..<40 {
            var members = try job(3)
            switch round % 3 {
            case 0: leaveAll(members)
            case 1: members[round % 2].abort(reason: "test")
            default: members.removeLast()
            }
        }
        // Other suites of this process have some open for a time; what leaks stays.
        #expect(eventually { entries("/proc/self/fd") < descriptors + 40 })
        #expect(eventually { entries("/proc/self/task") < threads + 40 })
    }

    @Test func anUnknownOptionalMessageIsIgnored() throws {
        try withRawRank { member, peer in
            peer.link.send(.unknownOptional(200))
            peer.sendRaw(frame([128, 1, 2, 3]))
            peer.link.send(
                .contribution(
                    Contribution(
                        sequence: 1, operation: .barrier, label: "b",
                        patienceNanoseconds: 1 << 40, payload: [])))
            try member.barrier(label: "b", deadline: soon())
        }
    }

    @Test func everyTurnedBitOfAFrameIsNoticed() throws {
        let part = Contribution(
            sequence: 1, operation: .sum, label: "x", patienceNanoseconds: 1, payload: [])
        let bytes = ControlMessage.contribution(part).frame(sender: 1)
        for bit in stride(from: 0, to: bytes.count * 8, by: 13) {
            try withRawRank { member, peer in
                var turned = bytes
                turned[bit / 8] ^= 1 << UInt8(bit % 8)
                peer.sendRaw(turned)
                try #require(eventually { member.failure != nil })
                #expect(member.failure?.kind == .malformed)
                #expect(
                    member.failure?.description.hasPrefix(
                        "rank 1 (node1, pid 101) sent what the control format forbids: ") == true)
            }
        }
    }

    @Test(
        arguments: [
            [0], [12], [99], [1], [4, 3], [9, 0, 0, 0, 0, 1, 0, 0, 0, 0], [5, 0], [11],
            [6, 2, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        ] as [[UInt8]])
    func aMessageAgainstTheRulesEndsTheJobWithItsSender(payload: [UInt8]) throws {
        try withRawRank { member, peer in
            peer.sendRaw(frame(payload))
            try #require(eventually { member.failure != nil })
            #expect(member.failure?.kind == .malformed && member.failure?.rank == 1)
        }
    }

    @Test func randomMessagesNeverTrap() throws {
        var random = SplitMix64(state: 3)
        for _ in 0..<50 {
            let payloads = (0..<20).map { _ -> [UInt8] in
                [UInt8(random.next() % 14)] + random.bytes(Int(random.next() % 60))
            }
            try withRawRank { member, peer in
                for payload in payloads { peer.sendRaw(frame(payload)) }
                try #require(eventually { member.failure != nil })
                #expect(member.failure?.rank == 1)
            }
        }
    }

    @Test func aFrameCutShortIsALostPeer() throws {
        try withRawRank { member, peer in
            peer.sendRaw(Array(ControlMessage.heartbeat(heard: 0).frame(sender: 1).dropLast(3)))
            shutdown(peer.descriptor.number, Int32(SHUT_RDWR))
            try #require(eventually { member.failure != nil })
            #expect(member.failure?.kind == .closed)
        }
    }

    /// A control frame around `payload`, checksums right.
    private func frame(_ payload: [UInt8]) -> [UInt8] {
        var header = FrameHeader(.control)
        header.flags = FrameHeader.payloadChecked
        header.payloadBytes = UInt32(payload.count)
        header.payloadChecksum = payload.withUnsafeBytes { crc32c($0) }
        var bytes = [UInt8](repeating: 0, count: Limits.frameHeaderBytes)
        bytes.withUnsafeMutableBytes { header.encode(into: $0) }
        return bytes + payload
    }

    /// A job of two whose rank 1 is spoken by hand.
    private func withRawRank(_ body: (Membership, RawPeer) throws -> Void) throws {
        let address = try freeAddress()
        let joined = Shared(Joined?.none)
        let thread = DedicatedThread(name: "rank 0") {
            let result = join(0, of: 2, at: address)
            joined.update { $0 = result }
        }
        let peer = try RawPeer.joined(address, rank: 1, of: 2)
        thread.join()
        let member = try #require(joined.value).get()
        joined.update { $0 = nil }
        try body(member, peer)
        shutdown(peer.descriptor.number, Int32(SHUT_RDWR))
    }
}

extension SplitMix64 {
    static func bytes(seed: UInt64, count: Int) -> [UInt8] {
        var random = SplitMix64(state: seed)
        return random.bytes(count)
    }
}
