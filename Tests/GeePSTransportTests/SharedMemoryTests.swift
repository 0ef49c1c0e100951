import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

extension TransportTests {
    /// The ring against a peer that dies or lies.
    @Suite struct SharedMemoryConnectionTests {
        private let layout = RingLayout(capacity: 64 << 10)!

        /// A connection and its peer's view of the memory; the test plays the peer.
        private func byHand() throws -> (
            connection: SharedMemoryConnection, mapping: RingMapping, raw: Int32
        ) {
            let file = memoryFile(bytes: layout.fileBytes)
            defer { close(file) }
            let mapping = try RingMapping(descriptor: file, layout: layout)
            let (ours, theirs) = rawPair()
            let connection = SharedMemoryConnection(
                mapping: mapping, descriptor: ours, isDialler: true, peer: "a hand",
                checksPayload: false)
            return (connection, mapping, theirs)
        }

        private func memoryFile(bytes: Int) -> Int32 {
            let file = RingMapping.makeFile(bytes: bytes)
            precondition(file >= 0)
            return file
        }

        @Test func aKilledProcessIsNoticedWithinASecond() throws {
            let (connection, _, raw) = try byHand()
            var process: pid_t = 0
            var actions = posix_spawn_file_actions_t()
            posix_spawn_file_actions_init(&actions)
            posix_spawn_file_actions_adddup2(&actions, raw, 3)
            var arguments: [UnsafeMutablePointer<CChar>?] = [strdup("sleep"), strdup("60"), nil]
            defer { for argument in arguments { free(argument) } }
            let status = posix_spawnp(&process, "sleep", &actions, nil, &arguments, environ)
            posix_spawn_file_actions_destroy(&actions)
            try #require(status == 0)
            close(raw)
            let silent = outcome { () throws(TransportError) in
                _ = try connection.receiveCopy(deadline: .after(.milliseconds(250)))
            }
            #expect(silent?.code == .deadline)
            let sender = Running {
                outcome { () throws(TransportError) in
                    for _ in 0..<100 {
                        try connection.send(FrameHeader(.push), pattern(4096, seed: 1))
                    }
                }
            }
            kill(process, SIGKILL)
            let died = monotonicNanoseconds()
            let error = outcome { () throws(TransportError) in _ = try connection.receiveCopy() }
            #expect(error?.code == .lost)
            #expect(sender.value?.code == .lost)
            #expect(milliseconds(since: died) < 1000)
            waitpid(process, nil, 0)
        }

        @Test func whatThePeerPublishedBeforeItDiedStillArrives() throws {
            let (connection, mapping, raw) = try byHand()
            let side = mapping.side(direction: 1)
            side.address(0).copyMemory(from: encoded(FrameHeader(.control)), byteCount: 64)
            side.publish(head: 64)
            close(raw)
            #expect(try connection.receiveCopy().header.kind == .control)
            #expect(
                outcome { () throws(TransportError) in _ = try connection.receiveCopy() }?.code
                    == .lost)
        }

        @Test(arguments: [1, 63, 65, 65_600, .max, .max - 63, 1 << 63] as [UInt64])
        func aLyingHeadIsMalformed(head: UInt64) throws {
            let (connection, mapping, raw) = try byHand()
            defer { close(raw) }
            mapping.side(direction: 1).publish(head: head)
            let error = outcome { () throws(TransportError) in _ = try connection.receiveCopy() }
            #expect(error?.code == .malformed)
            #expect(error?.message.contains("\(head)") == true)
        }

        @Test(arguments: [1, 65_536, .max, .max - 63] as [UInt64])
        func aLyingTailIsMalformed(tail: UInt64) throws {
            let (connection, mapping, raw) = try byHand()
            defer { close(raw) }
            try connection.send(FrameHeader(.control), pattern(20000, seed: 1))
            try connection.send(FrameHeader(.control), pattern(20000, seed: 1))
            mapping.side(direction: 0).publish(tail: tail)
            let error = outcome { () throws(TransportError) in
                for _ in 0..<3 {
                    try connection.send(FrameHeader(.control), pattern(30000, seed: 1))
                }
            }
            #expect(error?.code == .malformed)
        }

        @Test func aFramePublishedInPartIsMalformed() throws {
            let (connection, mapping, raw) = try byHand()
            defer { close(raw) }
            let side = mapping.side(direction: 1)
            var header = FrameHeader(.push)
            header.payloadBytes = 1000
            side.address(0).copyMemory(from: encoded(header), byteCount: 64)
            side.publish(head: 64 + 960)
            let error = outcome { () throws(TransportError) in _ = try connection.receiveCopy() }
            #expect(error?.code == .malformed)
            #expect(error?.message.contains("published only up to 1024") == true)
        }

        @Test func garbageInTheRingNeverTraps() throws {
            for seed in 0..<300 as Range<UInt64> {
                let (connection, mapping, raw) = try byHand()
                let side = mapping.side(direction: 1)
                let garbage = pattern(64 << 10, seed: seed)
                side.ring.copyMemory(from: garbage, byteCount: garbage.count)
                // A right header now and then, with lengths that do not fit what follows.
                var header = FrameHeader(.push)
                header.payloadBytes = UInt32(seed &* 0x9E37_79B9 % (20 << 20))
                if seed % 2 == 0 { side.ring.copyMemory(from: encoded(header), byteCount: 64) }
                side.publish(head: (seed &* 64) % (64 << 10) + 64)
                close(raw)
                let error = outcome { () throws(TransportError) in
                    while true { _ = try connection.receiveCopy() }
                }
                #expect(error?.code == .malformed || error?.code == .lost)
            }
        }

        @Test func aFileOfAnotherSizeIsRefused() throws {
            for difference in [-4096, 4096] {
                let file = memoryFile(bytes: layout.fileBytes + difference)
                defer { close(file) }
                expectRefused(file)
            }
        }

        @Test func aFileThatCouldShrinkIsRefused() throws {
            let path = "/dev/shm/geeps-test-\(getpid())"
            let file = open(path, O_RDWR | O_CREAT | O_EXCL, 0o600)
            try #require(file >= 0)
            unlink(path)
            defer { close(file) }
            try #require(ftruncate(file, layout.fileBytes) == 0)
            expectRefused(file)
        }

        private func expectRefused(_ file: Int32) {
            let layout = layout
            let error = outcome { () throws(TransportError) in
                _ = try RingMapping(descriptor: file, layout: layout)
            }
            #expect(error?.code == .refused)
        }

        @Test(arguments: [0, 4096, 60 << 10, 65_537, 1 << 31])
        func ringSizesOutOfBoundsAreRefused(capacity: Int) {
            #expect(RingLayout(capacity: capacity) == nil)
        }

        @Test func placesNeverLeaveTheRing() {
            for payloadBytes in [1, 64, 65, 1000, 4096, 20000, (32 << 10) - 64] {
                #expect(layout.fitsInPlace(payloadBytes: payloadBytes))
                for position in stride(from: 0, to: 3 * 64 << 10, by: 64) {
                    let place = layout.place(
                        payloadBytes: payloadBytes, headerAt: UInt64(position))
                    let offset = Int(place.payload) % layout.capacity
                    #expect(offset + payloadBytes <= layout.capacity && offset % 64 == 0)
                    #expect(place.end - UInt64(position) <= UInt64(layout.capacity))
                }
            }
            #expect(!layout.fitsInPlace(payloadBytes: (32 << 10) - 63))
        }

        @Test func spaceReleasedOutOfOrderReturnsInOrder() throws {
            let (_, mapping, raw) = try byHand()
            defer { close(raw) }
            let releases = RingReleases(side: mapping.side(direction: 1))
            let tail = {
                mapping.side(direction: 1).counters.load(fromByteOffset: 128, as: UInt64.self)
            }
            let tokens = (1...5).map { releases.lend(upTo: UInt64($0) * 64) }
            releases.skip(upTo: 6 * 64)
            releases.release(token: tokens[1])
            #expect(tail() == 0)
            releases.release(token: tokens[0])
            #expect(tail() == 2 * 64)
            releases.release(token: tokens[4])
            releases.release(token: tokens[3])
            #expect(tail() == 2 * 64)
            releases.release(token: tokens[2])
            #expect(tail() == 6 * 64)
            releases.skip(upTo: 7 * 64)
            #expect(tail() == 7 * 64)
            releases.release(token: releases.lend(upTo: 8 * 64))
            #expect(tail() == 8 * 64)
        }

        @Test func smallRingsCarryEverySizeManyTimesRound() throws {
            var options = TransportOptions()
            options.ringBytes = RingLayout.capacityMinimum
            let (near, far) = try connectedPair(.sharedMemory, options: options)
            let sizes = (0..<600).map { $0 * 977 % 50000 }
            let sender = Running {
                outcome { () throws(TransportError) in
                    for size in sizes {
                        try near.send(FrameHeader(.push), pattern(size, seed: UInt64(size)))
                    }
                }
            }
            for size in sizes {
                let payload = try far.receiveCopy().payload
                guard payload == pattern(size, seed: UInt64(size)) else {
                    Issue.record("\(size) bytes arrived changed")
                    break
                }
            }
            near.close()
            #expect(sender.value == nil)
        }
    }
}
