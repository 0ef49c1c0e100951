import Testing

@testable import GeePSCore

/// SplitMix64: the same numbers in every run.
struct SeededGenerator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }
}

@Suite struct FrameTests {
    private static let golden = bytes(
        """
        47 50 53 46 04 05 00 00 af 66 cf f0 00 00 00 00
        03 00 00 00 02 00 00 00 00 04 00 00 00 00 00 00
        00 01 00 00 00 00 02 00 29 00 00 00 00 00 00 00
        9a 99 99 99 99 99 b9 3f 05 00 00 00 d4 30 00 00
        """)
    private static let goldenChecked = bytes(
        """
        47 50 53 46 04 08 01 00 0c f0 9a 27 83 92 06 e3
        00 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 09 00 00 00 00 00 00 00 00 00 00 00
        00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00
        """)

    private static var push: FrameHeader {
        var header = FrameHeader(.push)
        header.table = 3
        header.sender = 2
        header.firstRow = 1024
        header.rowCount = 256
        header.payloadBytes = 131_072
        header.tick = 41
        header.second = (0.1).bitPattern
        header.setPush(block: 5, busyMicroseconds: 12_500)
        return header
    }

    private static let goldenWaited = bytes(
        """
        47 50 53 46 04 0b 00 00 12 eb 14 4e 00 00 00 00
        03 00 00 00 01 00 00 00 00 04 00 00 00 00 00 00
        00 01 00 00 00 00 00 00 29 00 00 00 00 00 00 00
        80 0c 00 00 04 10 00 00 05 00 00 00 00 00 00 00
        """)

    private static var waited: FrameHeader {
        var header = FrameHeader(.waited)
        header.table = 3
        header.sender = 1
        header.firstRow = 1024
        header.rowCount = 256
        header.tick = 41
        header.notice = WaitNotice(waitMicroseconds: 3200, roundTripMicroseconds: 4100)
        header.third = 5
        return header
    }

    private static var checkedControl: FrameHeader {
        var header = FrameHeader(.control)
        header.flags = FrameHeader.payloadChecked
        header.payloadChecksum = Array("123456789".utf8).withUnsafeBytes { crc32c($0) }
        header.sender = 1
        header.payloadBytes = 9
        return header
    }

    private static func bytes(_ text: String) -> [UInt8] {
        text.split { $0 == " " || $0 == "\n" }.map { UInt8($0, radix: 16)! }
    }

    private func encode(_ header: FrameHeader) -> [UInt8] {
        var bytes = [UInt8](repeating: 0xAA, count: 64)
        bytes.withUnsafeMutableBytes { header.encode(into: $0) }
        return bytes
    }

    private func decode(_ bytes: [UInt8]) throws(FrameError) -> FrameHeader {
        let result: Result<FrameHeader, FrameError> = bytes.withUnsafeBytes { source in
            do throws(FrameError) {
                return .success(try FrameHeader(decoding: source))
            } catch {
                return .failure(error)
            }
        }
        return try result.get()
    }

    /// Sets the checksum that belongs to the other bytes.
    private func resealed(_ bytes: [UInt8]) -> [UInt8] {
        var bytes = bytes
        for index in 8..<12 { bytes[index] = 0 }
        let checksum = bytes.withUnsafeBytes { crc32c($0) }
        for index in 0..<4 {
            bytes[8 + index] = UInt8(truncatingIfNeeded: checksum >> (8 * UInt32(index)))
        }
        return bytes
    }

    @Test func headersAreTheBytesOfTheDocument() throws {
        #expect(encode(Self.push) == Self.golden)
        #expect(encode(Self.checkedControl) == Self.goldenChecked)
        #expect(encode(Self.waited) == Self.goldenWaited)
        #expect(try decode(Self.golden) == Self.push)
        #expect(try decode(Self.goldenWaited).notice == Self.waited.notice)
        #expect(try decode(Self.goldenChecked) == Self.checkedControl)
    }

    @Test(arguments: [(0, 0), (5, 12_500), (UInt32.max, UInt32.max)] as [(UInt32, UInt32)])
    func aPushNamesItsBlockAndHowLongItsWorkerWasBusy(block: UInt32, busy: UInt32) {
        var header = FrameHeader(.push)
        header.setPush(block: Int(block), busyMicroseconds: busy)
        #expect(header.blockInKeeper == UInt64(block))
        #expect(header.busyMicroseconds == busy)
    }

    @Test func durationsAreRoundedAndNeverTooLong() {
        #expect(WaitNotice.microseconds(499) == 0)
        #expect(WaitNotice.microseconds(500) == 1)
        #expect(WaitNotice.microseconds(.max - 1000) == .max)
    }

    @Test func numbersOfKindsAreFixed() {
        #expect(FrameKind.allCases.map(\.rawValue) == Array(1...13))
    }

    @Test(arguments: FrameKind.allCases)
    func everyFieldSurvivesAtItsBounds(kind: FrameKind) throws {
        let fields32: [WritableKeyPath<FrameHeader, UInt32>] = [
            \.payloadChecksum, \.table, \.sender, \.rowCount,
        ]
        let fields64: [WritableKeyPath<FrameHeader, UInt64>] = [
            \.firstRow, \.tick, \.second, \.third,
        ]
        for field in fields32 {
            for value in [0, 1, UInt32.max - 1, .max] {
                var header = FrameHeader(kind)
                header[keyPath: field] = value
                #expect(try decode(encode(header)) == header)
            }
        }
        for field in fields64 {
            for value in [0, 1, UInt64(UInt32.max) + 1, .max] {
                var header = FrameHeader(kind)
                header[keyPath: field] = value
                #expect(try decode(encode(header)) == header)
            }
        }
        for flags in [0, FrameHeader.payloadChecked] {
            var header = FrameHeader(kind)
            header.flags = flags
            #expect(try decode(encode(header)) == header)
        }
    }

    @Test func thePayloadLimitIsTheLastLengthAccepted() throws {
        var header = FrameHeader(.rows)
        header.payloadBytes = UInt32(Limits.framePayloadBytesMaximum)
        #expect(try decode(encode(header)) == header)
        header.payloadBytes += 1
        #expect(throws: FrameError.payloadTooLong(bytes: 16_777_217, limit: 16_777_216)) {
            try decode(encode(header))
        }
    }

    @Test func anyFlippedBitIsDetected() {
        for golden in [Self.golden, Self.goldenChecked] {
            for bit in 0..<512 {
                var bytes = golden
                bytes[bit / 8] ^= 1 << UInt8(bit % 8)
                #expect(throws: FrameError.self, "bit \(bit)") { try decode(bytes) }
            }
        }
    }

    @Test func theReasonForARefusalIsNamed() {
        var bytes = Self.golden
        bytes[0] = 0
        #expect(throws: FrameError.wrongMagic(0x4653_5000)) { try decode(bytes) }
        bytes = Self.golden
        bytes[4] = 2
        #expect(throws: FrameError.wrongVersion(2)) { try decode(bytes) }
        bytes = Self.golden
        bytes[40] = 0
        #expect {
            try decode(bytes)
        } throws: { error in
            if case FrameError.wrongHeaderChecksum(found: 0xF0CF_66AF, _) = error {
                true
            } else {
                false
            }
        }
        for kind: UInt8 in [0, 14, 255] {
            bytes = Self.golden
            bytes[5] = kind
            #expect(throws: FrameError.unknownKind(kind)) { try decode(resealed(bytes)) }
        }
        for flags: UInt16 in [2, 3, 0x8000] {
            bytes = Self.golden
            bytes[6] = UInt8(truncatingIfNeeded: flags)
            bytes[7] = UInt8(flags >> 8)
            #expect(throws: FrameError.unknownFlags(flags)) { try decode(resealed(bytes)) }
        }
        for count in 0..<64 {
            #expect(throws: FrameError.tooShort(bytes: count)) {
                try decode(Array(Self.golden[..<count]))
            }
        }
    }

    @Test func randomBytesAreRefused() {
        var random = SeededGenerator(state: 1)
        var accepted = 0
        for round in 0..<100_000 {
            var bytes = [UInt8](repeating: 0, count: Int(random.next() % 130))
            bytes.withUnsafeMutableBytes { target in
                for offset in stride(from: 0, to: target.count, by: 8) {
                    withUnsafeBytes(of: random.next()) { word in
                        for index in 0..<min(8, target.count - offset) {
                            target[offset + index] = word[index]
                        }
                    }
                }
            }
            // Some get past the first checks.
            if round % 2 == 0 {
                for index in 0..<min(5, bytes.count) { bytes[index] = Self.golden[index] }
            }
            if (try? decode(bytes)) != nil { accepted += 1 }
        }
        #expect(accepted == 0)
    }
}

@Suite struct CRC32CTests {
    // RFC 3720, appendix B.4, and the check value of the CRC catalogue.
    @Test(
        arguments: [
            ([UInt8](repeating: 0, count: 32), 0x8A91_36AA),
            ([UInt8](repeating: 0xFF, count: 32), 0x62A8_AB43),
            (Array(0..<32), 0x46DD_794E),
            (Array((0..<32).reversed()), 0x113F_DB5C),
            (Array("123456789".utf8), 0xE306_9283),
            ([], 0),
        ] as [([UInt8], UInt32)])
    func knownVectors(bytes: [UInt8], expected: UInt32) {
        #expect(bytes.withUnsafeBytes { crc32c($0) } == expected)
        for cut in 0...bytes.count {
            var crc = CRC32C()
            bytes[..<cut].withUnsafeBytes { crc.update($0) }
            bytes[cut...].withUnsafeBytes { crc.update($0) }
            #expect(crc.value == expected)
        }
    }

    @Test func zerosNeedNoMemory() {
        var crc = CRC32C()
        crc.updateZeros(32)
        #expect(crc.value == 0x8A91_36AA)
    }
}
