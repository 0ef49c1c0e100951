import GeePSCore
import GeePSDevice
import GeePSTransport
import Glibc
import Testing

@testable import GeePS

/// Jobs whose processes have certificates, and those who would like to be of them.
@Suite(.serialized, .enabled(if: hasOpenSSL, "needs OpenSSL 3")) struct TLSJobTests {
    private func settings(
        _ tls: TLSFiles?, handshake: Duration = .seconds(20), log: Shared<[String]>? = nil
    ) -> ControlSettings {
        var settings = quiet(handshake: handshake)
        settings.tls = tls
        if let log { settings.log = { line in log.update { $0.append(line) } } }
        return settings
    }

    @Test(arguments: [1, 3]) func sumsAreExactOverTLSAndAutoKeepsSharedMemory(lanes: Int) throws {
        let directory = try TLSDirectory()
        defer { directory.remove() }
        let files = try (0..<3).map { try directory.files("node\($0)") }
        for (carrier, expected) in [
            (CarrierChoice.fixed(.tcp), "tls x\(lanes)"), (.auto, "shared-memory x\(lanes)"),
        ] {
            let address = try freeAddress()
            let nodes = try joinNodes(3) { rank in
                var configuration = nodeConfiguration(
                    rank, of: 3, at: address, keepers: 3, carrier: carrier, lanes: lanes)
                configuration.control.tls = files[rank]
                return configuration
            }.map { try $0.get() }
            #expect(nodes[0].carriers[1] == expected)
            try initialise(nodes[0])
            #expect(trainAll(nodes, clocks: 0..<20) == [0, 0, 0])
            #expect(leaveAll(nodes) == [true, true, true])
        }
    }

    /// Lanes and control connections: certificates and proofs again, and nothing is missing.
    @Test func sumsAreExactWhileEncryptedConnectionsAreLost() throws {
        let directory = try TLSDirectory()
        defer { directory.remove() }
        let files = try (0..<3).map { try directory.files("node\($0)") }
        let address = try freeAddress()
        let nodes = try joinNodes(3) { rank in
            var configuration = nodeConfiguration(
                rank, of: 3, at: address, keepers: 3, carrier: .fixed(.tcp), lanes: 2)
            configuration.control.tls = files[rank]
            return configuration
        }.map { try $0.get() }
        #expect(nodes[0].carriers[1] == "tls x2")
        let ports = try nodes[0].membership.processes.map {
            try Endpoint(decoding: $0.endpoint).port
        }
        let control = try ControlAddress(parsing: address).port
        let breaker = Breaker(
            ports: Set(ports + [control]), every: .milliseconds(10), atMost: 40)
        let patience = Deadline.after(.seconds(60))
        try initialise(nodes[0])
        var clocks = 0
        while breaker.broken < 40, !patience.hasPassed {
            #expect(trainAll(nodes, clocks: clocks..<clocks + 20) == [0, 0, 0])
            clocks += 20
        }
        breaker.stop()
        #expect(breaker.broken >= 40, "\(clocks) clocks")
        #expect(leaveAll(nodes) == [true, true, true])
        #expect(nodes.allSatisfy { $0.membership.failure == nil })
        #expect(nodes.contains { $0.client.counters.repairs.reconnects > 0 })
        #expect(nodes[0].membership.counters.returns > 0)
    }

    @Test func aProcessOfAnotherCAIsKeptOutByNameAndTheJobStarts() throws {
        let (ours, theirs) = (try TLSDirectory(), try TLSDirectory(name: "other CA"))
        defer {
            ours.remove()
            theirs.remove()
        }
        let files = try ours.files()
        let stranger = try theirs.files("stranger")
        let address = try freeAddress()
        let log = Shared<[String]>([])
        let outcomes = onRanks(3) { place -> Joined in
            // The stranger knows the secret of the job and comes first.
            if place == 1 { usleep(4_000_000) }
            return join(
                place == 0 ? 0 : 1, of: 2, at: address, timeout: .seconds(30),
                settings: settings(place == 2 ? stranger : files, log: log))
        }
        #expect(code(outcomes[2]) == .certificate)
        #expect(
            message(outcomes[2]).contains(
                "(CN=node) is not of the job's CA, expected one signed by CN=other CA"),
            "\(message(outcomes[2]))")
        #expect(
            log.value.contains {
                $0.contains("turned away")
                    && $0.contains("does not accept the certificate of this process")
            }, "\(log.value)")
        let members = [outcomes[0], outcomes[1]].compactMap { try? $0.get() }
        try #require(members.count == 2, "\(message(outcomes[0])) \(message(outcomes[1]))")
        leaveAll(members)
    }

    @Test func aProcessWithoutTLSIsTold() throws {
        let directory = try TLSDirectory()
        defer { directory.remove() }
        let files = try directory.files()
        let address = try freeAddress()
        let mixed = onRanks(2) { rank in
            join(
                rank, of: 2, at: address, timeout: .seconds(6),
                settings: settings(rank == 0 ? files : nil, handshake: .milliseconds(200)))
        }
        #expect(code(mixed[1]) == .certificate)
        #expect(message(mixed[1]).contains("rank 0 speaks TLS and this process does not"))
        let other = onRanks(2) { rank in
            join(
                rank, of: 2, at: address, timeout: .seconds(6),
                settings: settings(rank == 1 ? files : nil))
        }
        #expect(code(other[1]) == .certificate)
        #expect(
            message(other[1]).contains("does not speak TLS: found GeePS without TLS"),
            "\(message(other[1]))")
    }

    @Test func aProofThatSomebodyInTheMiddlePassesOnIsGoodForNothing() throws {
        let directory = try TLSDirectory()
        defer { directory.remove() }
        let (files, middle) = (try directory.files(), try directory.files("middle"))
        let address = try freeAddress()
        let relay = try CipherRelay(to: address, middle)
        let outcomes = onRanks(2) { rank in
            join(
                rank, of: 2, at: rank == 0 ? address : relay.address, timeout: .seconds(6),
                settings: settings(files))
        }
        relay.close()
        // It has read the handshake, which without the binding would have been enough.
        #expect(relay.overheard.value.starts(with: Array("GPSF".utf8)))
        #expect(code(outcomes[1]) == .secret, "\(message(outcomes[1]))")
        #expect(code(outcomes[0]) == .timeout)
    }

    @Test func silentCallersHoldUpNobody() throws {
        let directory = try TLSDirectory()
        defer { directory.remove() }
        let files = try directory.files()
        let address = try freeAddress()
        let place = try ControlAddress(parsing: address)
        let silent = Shared<[Descriptor]>([])
        let outcomes = onRanks(3) { place_ -> Joined? in
            if place_ == 2 {
                let deadline = Deadline.after(.seconds(10))
                while silent.value.count < 20 && !deadline.hasPassed {
                    guard let socket = try? ControlSocket.connect(to: place, deadline: deadline)
                    else { continue }
                    // Half a record.
                    let start: [UInt8] = [22, 3, 1, 2, 0, 1]
                    _ = send(socket.number, start, start.count, Int32(MSG_NOSIGNAL))
                    silent.update { $0.append(socket) }
                }
                return nil
            }
            if place_ == 1 { while silent.value.count < 20 { usleep(1000) } }
            return join(
                place_, of: 2, at: address, timeout: .seconds(20), settings: settings(files))
        }
        let members = outcomes.compactMap { try? $0?.get() }
        #expect(members.count == 2)
        leaveAll(members)
    }

    @Test func filesOfTheEnvironmentGoBeforeThoseOfTheJob() throws {
        let given = TLSFiles(certificate: "a", key: "b", ca: "c")
        defer { for name in TLSFiles.variables { unsetenv(name) } }
        #expect(try TLSFiles.known() == nil)
        #expect(try TLSFiles.known(beside: given) == given)
        setenv("GEEPS_TLS_KEY", "mine", 1)
        #expect(try TLSFiles.known(beside: given)?.key == "mine")
        #expect(
            failure { _ = try TLSFiles.known() }?.contains(
                "give GEEPS_TLS_CERTIFICATE and GEEPS_TLS_CA") == true)
    }
}
