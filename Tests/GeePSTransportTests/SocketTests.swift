import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

extension TransportTests {
    /// What only a byte stream can do to us.
    @Suite struct StreamConnectionTests {
        private func byHand() -> (connection: StreamConnection, raw: Int32) {
            let (ours, theirs) = rawPair()
            let connection = StreamConnection(
                descriptor: ours, carrier: .unixSocket, peer: "a hand", checksPayload: false)
            return (connection, theirs)
        }

        @Test(arguments: [1, 63, 64, 65, 163])
        func anEndInsideAFrameTellsHowFarItCame(count: Int) throws {
            let (connection, raw) = byHand()
            var header = FrameHeader(.push)
            header.payloadBytes = 100
            let bytes = encoded(header) + pattern(100, seed: 1)
            writeAll(raw, Array(bytes[..<count]))
            close(raw)
            let error = outcome { () throws(TransportError) in _ = try connection.receiveCopy() }
            #expect(error?.code == .lost)
            let total = count < 64 ? 64 : 164
            #expect(
                error?.message
                    == "connection to a hand ended inside a frame after \(count) of \(total) bytes")
        }

        @Test func aFrameThatDribblesInSurvivesDeadlines() throws {
            let (connection, raw) = byHand()
            defer { close(raw) }
            var header = FrameHeader(.push)
            header.payloadBytes = 10
            let bytes = encoded(header) + pattern(10, seed: 4)
            var deadlines = 0
            for index in 0..<73 {
                writeAll(raw, [bytes[index]])
                let error = outcome { () throws(TransportError) in
                    _ = try connection.receiveCopy(deadline: .after(.milliseconds(1)))
                }
                #expect(error?.code == .deadline)
                #expect(error?.message.contains("only \(index + 1) bytes") == true)
                deadlines += 1
            }
            writeAll(raw, [bytes[73]])
            #expect(try connection.receiveCopy().payload == pattern(10, seed: 4))
            #expect(deadlines == 73)
        }

        @Test func manyFramesInOneSegmentAreTakenApart() throws {
            let (connection, raw) = byHand()
            defer { close(raw) }
            var bytes: [UInt8] = []
            for size in 0..<50 {
                var header = FrameHeader(.push)
                header.payloadBytes = UInt32(size)
                bytes += encoded(header) + pattern(size, seed: UInt64(size))
            }
            writeAll(raw, bytes)
            for size in 0..<50 {
                #expect(try connection.receiveCopy().payload == pattern(size, seed: UInt64(size)))
            }
        }

        @Test func aLengthOverTheLimitIsRefusedBeforeAnythingIsAllocated() throws {
            let (connection, raw) = byHand()
            defer { close(raw) }
            var header = FrameHeader(.push)
            header.payloadBytes = UInt32(Limits.framePayloadBytesMaximum) + 1
            writeAll(raw, encoded(header))
            let error = outcome { () throws(TransportError) in _ = try connection.receiveCopy() }
            #expect(error?.code == .malformed)
            #expect(error?.message.contains("at most 16777216 are allowed") == true)
        }

        @Test func loopbackRunsAnAlgorithmThatDoesNotPace() throws {
            let (near, far) = try connectedPair(.tcp)
            for end in [near, far] {
                let algorithm = (end as? StreamConnection)?.congestionControl
                #expect(algorithm == loopbackCongestionControl())
                #expect(algorithm?.isEmpty == false && algorithm != "unknown")
            }
        }
    }

    @Suite struct BufferPoolTests {
        @Test func aReturnedBufferIsLentAgain() {
            let pool = BufferPool()
            let first = pool.take(5000)
            #expect(Int(bitPattern: first.bytes.baseAddress) % 64 == 0 && first.bytes.count == 5000)
            pool.release(token: first.token)
            #expect(pool.keptByteCount == 8192)
            let second = pool.take(8192)
            #expect(second.bytes.baseAddress == first.bytes.baseAddress)
            pool.release(token: second.token)
        }

        @Test func whatIsKeptIsBounded() {
            let pool = BufferPool(keptBytesMaximum: 1 << 20)
            for _ in 0..<3 {
                let loans = (0..<100).map { _ in pool.take(64 << 10) }
                #expect(Set(loans.map { $0.bytes.baseAddress! }).count == 100)
                for loan in loans { pool.release(token: loan.token) }
                #expect(pool.keptByteCount == 1 << 20)
            }
        }
    }

    @Suite struct PayloadChecksumTests {
        @Test(arguments: [0, 1, 7, 8, 9, 64, 4095, 12287, 12288, 12289, 24576, 100_003])
        func theFastChecksumEqualsTheSimpleOne(count: Int) {
            let bytes = pattern(count + 3, seed: UInt64(count))
            for start in 0..<3 {
                bytes.withUnsafeBytes { all in
                    let part = UnsafeRawBufferPointer(rebasing: all[start..<(start + count)])
                    #expect(checksum(ofPayload: part) == crc32c(part))
                }
            }
        }

        @Test func knownVector() {
            #expect(
                Array("123456789".utf8).withUnsafeBytes { checksum(ofPayload: $0) } == 0xE306_9283)
        }
    }
}
