import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

extension TransportTests {
    @Suite struct ListenerTests {
        /// Accepts until the listener is closed; tells how each connection ended.
        private func serve(_ listener: Listener) -> Running<[TransportError]> {
            Running {
                var ends: [TransportError] = []
                while let connection = try? listener.accept(deadline: nil) {
                    let end = outcome { () throws(TransportError) in
                        while true { _ = try connection.receiveCopy() }
                    }
                    if let end { ends.append(end) }
                    connection.close()
                }
                return ends
            }
        }

        private func dialRaw(_ endpoint: Endpoint) throws -> Int32 {
            let address = try SocketAddress.resolve(endpoint.host, port: endpoint.port)[0]
            let descriptor = socket(address.family, streamSocketType, 0)
            try #require(address.withAddress { connect(descriptor, $0, $1) } == 0)
            return descriptor
        }

        @Test func garbageOnThePortEndsItsConnectionOnly() throws {
            let listener = try Listener()
            let server = serve(listener)
            var good = FrameHeader(.push)
            good.payloadBytes = 500
            for seed in 0..<1000 as Range<UInt64> {
                let descriptor = try dialRaw(listener.endpoint)
                var bytes = pattern(Int(seed % 200) + 1, seed: seed)
                switch seed % 4 {
                case 0: break
                case 1: bytes = encoded(good) + bytes
                case 2:
                    bytes = encoded(good)
                    bytes[4] = UInt8(truncatingIfNeeded: seed | 2)
                default: bytes = Array(encoded(good)[..<Int(seed % 63 + 1)])
                }
                writeAll(descriptor, bytes)
                close(descriptor)
            }
            let last = try dial(listener.endpoint, carrier: .fixed(.tcp), deadline: soon())
            try last.send(FrameHeader(.goodbye))
            usleep(10_000)
            #expect(
                outcome { () throws(TransportError) in _ = try last.receiveCopy() }?.code == .lost)
            listener.close()
            let ends = server.value
            #expect(ends.count == 1001)
            #expect(ends.last?.code == .closed)
            #expect(ends.dropLast().allSatisfy { $0.code == .malformed || $0.code == .lost })
            #expect(ends.filter { $0.message.contains("frame version") }.count >= 200)
            #expect(ends.allSatisfy { $0.message.contains("127.0.0.1:") })
        }

        @Test func garbageOnTheLocalSocketIsTurnedAway() throws {
            let listener = try Listener()
            let server = serve(listener)
            let address = SocketAddress(abstract: listener.endpoint.localName)
            var silent: [Int32] = []
            for seed in 0..<200 as Range<UInt64> {
                let descriptor = socket(AF_UNIX, streamSocketType, 0)
                try #require(address.withAddress { connect(descriptor, $0, $1) } == 0)
                switch seed % 4 {
                case 0: silent.append(descriptor)
                case 1:
                    writeAll(descriptor, LocalSocket.encode(.sharedMemory(ringBytes: 1 << 20)))
                    var answer = [UInt8](repeating: 0, count: 16)
                    #expect(recv(descriptor, &answer, 16, Int32(MSG_WAITALL)) == 16)
                    #expect(LocalSocket.decodeAnswer(answer)?.answer == .memoryRefused)
                    close(descriptor)
                default:
                    writeAll(descriptor, pattern(Int(seed % 30) + 1, seed: seed))
                    close(descriptor)
                }
            }
            for carrier in [Carrier.sharedMemory, .unixSocket, .tcp] {
                let connection = try dial(
                    listener.endpoint, carrier: .fixed(carrier), deadline: soon())
                try connection.send(FrameHeader(.goodbye))
                #expect(connection.carrier == carrier)
                // The server serves one at a time: wait until it is done with this one.
                #expect(
                    outcome { () throws(TransportError) in _ = try connection.receiveCopy() }?.code
                        == .lost)
            }
            for descriptor in silent { close(descriptor) }
            listener.close()
            #expect(server.value.map(\.code) == [.closed, .closed, .closed])
        }

        @Test func autoTakesSharedMemoryOnTheSameHostAndTCPElsewhere() throws {
            let listener = try Listener()
            let server = serve(listener)
            let near = try dial(listener.endpoint, deadline: soon())
            #expect(near.carrier == .sharedMemory)
            near.close()
            var elsewhere = listener.endpoint
            elsewhere.hostIdentity = "another host"
            let far = try dial(elsewhere, deadline: soon())
            #expect(far.carrier == .tcp)
            far.close()
            var bare = Endpoint(host: "localhost", port: listener.endpoint.port)
            #expect(!bare.isOnThisHost)
            bare.host = "127.0.0.1"
            let byName = try dial(bare, deadline: soon())
            #expect(byName.carrier == .tcp)
            byName.close()
            listener.close()
            _ = server.value
        }

        @Test func autoFallsBackWhenSharedMemoryIsRefused() throws {
            let listener = try Listener()
            let server = serve(listener)
            var options = TransportOptions()
            options.ringBytes = 12345
            let connection = try dial(listener.endpoint, options: options, deadline: soon())
            #expect(connection.carrier == .unixSocket)
            connection.close()
            let error = outcome { () throws(TransportError) in
                _ = try dial(
                    listener.endpoint, carrier: .fixed(.sharedMemory), options: options,
                    deadline: soon())
            }
            #expect(error?.code == .refused)
            #expect(error?.message.contains("12345") == true)
            listener.close()
            _ = server.value
        }

        @Test(arguments: ["::1", "localhost", "127.0.0.1"])
        func listensOnEveryKindOfAddress(address: String) throws {
            let listener = try Listener(address: address, advertisedHost: address)
            let server = serve(listener)
            let connection = try dial(listener.endpoint, carrier: .fixed(.tcp), deadline: soon())
            try connection.send(FrameHeader(.goodbye))
            #expect(connection.peer.hasSuffix(":\(listener.endpoint.port), tcp"))
            usleep(1000)
            #expect(
                outcome { () throws(TransportError) in _ = try connection.receiveCopy() }?.code
                    == .lost)
            listener.close()
            #expect(server.value.map(\.code) == [.closed])
        }

        @Test(arguments: [CarrierChoice.auto, .fixed(.tcp), .fixed(.unixSocket)])
        func dialWaitsForAListenerThatStartsLater(choice: CarrierChoice) throws {
            // A port that is free now and most likely in a moment.
            let endpoint = try { () throws(TransportError) in
                let listener = try Listener()
                listener.close()
                return listener.endpoint
            }()
            let dialling = Running { () -> TransportError? in
                outcome { () throws(TransportError) in
                    let connection = try dial(endpoint, carrier: choice, deadline: soon())
                    try connection.send(FrameHeader(.goodbye))
                    _ = try? connection.receiveCopy()
                }
            }
            usleep(150_000)
            let listener = try Listener(port: endpoint.port)
            let server = serve(listener)
            #expect(dialling.value == nil)
            listener.close()
            #expect(server.value.map(\.code) == [.closed])
        }

        @Test(arguments: [CarrierChoice.auto, .fixed(.tcp), .fixed(.unixSocket)])
        func dialSaysWhomItTriedAndForHowLong(choice: CarrierChoice) throws {
            let endpoint = try { () throws(TransportError) in
                let listener = try Listener()
                listener.close()
                return listener.endpoint
            }()
            var options = TransportOptions()
            options.peerName = "keeper 3"
            let error = outcome { () throws(TransportError) in
                _ = try dial(
                    endpoint, carrier: choice, options: options,
                    deadline: .after(.milliseconds(300)))
            }
            #expect(error?.code == .unreachable)
            let message = error?.message ?? ""
            #expect(message.contains("keeper 3 (\(endpoint))"))
            #expect(message.contains("Connection refused") && message.contains("times over 0."))
        }

        @Test func aBusyPortIsNamed() throws {
            let listener = try Listener()
            let error = outcome { () throws(TransportError) in
                _ = try Listener(port: listener.endpoint.port)
            }
            #expect(error?.code == .unreachable)
            #expect(error?.message.contains("\(listener.endpoint): Address already in use") == true)
        }

        @Test func acceptGivesUpAtItsDeadlineAndWakesAtClose() throws {
            let listener = try Listener()
            let error = outcome { () throws(TransportError) in
                _ = try listener.accept(deadline: .after(.milliseconds(20)))
            }
            #expect(error?.code == .deadline)
            let accepting = Running {
                outcome { () throws(TransportError) in _ = try listener.accept(deadline: nil) }
            }
            usleep(20_000)
            listener.close()
            #expect(accepting.value?.code == .closed)
        }

        @Test func noDescriptorIsLeaked() throws {
            let before = openTransportDescriptors()
            for round in 0..<40 {
                for carrier in allCarriers {
                    let (near, far) = try connectedPair(carrier)
                    try near.send(FrameHeader(.push), [1])
                    _ = try far.receiveCopy()
                    if round % 2 == 0 { near.close() }
                    if round % 3 == 0 { far.close() }
                }
            }
            // Other suites of this process may have opened some meanwhile.
            #expect(openTransportDescriptors() - before < 30)
        }
    }

    @Suite struct EndpointTests {
        private let endpoint = Endpoint(
            host: "fe80::1", port: 65535, hostIdentity: HostIdentity.current,
            localName: "geeps-tcp-1")

        @Test func bytesComeBackTheSame() throws {
            #expect(try Endpoint(decoding: endpoint.encoded()) == endpoint)
            var fast = endpoint
            fast.hasRDMA = true
            #expect(try Endpoint(decoding: fast.encoded()) == fast && fast != endpoint)
            #expect("\(endpoint)" == "[fe80::1]:65535")
            #expect(endpoint.isOnThisHost)
            #expect(HostIdentity.current.contains("/"))
        }

        @Test func everyCutAndEveryAdditionIsRefused() {
            let bytes = endpoint.encoded()
            for count in 0..<bytes.count {
                let error = outcome { () throws(TransportError) in
                    _ = try Endpoint(decoding: Array(bytes[..<count]))
                }
                #expect(error?.code == .malformed)
            }
            #expect(throws: TransportError.self) { try Endpoint(decoding: bytes + [0]) }
            #expect(throws: TransportError.self) { try Endpoint(decoding: [1] + bytes[1...]) }
            #expect(throws: TransportError.self) {
                try Endpoint(decoding: bytes[..<3] + [2] + bytes[4...])
            }
        }

        @Test func aLocalNameLongerThanTheKernelTakesIsRefused() {
            for (count, isAccepted) in [(100, true), (101, false)] {
                var long = endpoint
                long.localName = String(repeating: "n", count: count)
                #expect(((try? Endpoint(decoding: long.encoded())) != nil) == isAccepted)
            }
        }
    }

    @Suite struct TransportBenchmarkTests {
        @Test(arguments: allCarriers)
        func measuresWhatItMoved(carrier: Carrier) throws {
            let stream = try measureStream(
                carrier: carrier, payloadBytes: 64 << 10, totalBytes: 4 << 20, lanes: 2)
            #expect(stream.totalBytes == 4 << 20 && stream.gigabytesPerSecond > 0)
            #expect(stream.congestionControl.isEmpty != [.tcp, .tls].contains(carrier))
            let trip = try measureRoundTrip(carrier: carrier, count: 100)
            #expect(trip.leastMicroseconds <= trip.medianMicroseconds)
            #expect(trip.medianMicroseconds <= trip.percentile99Microseconds)
        }
    }
}
