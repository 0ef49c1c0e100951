import GeePSCore
import Testing

@Suite struct BytesTests {
    private func sample() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(UInt8(7))
        writer.write(UInt16(0x1234))
        writer.write(UInt32(0x89AB_CDEF))
        writer.write(UInt64.max - 1)
        writer.write(-0.0)
        writer.write("zwölf")
        writer.write([1, 2, 3] as [UInt8])
        return writer.bytes
    }

    private func readSample(_ bytes: [UInt8]) throws(ByteError) {
        var reader = ByteReader(bytes)
        let first = try reader.uint8("first")
        let second = try reader.uint16("second")
        let third = try reader.uint32("third")
        let fourth = try reader.uint64("fourth")
        let fifth = try reader.double("fifth")
        let text = try reader.text("text", limit: 6)
        let block = try reader.block("block", limit: 3)
        try reader.finish()
        #expect(first == 7 && second == 0x1234 && third == 0x89AB_CDEF && fourth == .max - 1)
        #expect(fifth.bitPattern == (-0.0).bitPattern)
        #expect(text == "zwölf")
        #expect(block == [1, 2, 3])
    }

    @Test func readsBackWhatWasWritten() throws { try readSample(sample()) }

    @Test func isLittleEndian() {
        var writer = ByteWriter()
        writer.write(UInt32(0x0102_0304))
        writer.write("A")
        #expect(writer.bytes == [4, 3, 2, 1, 1, 0, 0, 0, 0x41])
    }

    @Test func refusesEveryTruncation() {
        let bytes = sample()
        for length in 0..<bytes.count {
            #expect(throws: ByteError.self) { try readSample(Array(bytes[..<length])) }
        }
    }

    @Test func refusesBytesThatAreLeftOver() {
        #expect(throws: ByteError("1 bytes are left after the last field")) {
            try readSample(sample() + [0])
        }
    }

    @Test func refusesALengthOverTheLimitOrOverTheMessage() {
        var writer = ByteWriter()
        writer.write([9, 9, 9] as [UInt8])
        var reader = ByteReader(writer.bytes)
        #expect(throws: ByteError("block: 3 announced, at most 2 are allowed")) {
            try reader.block("block", limit: 2)
        }
        var huge = ByteReader([0xFF, 0xFF, 0xFF, 0xFF, 1])
        #expect(throws: ByteError("list: 4294967295 announced, but only 1 bytes follow")) {
            try huge.count("list", limit: .max, elementBytes: 8)
        }
    }

    @Test func refusesTextThatIsNotUTF8() {
        var writer = ByteWriter()
        writer.write([0xC3, 0x28] as [UInt8])
        var reader = ByteReader(writer.bytes)
        #expect(throws: ByteError("name: 2 bytes that are not UTF-8")) {
            try reader.text("name", limit: 10)
        }
    }
}
