import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSTransport
import Glibc
import Testing

@testable import GeePS

/// What somebody who does not know the job's secret tries at the rendezvous, and what somebody tries who has listened.
@Suite(.serialized) struct HandshakeTests {
    /// Lets `visit` have its way with a rendezvous of two, then has rank 1 join: the job must come to be.
    ///
    /// - Returns: what rank 0 has logged.
    @discardableResult
    private func visitRendezvous(
        handshake: Duration = .seconds(20), _ visit: (String) throws -> Void
    ) throws -> [String] {
        let address = try freeAddress()
        let lines = Shared([String]())
        var settings = quiet(handshake: handshake)
        settings.log = { line in lines.update { $0.append(line) } }
        let rankZero = settings
        // The visit is on the test's own thread, so that what it expects is the test's.
        let host = Shared<Joined?>(nil)
        let thread = DedicatedThread(name: "rank 0") {
            let joined = join(0, of: 2, at: address, settings: rankZero)
            host.update { $0 = joined }
        }
        _ = eventually { (try? RawPeer(address)) != nil }
        #expect(throws: Never.self) { try visit(address) }
        let start = monotonicNanoseconds()
        let guest = join(1, of: 2, at: address, timeout: .seconds(20))
        #expect(monotonicNanoseconds() - start < 5_000_000_000)
        thread.join()
        leaveAll(try [#require(host.value), guest].map { try $0.get() })
        return lines.value
    }

    /// Whether rank 0 hangs up without having said anything but its challenge and why it refuses.
    private static func isTurnedAway(_ peer: RawPeer) -> Bool {
        var wasServed = false
        let isHungUp = eventually {
            for message in (try? peer.link.receive()) ?? [] {
                switch message {
                case .challenge, .refusal: break
                default: wasServed = true
                }
            }
            return peer.link.ending != nil
        }
        return isHungUp && !wasServed
    }

    private static func challenge(_ peer: RawPeer) throws -> [UInt8] {
        var nonce: [UInt8] = []
        _ = eventually {
            for message in (try? peer.link.receive()) ?? [] {
                if case .challenge(let found) = message { nonce = found }
            }
            return !nonce.isEmpty
        }
        try #require(nonce.count == Challenge.nonceBytes)
        return nonce
    }

    private static func answer(
        _ nonce: [UInt8], rank: Int = 1, secret: JobSecret = testSecret
    ) -> ControlMessage {
        let made = Challenge(
            purpose: .control, rank: UInt32(rank), callerNonce: Challenge.nonce(),
            listenerNonce: nonce)
        return .callerProof(
            rank: rank, nonce: made.callerNonce, proof: made.proof(by: .caller, key: secret.bytes))
    }

    private static let request = ControlMessage.join(
        JoinRequest(worldSize: 2, identity: 5, process: describe(1)))

    @Test func anotherSecretIsNoneAndIsLogged() throws {
        let lines = try visitRendezvous { address in
            let peer = try RawPeer(address)
            peer.link.send(Self.answer(try Self.challenge(peer), secret: JobSecret()))
            #expect(Self.isTurnedAway(peer))
        }
        #expect(
            lines.contains { $0.contains("rank 1 but does not know a job secret from") }, "\(lines)"
        )
    }

    @Test func joiningWithoutAProofIsRefused() throws {
        try visitRendezvous { address in
            let peer = try RawPeer(address)
            peer.link.send(Self.request)
            #expect(Self.isTurnedAway(peer))
        }
    }

    @Test func decliningWithoutAProofEndsNothing() throws {
        try visitRendezvous { address in
            let peer = try RawPeer(address)
            peer.link.send(.decline(describe(1), reason: "I say so"))
            #expect(Self.isTurnedAway(peer))
        }
    }

    /// Whoever has recorded a good handshake has nothing that opens another connection.
    @Test func aReplayedHandshakeIsRefused() throws {
        try visitRendezvous { address in
            let first = try RawPeer(address)
            let recorded = Self.answer(try Self.challenge(first))
            first.link.send(recorded)
            #expect(
                eventually {
                    ((try? first.link.receive()) ?? []).contains {
                        if case .listenerProof = $0 { true } else { false }
                    }
                })
            let second = try RawPeer(address)
            _ = try Self.challenge(second)
            second.link.send(recorded)
            second.link.send(Self.request)
            #expect(Self.isTurnedAway(second))
        }
    }

    @Test func aProofForOneRankIsNoneForAnother() throws {
        try visitRendezvous { address in
            let peer = try RawPeer(address)
            try #require(peer.authenticate(rank: 0))
            peer.link.send(Self.request)
            #expect(Self.isTurnedAway(peer))
        }
    }

    @Test func aSecondProofIsRefused() throws {
        try visitRendezvous { address in
            let peer = try RawPeer(address)
            let nonce = try Self.challenge(peer)
            peer.link.send(Self.answer(nonce))
            peer.link.send(Self.answer(nonce))
            #expect(
                eventually {
                    peer.link.discard(); return peer.link.ending != nil
                })
        }
    }

    /// Before the proof a frame may announce 4 KiB, and after it as much as a join needs.
    @Test(arguments: [
        (ControlLimits.handshakePayloadBytes + 1, false),
        (ControlLimits.joinPayloadBytes + 1, true),
    ])
    func anOversizedFrameIsNotWaitedFor(bytes: Int, isProven: Bool) throws {
        try visitRendezvous { address in
            let peer = try RawPeer(address)
            if isProven { try #require(peer.authenticate(rank: 1)) }
            var header = FrameHeader(.control)
            header.flags = FrameHeader.payloadChecked
            header.payloadBytes = UInt32(bytes)
            var encoded = [UInt8](repeating: 0, count: Limits.frameHeaderBytes)
            encoded.withUnsafeMutableBytes { header.encode(into: $0) }
            let start = monotonicNanoseconds()
            peer.sendRaw(encoded)
            #expect(Self.isTurnedAway(peer))
            // Long before the handshake time.
            #expect(monotonicNanoseconds() - start < 10_000_000_000)
        }
    }

    @Test func whoSpeaksSlowlyHasNoMoreTimeThanOthers() throws {
        try visitRendezvous(handshake: .milliseconds(300)) { address in
            let peer = try RawPeer(address)
            let bytes = Self.answer(try Self.challenge(peer)).frame(sender: 1)
            let start = monotonicNanoseconds()
            for byte in bytes where peer.link.ending == nil {
                peer.sendRaw([byte])
                usleep(20_000)
                peer.link.discard()
            }
            #expect(peer.link.ending != nil)
            #expect(monotonicNanoseconds() - start < 2_500_000_000)
        }
    }

    @Test func manyConnectionsAtOnceDoNotKeepAMemberOut() throws {
        try visitRendezvous { address in
            let strangers = try (0..<400).map { _ in try RawPeer(address) }
            // As many as may be undecided stay; the oldest have been hung up on.
            #expect(
                eventually {
                    for peer in strangers { peer.link.discard() }
                    return strangers.count { $0.link.ending != nil } >= 400 - 130
                })
        }
    }

    @Test func fuzzedFramesAfterTheProofEndThatConnectionOnly() throws {
        try visitRendezvous { address in
            var random = SplitMix64(state: 5)
            let whole = Self.request.frame(sender: 1)
            for index in 0..<60 {
                let peer = try RawPeer(address)
                try #require(peer.authenticate(rank: 1))
                var bytes = index % 3 == 0 ? random.bytes(200) : whole
                if index % 3 == 1 { bytes[Int(random.next() % UInt64(bytes.count))] ^= 0x10 }
                if index % 3 == 2 {
                    // A checksum that fits, and a payload of noise.
                    var header = FrameHeader(.control)
                    let payload = [UInt8(1 + random.next() % 15)] + random.bytes(40)
                    header.flags = FrameHeader.payloadChecked
                    header.payloadBytes = UInt32(payload.count)
                    header.payloadChecksum = payload.withUnsafeBytes { crc32c($0) }
                    bytes = [UInt8](repeating: 0, count: Limits.frameHeaderBytes)
                    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
                    bytes += payload
                }
                peer.sendRaw(bytes)
                shutdown(peer.descriptor.number, Int32(SHUT_WR))
                #expect(Self.isTurnedAway(peer))
            }
        }
    }

    /// A process that listens in rank 0's place and sends back what it gets.
    @Test func aReflectedProofIsNoProof() throws {
        let (listener, port) = try ControlSocket.listen(
            at: ControlAddress(parsing: "127.0.0.1:0"))
        let isDone = Shared(false)
        let heard = Shared([ControlMessage]())
        let impostor = DedicatedThread(name: "impostor") {
            var links: [ControlLink] = []
            while !isDone.value {
                if let (socket, _) = (try? ControlSocket.accept(from: listener)) ?? nil {
                    let link = ControlLink(
                        socket, sender: 0, peer: "caller",
                        payloadLimit: ControlLimits.payloadBytes)
                    link.send(.challenge(nonce: Challenge.nonce()))
                    links.append(link)
                }
                for link in links {
                    for message in (try? link.receive()) ?? [] {
                        heard.update { $0.append(message) }
                        if case .callerProof(_, _, let proof) = message {
                            link.send(.listenerProof(proof))
                        }
                    }
                }
                usleep(1000)
            }
        }
        let joined = join(1, of: 2, at: "127.0.0.1:\(port)")
        isDone.update { $0 = true }
        impostor.join()
        #expect(code(joined) == .secret)
        #expect(message(joined).contains("it does not know a job secret"), "\(message(joined))")
        // Nothing of the job was told.
        #expect(
            heard.value.allSatisfy {
                if case .callerProof = $0 { true } else { false }
            })
    }

    @Test func aRankWithAnotherSecretLearnsItSoon() throws {
        let address = try freeAddress()
        let joined = onRanks(2) { rank in
            var settings = quiet()
            if rank == 1 { settings.secret = JobSecret() }
            let timeout = Duration.seconds(rank == 0 ? 6 : 60)
            return join(rank, of: 2, at: address, timeout: timeout, settings: settings)
        }
        #expect(code(joined[1]) == .secret)
        #expect(message(joined[1]).contains("GEEPS_SECRET_FILE"), "\(message(joined[1]))")
        #expect(code(joined[0]) == .timeout)
        #expect(message(joined[0]).contains("did not know"), "\(message(joined[0]))")
    }

    // MARK: Lanes

    /// Runs a job in which rank 1 speaks by hand, and does `body` beside its lane; rank 0 must train on.
    private func besideALane(_ body: (RawRank, Endpoint) throws -> Void) throws {
        let address = try freeAddress()
        let outcome = Shared<String?>("it did not end")
        let thread = DedicatedThread(name: "rank 0") {
            let found = failure {
                let configuration = nodeConfiguration(
                    0, of: 2, at: address, carrier: .fixed(.tcp), lanes: 1)
                let node = try Node.join(configuration, device: HostDevice())
                guard node.leave(within: .seconds(30)) else {
                    throw LaunchError(.left, "rank 1 did not leave in order")
                }
            }
            outcome.update { $0 = found }
        }
        let raw = try RawRank(
            nodeConfiguration(1, of: 2, at: address, carrier: .fixed(.tcp), lanes: 1))
        #expect(throws: Never.self) {
            try body(raw, Endpoint(decoding: raw.membership.processes[0].endpoint))
        }
        let lane = try raw.lane()
        try lane.sendBytes(FrameHeader(.goodbye))
        #expect(raw.membership.leave(within: .seconds(20)))
        thread.join()
        #expect(outcome.value == nil)
    }

    private static func callTCP(_ endpoint: Endpoint) throws -> any Connection {
        try dial(endpoint, carrier: .fixed(.tcp), deadline: .after(.seconds(20)))
    }

    @Test func aReplayedLaneHandshakeIsRefused() throws {
        try besideALane { raw, endpoint in
            var hello = FrameHeader(.hello)
            hello.sender = 1
            hello.second = 1
            let nonce = Challenge.nonce()
            var proof: [UInt8] = []
            for attempt in 0..<2 {
                let lane = try Self.callTCP(endpoint)
                try lane.sendBytes(hello, nonce)
                let question = try lane.receive(deadline: .after(.seconds(20)))
                #expect(question.header.kind == .challenge)
                if attempt == 0 {
                    // What a member would answer; it is heard, but does not get through.
                    var details = ByteWriter()
                    for field in [hello.third, hello.tick, hello.second] { details.write(field) }
                    details.write(hello.table)
                    proof = Challenge(
                        purpose: .lane, rank: 1, details: details.bytes, callerNonce: nonce,
                        listenerNonce: Array(question.payload)
                    ).proof(by: .caller, key: raw.key.bytes)
                    lane.close()
                } else {
                    try lane.sendBytes(FrameHeader(.proof), proof)
                    let answer = try lane.receive(deadline: .after(.seconds(20)))
                    #expect(answer.header.kind == .refusal)
                    let text = String(decoding: answer.payload, as: UTF8.self)
                    #expect(text.contains("did not prove"), "\(text)")
                }
            }
        }
    }

    @Test func anOversizedFrameBeforeTheProofIsNotWaitedFor() throws {
        try besideALane { _, endpoint in
            let socket = try ControlSocket.connect(
                to: ControlAddress(parsing: "\(endpoint)"), deadline: .after(.seconds(20)))
            var hello = FrameHeader(.hello)
            hello.payloadBytes = 33
            var bytes = [UInt8](repeating: 0, count: 64)
            bytes.withUnsafeMutableBytes { hello.encode(into: $0) }
            _ = send(socket.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
            let start = monotonicNanoseconds()
            var item = pollfd(fd: socket.number, events: Int16(POLLIN), revents: 0)
            ControlSocket.wait(&item, count: 1, until: .after(.seconds(20)))
            #expect(recv(socket.number, &bytes, 64, 0) <= 0)
            // Long before the handshake time of five seconds.
            #expect(monotonicNanoseconds() - start < 4_000_000_000)
        }
    }

    /// More than wait at a time: the oldest are hung up on, so a member's turn comes at once.
    @Test func silentCallersDoNotKeepALaneWaiting() throws {
        try besideALane { raw, endpoint in
            let strangers = try (0..<300).map { _ in try Self.callTCP(endpoint) }
            let start = monotonicNanoseconds()
            let lane = try raw.dialled(0)
            let answer = try raw.hello(lane, sender: 1, keeper: 9)
            #expect(answer.kind == .refusal && answer.text.contains("keeper 9"), "\(answer)")
            #expect(monotonicNanoseconds() - start < 4_000_000_000)
            withExtendedLifetime(strangers) {}
        }
    }

    /// A process in the place of rank 1's keeper that sends back what it gets.
    @Test func aReflectedLaneProofIsNoProof() throws {
        let address = try freeAddress()
        let listener = try Listener()
        defer { listener.close() }
        let results = onRanks(2) { rank -> String? in
            failure {
                let configuration = nodeConfiguration(
                    rank, of: 2, at: address, keepers: 2, carrier: .fixed(.tcp), lanes: 1)
                guard rank == 1 else {
                    _ = try Node.join(configuration, device: HostDevice())
                    return
                }
                let raw = try RawRank(configuration, endpoint: listener.endpoint)
                let lane = try listener.accept(deadline: .after(.seconds(20)))
                _ = try lane.receive(deadline: .after(.seconds(20))).header
                try lane.sendBytes(FrameHeader(.challenge), Challenge.nonce())
                let proof = Array(try lane.receive(deadline: .after(.seconds(20))).payload)
                try lane.sendBytes(FrameHeader(.welcome), proof)
                #expect(eventually { raw.membership.failure != nil })
                raw.membership.leave(within: .seconds(5))
            }
        }
        #expect(results[0]?.contains("does not know the secret of the job") == true, "\(results)")
        #expect(results[1] == nil)
    }
}
