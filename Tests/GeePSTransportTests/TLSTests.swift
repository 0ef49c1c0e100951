import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

extension TransportTests {
    /// Who is let in, and what is said to the others.
    @Suite(.enabled(if: hasOpenSSL, "needs OpenSSL 3")) struct TLSHandshakeTests {
        private let job = TestAuthority.job!

        @Test func bothEndsHaveTheSameBindingAndNoOtherConnectionHasIt() throws {
            let ours = try connectedPair(.tls)
            let others = try connectedPair(.tls)
            #expect(ours.0.channelBinding.count == 32)
            #expect(ours.0.channelBinding == ours.1.channelBinding)
            #expect(ours.0.channelBinding != others.0.channelBinding)
            #expect(try connectedPair(.tcp).0.channelBinding.isEmpty)
        }

        @Test func tcpIsNeverWithoutTLSWhereThereIsACertificate() throws {
            let ends = try TLSEnds(listening: job.context(), calling: job.context())
            let accepted = Running { try? ends.listener.accept(deadline: soon()) }
            for choice in [CarrierChoice.fixed(.tcp), .fixed(.tls)] {
                let connection = try dial(
                    ends.listener.endpoint, carrier: choice, options: ends.calling, deadline: soon()
                )
                #expect(connection.carrier == .tls)
            }
            #expect(accepted.value?.carrier == .tls)
            let error = outcome { () throws(TransportError) in
                _ = try dial(ends.listener.endpoint, carrier: .fixed(.tls), deadline: soon())
            }
            #expect(error?.code == .certificate)
        }

        @Test func aCertificateOfAnotherCAIsRefusedByNameOnBothSides() throws {
            let ends = try TLSEnds(
                listening: job.context(), calling: TestAuthority.other!.context())
            let caller = ends.call()
            let there = try ends.answer()
            #expect(there?.code == .certificate)
            // The caller objects first: it sees the listener's certificate before the listener sees its own.
            #expect(
                there?.message.contains("does not accept the certificate of this process") == true)
            #expect(there?.message.contains("unknown CA") == true)
            let here = caller.value
            #expect(here?.code == .certificate)
            #expect(here?.message.contains("of rank 1 (127.0.0.1:") == true)
            #expect(
                here?.message.contains(
                    "(CN=geeps) is not of the job's CA, expected one signed by CN=other CA") == true
            )
        }

        /// Its own CA file says job CA, its certificate is of another.
        @Test func aCallerOfAnotherCAIsRefusedByTheListener() throws {
            let stranger = try TestAuthority.other!.issue(name: "stranger")
            let ends = try TLSEnds(
                listening: job.context(),
                calling: job.context(of: stranger, checksOwn: false))
            let caller = ends.call()
            let there = try ends.answer()
            #expect(there?.code == .certificate)
            #expect(
                there?.message.contains(
                    "(CN=stranger) is not of the job's CA, expected one signed by CN=job CA (memory)"
                )
                    == true)
            let here = caller.value
            #expect(here?.code == .certificate, "\(here?.message ?? "")")
            #expect(
                here?.message.contains("does not accept the certificate of this process") == true)
        }

        @Test func anExpiredCertificateIsRefusedWithItsDate() throws {
            let old = try job.context(of: job.issue(name: "old", seconds: -1), checksOwn: false)
            let ends = try TLSEnds(listening: job.context(), calling: old)
            let caller = ends.call()
            let there = try ends.answer()
            #expect(there?.code == .certificate)
            #expect(there?.message.contains("(CN=old) expired on \(old.end)") == true)
            let here = caller.value
            #expect(here?.message.contains("certificate expired") == true, "\(here?.message ?? "")")
            // The listener serves the next one.
            let options = try TLSEnds(listening: nil, calling: job.context()).calling
            let endpoint = ends.listener.endpoint
            let good = Running {
                outcome { () throws(TransportError) in
                    let connection = try dial(
                        endpoint, carrier: .fixed(.tcp), options: options, deadline: soon())
                    try connection.send(FrameHeader(.control))
                    _ = try connection.receiveCopy()
                }
            }
            #expect(try ends.answer() == nil)
            #expect(good.value == nil)
        }

        @Test func aPeerWithoutTLSIsTold() throws {
            let ends = try TLSEnds(listening: job.context(), calling: nil)
            let caller = ends.call()
            let there = try ends.answer()
            #expect(there?.code == .malformed)
            #expect(
                there?.message.contains(
                    "does not speak TLS: found GeePS without TLS, expected a TLS handshake") == true
            )
            #expect(caller.value != nil)
        }

        @Test func aListenerWithoutTLSIsNamed() throws {
            let ends = try TLSEnds(listening: nil, calling: job.context())
            let caller = ends.call()
            #expect(try ends.answer()?.code == .malformed)
            let here = caller.value
            #expect(
                here?.message.contains("does it have cluster.tls") == true, "\(here?.message ?? "")"
            )
        }

        @Test(arguments: [0, 1, 4, 5, 60])
        func aCallerThatSaysLittleHoldsTheHandshakeForItsDeadlineOnly(count: Int) throws {
            let ends = try TLSEnds(listening: job.context(), calling: nil)
            let raw = socket(AF_INET, streamSocketType, 0)
            defer { close(raw) }
            let address = try SocketAddress.resolve(
                ends.listener.endpoint.host, port: ends.listener.endpoint.port)[0]
            #expect(address.withAddress { connect(raw, $0, $1) } == 0)
            // The beginning of a ClientHello of 512 bytes.
            writeAll(raw, Array(([22, 3, 1, 2, 0] + pattern(100, seed: 3)).prefix(count)))
            let error = try ends.answer(patience: .milliseconds(50))
            #expect(error?.code == .deadline, "\(error?.message ?? "none")")
            #expect(error?.message.contains("not complete before the deadline") == true)
        }
    }

    /// What travels once both sides are known.
    @Suite(.enabled(if: hasOpenSSL, "needs OpenSSL 3")) struct TLSStreamTests {
        private let job = TestAuthority.job!

        @Test func changedBytesEndTheStreamByName() throws {
            let ends = try TLSEnds(listening: job.context(), calling: job.context())
            let marked = 40_000
            let relay = try Relay(to: ends.listener.endpoint.port) { first, bytes in
                let place = marked - first
                if bytes.indices.contains(place) { bytes[place] ^= 1 }
            }
            let options = ends.calling
            let sender = Running {
                outcome { () throws(TransportError) in
                    let connection = try dial(
                        Endpoint(host: "127.0.0.1", port: relay.port), carrier: .fixed(.tcp),
                        options: options, deadline: soon())
                    try connection.send(FrameHeader(.push), pattern(100_000, seed: 1))
                    _ = try connection.receiveCopy()
                }
            }
            let connection = try ends.listener.accept(deadline: soon())
            let error = outcome { () throws(TransportError) in _ = try connection.receiveCopy() }
            #expect(error?.code == .lost)
            #expect(
                error?.message.contains("a TLS record was changed on its way") == true,
                "\(error?.message ?? "none")")
            let again = outcome { () throws(TransportError) in _ = try connection.receiveCopy() }
            #expect(again?.message == error?.message)
            #expect(sender.value?.code == .lost)
            connection.close()
            relay.join()
        }

        @Test func keysAreChangedWhileFramesTravelBothWays() throws {
            var options = TransportOptions()
            options.tls = try job.context(of: job.issue(name: "node"), recordsPerKey: 3)
            let (near, far) = try connectedPair(.tls, options: options)
            let threads = [(near, far, 1), (far, near, 2)].flatMap { source, target, seed in
                [
                    Running {
                        outcome { () throws(TransportError) in
                            for index in 0..<200 {
                                try source.send(
                                    FrameHeader(.push),
                                    pattern(index * 997 % 70_000, seed: UInt64(seed * 1000 + index))
                                )
                            }
                        }
                    },
                    Running {
                        outcome { () throws(TransportError) in
                            for index in 0..<200 {
                                let payload = try target.receiveCopy().payload
                                let seed = UInt64(seed * 1000 + index)
                                guard payload == pattern(index * 997 % 70_000, seed: seed) else {
                                    throw TransportError(.malformed, "frame \(index) differs")
                                }
                            }
                        }
                    },
                ]
            }
            for thread in threads { #expect(thread.value == nil) }
        }

        @Test(arguments: [1, 3, 100])
        func aKeyServesTheRecordsThatItMayServe(limit: Int) throws {
            let context = try job.context(
                of: job.issue(name: "node"), recordsPerKey: UInt64(limit))
            let sessions = [TLSSession.Side.caller, .listener].map {
                TLSSession(context, side: $0, peer: "a test", bufferBytes: 64 << 10)
            }
            func carry(from source: TLSSession, to target: TLSSession) {
                let bytes = source.takeOutput()
                target.inputRoom().copyMemory(from: bytes)
                target.received(bytes.count)
            }
            while try !sessions[0].handshake() || !sessions[1].handshake() {
                _ = try sessions[1].handshake()
                carry(from: sessions[0], to: sessions[1])
                _ = try sessions[1].handshake()
                carry(from: sessions[1], to: sessions[0])
            }
            for record in 0..<100 {
                let sent = pattern(1000, seed: UInt64(record))
                let count = try sent.withUnsafeBytes { try sessions[0].write($0) }
                #expect(count == 1000)
                carry(from: sessions[0], to: sessions[1])
                var read = [UInt8](repeating: 0, count: 2000)
                let reading = try read.withUnsafeMutableBytes { try sessions[1].read(into: $0) }
                #expect(reading == .bytes(1000))
                #expect(Array(read[..<1000]) == sent)
            }
            #expect(sessions[0].keyUpdates == 99 / limit)
        }

        @Test func nothingOfAFrameIsOnTheWireInClear() throws {
            let ends = try TLSEnds(listening: job.context(), calling: job.context())
            let secret = Array("the weights of layer one".utf8)
            let seen = Flag()
            let relay = try Relay(to: ends.listener.endpoint.port) { _, bytes in
                if bytes.count >= secret.count,
                    (0...bytes.count - secret.count).contains(where: {
                        Array(bytes[$0..<$0 + secret.count]) == secret
                    })
                {
                    seen.raise()
                }
            }
            let options = ends.calling
            let sender = Running {
                outcome { () throws(TransportError) in
                    let connection = try dial(
                        Endpoint(host: "127.0.0.1", port: relay.port), carrier: .fixed(.tcp),
                        options: options, deadline: soon())
                    try connection.send(FrameHeader(.goodbye), secret)
                    _ = try connection.receiveCopy()
                }
            }
            let connection = try ends.listener.accept(deadline: soon())
            #expect(try connection.receiveCopy().payload == secret)
            connection.close()
            #expect(sender.value != nil)
            relay.join()
            #expect(!seen.isRaised)
        }
    }

    /// What is wrong with files is said before anybody is called.
    @Suite(.enabled(if: hasOpenSSL, "needs OpenSSL 3")) struct TLSContextTests {
        private let job = TestAuthority.job!

        private func failure(_ files: TLSFiles) -> String {
            outcome { () throws(TransportError) in _ = try TLSContext(files) }?.message ?? "none"
        }

        @Test func goodFilesMakeAContextWithTheirNames() throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            let context = try TLSContext(directory.files(of: job, name: "node seven"))
            #expect(context.name == "CN=node seven")
            #expect(context.authority == "CN=job CA (\(directory.file("ca")))")
            #expect(context.warning == nil)
        }

        @Test func aKeyThatEverybodyCanReadIsWarnedOf() throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            let files = try directory.files(of: job)
            chmod(files.key, 0o644)
            #expect(try TLSContext(files).warning?.contains("chmod 600 \(files.key)") == true)
        }

        @Test func whatIsMissingIsNamed() throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            let good = try directory.files(of: job)
            for path in [\TLSFiles.certificate, \.key, \.ca] {
                var files = good
                files[keyPath: path] = "/nowhere/x.pem"
                #expect(failure(files).contains("in /nowhere/x.pem: No such file or directory"))
                files[keyPath: path] = directory.write("wrong", pattern(900, seed: 9))
                #expect(failure(files).contains(directory.file("wrong")))
                files[keyPath: path] = directory.path
                #expect(failure(files).contains("Is a directory"))
            }
        }

        @Test func aKeyOfAnotherCertificateIsRefused() throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            let files = try directory.files(of: job)
            directory.write("key", try job.issue(name: "another").key)
            #expect(
                failure(files)
                    == "the key in \(files.key) is not that of the certificate in \(files.certificate) (CN=node), "
                    + "expected the two that were made together")
        }

        @Test func aCertificateThatPeersWouldRefuseIsRefusedHere() throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            #expect(failure(try directory.files(of: job, seconds: -5)).contains("expired on "))
            let files = try directory.files(of: job)
            directory.write("ca", TestAuthority.other!.identity.certificate)
            #expect(
                failure(files).contains(
                    "(CN=node) is not of the job's CA, expected one signed by CN=other CA"))
        }

        @Test func everyByteOfAFileMayBeWrong() throws {
            let identity = try job.issue(name: "node")
            for index in stride(from: 0, to: identity.certificate.count, by: 7) {
                var bytes = identity.certificate
                bytes[index] ^= 0x15
                // Refused, or the change was where nothing is read; never a crash.
                let material = TLSMaterial(
                    certificate: .init(bytes: bytes, name: "a"),
                    key: .init(bytes: identity.key, name: "b"),
                    ca: .init(bytes: job.identity.certificate, name: "c"))
                _ = outcome { () throws(TransportError) in _ = try TLSContext(material) }
            }
        }
    }
}
