import Foundation
import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

/// What of UCX can be had on every machine: its own TCP, and its shared memory.
private let transports = ["tcp", "posix"]

private func pair(_ transports: String) throws -> (near: UCXConnection, far: UCXConnection) {
    var options = TransportOptions()
    options.ucxTransports = transports
    let (near, far) = try connectedPair(.ucx, options: options)
    return (try #require(near as? UCXConnection), try #require(far as? UCXConnection))
}

/// The code with which a program ends; -1 where there is none.
private func run(_ words: String...) -> Int32 {
    let process = Process()
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = words
    process.standardError = nil
    guard (try? process.run()) != nil else { return -1 }
    process.waitUntilExit()
    return process.terminationStatus
}

/// A network device, its other end up; false where none can be made.
private func makeDevice(_ name: String) -> Bool {
    run("ip", "link", "add", name, "type", "veth", "peer", "name", name + "p") == 0
        && run("ip", "link", "set", name + "p", "up") == 0
}

private let canMakeDevices: Bool = {
    let name = "geepst\(getpid() % 100_000)"
    defer { _ = run("ip", "link", "delete", name) }
    return makeDevice(name)
}()

extension TransportTests {
    /// Lanes over UCX, beyond what every carrier promises.
    @Suite(.enabled(if: hasUCX, "needs UCX")) struct UCXConnectionTests {
        @Test(arguments: transports)
        func framesOfAllSizesGoBothWaysAtOnce(transports: String) throws {
            let (near, far) = try pair(transports)
            let edge = UCXInbox.smallBytesMaximum
            let sizes =
                [0, 1, edge - 1, edge, edge + 1, 512 << 10, 3 << 20, 16 << 20]
                + (0..<200).map { ($0 * 7919) % (40 << 10) }
            let ends = [(near, UInt64(1), UInt64(2)), (far, 2, 1)]
            let senders = ends.map { end, seed, _ in
                Running {
                    outcome { () throws(TransportError) in
                        for size in sizes {
                            var header = FrameHeader(.push)
                            header.tick = UInt64(size)
                            try end.send(header, pattern(size, seed: seed &+ UInt64(size)))
                        }
                    }
                }
            }
            let receivers = ends.map { end, _, seed in
                Running {
                    outcome { () throws(TransportError) in
                        for size in sizes {
                            let (header, payload) = try end.receiveCopy()
                            guard header.tick == UInt64(size),
                                payload == pattern(size, seed: seed &+ UInt64(size))
                            else { throw TransportError(.malformed, "frame of \(size) bytes") }
                        }
                    }
                }
            }
            for end in senders + receivers { #expect(end.value == nil) }
            #expect(near.bytesSent == far.bytesReceived && far.bytesSent == near.bytesReceived)
            #expect(near.peer.contains(", ucx"))
        }

        /// A thread that sends more than anybody takes, and one that waits for what nobody sends; why each ends.
        private static func busyThreads(
            of lane: UCXConnection
        ) -> (sender: Running<TransportError?>, receiver: Running<TransportError?>) {
            let sender = Running {
                outcome { () throws(TransportError) in
                    let payload = pattern(4 << 20, seed: 1)
                    for _ in 0..<64 { try lane.send(FrameHeader(.push), payload) }
                }
            }
            let receiver = Running {
                outcome { () throws(TransportError) in _ = try lane.receiveCopy(deadline: nil) }
            }
            return (sender, receiver)
        }

        @Test(arguments: transports) func closeWakesBothThreads(transports: String) throws {
            let (near, far) = try pair(transports)
            let (sender, receiver) = Self.busyThreads(of: near)
            usleep(100_000)
            let started = monotonicNanoseconds()
            near.close()
            #expect(sender.value?.code == .closed && receiver.value?.code == .closed)
            #expect(milliseconds(since: started) < 2000)
            withExtendedLifetime(far) {}
        }

        @Test(arguments: transports) func aPeerThatIsGoneIsALossForBoth(transports: String) throws {
            let near: UCXConnection
            var others: [UCXConnection] = []
            do {
                let ends = try pair(transports)
                near = ends.near
                others.append(ends.far)
            }
            let (sender, receiver) = Self.busyThreads(of: near)
            usleep(100_000)
            let started = monotonicNanoseconds()
            others.removeAll()
            #expect(sender.value?.code == .lost && receiver.value?.code == .lost)
            #expect(milliseconds(since: started) < 2000)
        }

        @Test(arguments: transports, [UCXInbox.smallBytesMaximum, 1 << 20])
        func aFrameOverTheLimitIsRefusedBeforeAllocation(transports: String, size: Int) throws {
            let (near, far) = try pair(transports)
            far.limitPayload(to: size - 1)
            let sender = Running {
                outcome { () throws(TransportError) in
                    try near.send(FrameHeader(.push), pattern(size, seed: 1))
                }
            }
            let error = outcome { () throws(TransportError) in _ = try far.receiveCopy() }
            #expect(error?.code == .malformed)
            #expect(error?.message.contains("at most \(size - 1) are allowed") == true)
            #expect(far.engine.inbox.pool.bufferCount == 0)
            _ = sender.value
        }

        @Test func aLargePayloadIsFetchedOnlyWhereThereIsRoom() throws {
            let (near, far) = try pair("tcp")
            let sender = Running {
                outcome { () throws(TransportError) in
                    let payload = pattern(1 << 20, seed: 4)
                    for _ in 0..<40 { try near.send(FrameHeader(.push), payload) }
                }
            }
            // Its own threads do nothing, but another's progress would fetch on.
            for _ in 0..<2000 {
                far.engine.withLock { _ = far.engine.work() }
                usleep(100)
            }
            #expect(far.engine.inbox.pool.bufferCount == UCXInbox.fetchedBytesMaximum >> 20)
            for _ in 0..<40 { #expect(try far.receiveCopy().payload.count == 1 << 20) }
            #expect(sender.value == nil)
        }

        @Test func smallFramesWaitForTheirReceiver() throws {
            let (near, far) = try pair("tcp")
            let sender = Running {
                outcome { () throws(TransportError) in
                    for _ in 0..<1000 { try near.send(FrameHeader(.push), [1, 2, 3]) }
                }
            }
            usleep(100_000)
            let handed = near.bytesSent / 67
            #expect(handed == UCXInbox.smallFramesMaximum + 1)
            for _ in 0..<1000 { #expect(try far.receiveCopy().payload == [1, 2, 3]) }
            #expect(sender.value == nil)
        }

        @Test func aLibraryIsReopenedOnceForAllThatAskForAnotherThanTheOld() throws {
            let old = try UCXLibrary.load(transports: "tcp")
            let fresh = try UCXLibrary.reload(old, transports: "tcp")
            #expect(fresh.context != old.context)
            #expect(try UCXLibrary.reload(old, transports: "tcp").context == fresh.context)
            #expect(try UCXLibrary.load(transports: "tcp").context == fresh.context)
        }

        /// UCX makes no worker when a device it has found once is gone; a lane of later must be made all the same.
        @Test(.enabled(if: canMakeDevices, "needs root, and ip of iproute2"))
        func aNetworkDeviceThatHasGoneStopsNoNewLane() throws {
            // Of its own, so that no other test's context knows the device.
            let transports = "tcp,posix,self"
            let device = "geeps\(getpid() % 100_000)"
            #expect(makeDevice(device))
            defer { _ = run("ip", "link", "delete", device) }
            #expect(run("ip", "address", "add", "198.18.47.1/32", "dev", device) == 0)
            #expect(run("ip", "link", "set", device, "up") == 0)
            let before = try UCXLibrary.load(transports: transports)
            #expect(run("ip", "link", "delete", device) == 0)
            let (near, far) = try pair(transports)
            try near.send(FrameHeader(.push), pattern(100, seed: 1))
            #expect(try far.receiveCopy().payload == pattern(100, seed: 1))
            #expect(try UCXLibrary.load(transports: transports).context != before.context)
        }

        @Test func whoeverWaitsForLongSleeps() throws {
            let (near, far) = try pair("tcp")
            let start = monotonicNanoseconds()
            let error = outcome { () throws(TransportError) in
                _ = try far.receiveCopy(deadline: .after(.milliseconds(200)))
            }
            // A busy machine ends the wait late.
            let milliseconds = (monotonicNanoseconds() - start) / 1_000_000
            #expect(error?.code == .deadline)
            #expect((2...2 * milliseconds).contains(far.engine.sleepCount))
            withExtendedLifetime(near) {}
        }
    }

    /// What a lane does with messages that do not keep to the format.
    @Suite(.enabled(if: hasUCX, "needs UCX")) struct UCXAttackTests {
        /// Sends a message as UCX has it, around `send`.
        private func send(
            _ header: FrameHeader, _ payload: [UInt8], announced: Int, token: [UInt8],
            from worker: UCXWorker
        ) {
            var sealed = header
            sealed.payloadBytes = UInt32(announced)
            let bytes = encoded(sealed) + token
            bytes.withUnsafeBytes { head in
                payload.withUnsafeBytes { body in
                    var begun = worker.send(.frame, header: head, payload: body, waits: false)
                    for _ in 0..<100_000 {
                        guard case .pending(let request) = begun else { return }
                        _ = worker.progress()
                        begun = worker.outcome(ofPending: request)
                    }
                    Issue.record("a message was never sent")
                }
            }
        }

        private func refusal(_ announced: Int, _ payload: [UInt8], times: Int = 1) throws
            -> TransportError?
        {
            let (near, far) = try pair("tcp")
            near.engine.withLock {
                for _ in 0..<times {
                    send(
                        FrameHeader(.push), payload, announced: announced,
                        token: far.engine.inbox.token, from: near.engine.worker)
                }
            }
            for _ in 0..<200 {
                far.engine.withLock { _ = far.engine.work() }
                usleep(100)
            }
            // What had come before is taken as always.
            return outcome { () throws(TransportError) in
                for _ in 0...times { _ = try far.receiveCopy() }
            }
        }

        @Test func bytesThatNobodyAskedForAreMalformed() throws {
            let most = UCXInbox.smallBytesMaximum
            let error = try refusal(most + 1, pattern(most + 1, seed: 1))
            #expect(error?.code == .malformed)
            #expect(error?.message.contains("\(most + 1) bytes came unasked") == true)
        }

        @Test func anotherLengthThanTheHeadersIsMalformed() throws {
            let error = try refusal(10, pattern(20, seed: 1))
            #expect(error?.code == .malformed)
            #expect(error?.message.contains("20 bytes of payload, its header says 10") == true)
        }

        @Test func moreFramesThanMayWaitAreMalformed() throws {
            let most = Int(UCXInbox.smallFramesMaximum)
            let error = try refusal(1, [1], times: most + 1)
            #expect(error?.code == .malformed)
            #expect(error?.message.contains("\(most) frames wait already") == true)
        }

        @Test func aCreditForWhatWasNeverSentIsNoMoreThanThat() throws {
            let (near, far) = try pair("tcp")
            let credit = [UInt8](repeating: 0xff, count: 8) + far.engine.inbox.token
            credit.withUnsafeBytes { header in
                near.engine.withLock {
                    _ = near.engine.worker.send(
                        .credit, header: header,
                        payload: UnsafeRawBufferPointer(start: nil, count: 0),
                        waits: false)
                }
                for _ in 0..<200 where far.engine.inbox.creditOfPeer != .max {
                    far.engine.withLock { _ = far.engine.work() }
                    usleep(100)
                }
            }
            #expect(far.engine.inbox.creditOfPeer == .max)
            for _ in 0..<3 {
                try far.send(FrameHeader(.push), [4])
                #expect(try near.receiveCopy().payload == [4])
            }
        }

        @Test func messagesOfAStrangerAreNotTaken() throws {
            let (near, far) = try pair("tcp")
            let stranger = try UCXWorker(UCXLibrary.load(transports: "tcp"))
            try stranger.connect(to: far.engine.withLock { try far.engine.worker.address() })
            let token = [UInt8](repeating: 7, count: UCXInbox.tokenBytes)
            let sender = Running { [stranger = Held(stranger)] in
                send(
                    FrameHeader(.push), [1], announced: 1, token: token, from: stranger.worker)
                for _ in 0..<1000 {
                    _ = stranger.worker.progress()
                    usleep(100)
                }
            }
            let error = outcome { () throws(TransportError) in
                _ = try far.receiveCopy(deadline: .after(.milliseconds(500)))
            }
            #expect(error?.code == .deadline)
            _ = sender.value
            #expect(far.engine.inbox.strangeMessages == 1)
            try near.send(FrameHeader(.push), [5])
            #expect(try far.receiveCopy().payload == [5])
        }

        /// A worker that a test gives to another thread.
        private struct Held: @unchecked Sendable {
            let worker: UCXWorker
            init(_ worker: UCXWorker) { self.worker = worker }
        }
    }

    /// How two sides leave TCP for UCX.
    @Suite(.enabled(if: hasUCX, "needs UCX")) struct UCXConnectTests {
        /// Our side, and the other one played by hand over the same kind of connection.
        private func ends() throws -> (lane: UCXConnection, hand: StreamConnection) {
            let (ours, theirs) = rawPair()
            let stream = StreamConnection(
                descriptor: ours, carrier: .tcp, peer: "a hand", checksPayload: false)
            let hand = StreamConnection(
                descriptor: theirs, carrier: .tcp, peer: "a lane", checksPayload: false)
            return (try UCXConnection(over: stream, options: .init()), hand)
        }

        private func answer(_ tick: (UInt64) -> UInt64, payload: [UInt8]) throws -> TransportError?
        {
            let (lane, hand) = try ends()
            let connecting = Running {
                outcome { () throws(TransportError) in
                    try lane.connect(.caller, key: [1], deadline: soon())
                }
            }
            let theirs = try hand.receiveCopy()
            #expect(theirs.header.kind == .carrier)
            var header = FrameHeader(.carrier)
            header.tick = tick(theirs.header.tick)
            try hand.send(header, payload)
            return connecting.value
        }

        @Test func anAddressWithoutTheCodeIsNotBelieved() throws {
            for payload in [[], [1, 2, 3], pattern(32, seed: 1), pattern(500, seed: 2)] {
                let error = try answer({ $0 }, payload: payload)
                #expect(error?.code == .refused)
                #expect(error?.message.contains("without the code") == true)
            }
        }

        @Test func anotherVersionIsRefusedWithBoth() throws {
            let error = try answer({ _ in 1 << 32 | 99 << 16 | 3 }, payload: [])
            #expect(error?.code == .refused)
            #expect(error?.message.contains("has UCX 1.99.3") == true)
        }

        @Test func anAddressTooLongIsRefusedUnread() throws {
            let error = try answer({ $0 }, payload: pattern((64 << 10) + 33, seed: 1))
            #expect(error?.code == .malformed)
        }

        @Test func aSideThatSaysNothingHasADeadline() throws {
            let (lane, hand) = try ends()
            let error = outcome { () throws(TransportError) in
                try lane.connect(.caller, key: [1], deadline: .after(.milliseconds(100)))
            }
            #expect(error?.code == .deadline)
            withExtendedLifetime(hand) {}
        }

        @Test func keysMustBeTheSame() throws {
            let (ours, theirs) = rawPair()
            let lanes = try [ours, theirs].map {
                try UCXConnection(
                    over: StreamConnection(
                        descriptor: $0, carrier: .tcp, peer: "the other", checksPayload: false),
                    options: .init())
            }
            let sides = [UCXConnection.Side.caller, .listener].enumerated().map { index, side in
                Running {
                    outcome { () throws(TransportError) in
                        try lanes[index].connect(side, key: [UInt8(index)], deadline: soon())
                    }
                }
            }
            #expect(sides.map(\.value?.code).contains(.refused))
            #expect(!sides.map(\.value?.code).contains(nil))
        }

        @Test(.enabled(if: hasOpenSSL, "needs OpenSSL 3")) func whatIsEncryptedStaysSo() throws {
            let context = try TestAuthority.job!.context()
            var options = TransportOptions()
            options.tls = context
            let error = outcome { () throws(TransportError) in
                _ = try dial(
                    Endpoint(host: "127.0.0.1", port: 1), carrier: .fixed(.ucx), options: options,
                    deadline: soon())
            }
            #expect(error?.code == .certificate)
            let encrypted = try connectedPair(.tls, options: options).0
            let refusal = outcome { () throws(TransportError) in
                _ = try UCXConnection(over: encrypted, options: options)
            }
            #expect(refusal?.code == .refused)
        }
    }

    /// When lanes take UCX by themselves.
    @Suite struct UCXDevicesTests {
        @Test func autoTakesUCXBetweenHostsWhereBothHaveADevice() {
            var there = Endpoint(
                host: "10.0.0.7", port: 1, hostIdentity: "another", localName: "geeps-tcp-1")
            let ways = { (endpoint: Endpoint, hasTLS: Bool, hasRDMA: Bool) in
                carriers(of: .auto, to: endpoint, hasTLS: hasTLS, hasRDMA: hasRDMA)
            }
            #expect(ways(there, false, true) == [.tcp])
            there.hasRDMA = true
            #expect(ways(there, false, true) == [.ucx, .tcp])
            #expect(ways(there, false, false) == [.tcp])
            #expect(ways(there, true, true) == [.tls])
            var here = there
            here.hostIdentity = HostIdentity.current
            #expect(ways(here, false, true) == [.sharedMemory, .unixSocket, .tcp])
        }

        @Test func onlyDevicesThatAreUpAndOursCount() throws {
            let root = "/tmp/geeps-ucx-devices-\(getpid())"
            for path in [
                "", "/class", "/class/mlx5_0", "/class/mlx5_0/ports", "/class/mlx5_0/ports/1",
                "/class/mlx5_1", "/class/mlx5_1/ports", "/class/mlx5_1/ports/1", "/dev",
            ] { mkdir(root + path, 0o700) }
            defer { removeTree(root) }
            write("4: ACTIVE\n", to: root + "/class/mlx5_0/ports/1/state")
            write("1: DOWN\n", to: root + "/class/mlx5_1/ports/1/state")
            let withoutFiles = UCXDevices(directory: root + "/class", devices: root + "/dev")
            #expect(withoutFiles.active.isEmpty && withoutFiles.unusable.count == 2)
            write("", to: root + "/dev/uverbs0")
            let devices = UCXDevices(directory: root + "/class", devices: root + "/dev")
            #expect(devices.active == ["mlx5_0:1"])
            #expect(devices.unusable == ["mlx5_1: no port is up"])
            let none = UCXDevices(directory: root + "/nothing", devices: root + "/dev")
            #expect(none.active.isEmpty && none.unusable.isEmpty)
        }

        private func write(_ text: String, to path: String) {
            let descriptor = open(path, O_WRONLY | O_CREAT, 0o600)
            writeAllToFile(descriptor, Array(text.utf8))
            close(descriptor)
        }

        private func writeAllToFile(_ descriptor: Int32, _ bytes: [UInt8]) {
            _ = bytes.withUnsafeBytes { Glibc.write(descriptor, $0.baseAddress, $0.count) }
        }

        private func removeTree(_ path: String) {
            if let directory = opendir(path) {
                while let entry = readdir(directory) {
                    let name = withUnsafePointer(to: &entry.pointee.d_name) { start in
                        start.withMemoryRebound(to: CChar.self, capacity: 256) {
                            String(cString: $0)
                        }
                    }
                    if name != "." && name != ".." { removeTree("\(path)/\(name)") }
                }
                closedir(directory)
            }
            remove(path)
        }
    }
}
