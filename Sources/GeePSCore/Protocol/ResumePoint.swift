/// What one side of a lane has of a block when a connection begins.
///
/// Both sides say it before anything else, so that what was lost with an earlier connection is sent again and
/// nothing else is. docs/formats/frame.md is normative.
public struct ResumePoint: Hashable, Sendable {
    /// Age of the rows that this side has; nil: none.
    public var age: UInt64?
    /// The worker's last tick: at the worker the one that the keeper has acknowledged, at the keeper the one that it
    /// has received.
    public var tick: UInt64

    /// A resume point.
    public init(age: UInt64?, tick: UInt64) {
        self.age = age
        self.tick = tick
    }

    /// Bytes of one resume point.
    public static let byteCount = 16
    private static let noAge = UInt64.max

    /// `points` one after the other.
    public static func encode(_ points: [ResumePoint]) -> [UInt8] {
        var writer = ByteWriter()
        for point in points {
            writer.write(point.age ?? noAge)
            writer.write(point.tick)
        }
        return writer.bytes
    }

    /// Reads exactly `count` resume points; nil when `bytes` has another length.
    public static func decode(_ bytes: UnsafeRawBufferPointer, count: Int) -> [ResumePoint]? {
        guard bytes.count == count * byteCount else { return nil }
        return (0..<count).map { index in
            let age = word(bytes, at: index * byteCount)
            return ResumePoint(
                age: age == noAge ? nil : age, tick: word(bytes, at: index * byteCount + 8))
        }
    }

    private static func word(_ bytes: UnsafeRawBufferPointer, at offset: Int) -> UInt64 {
        UInt64(littleEndian: bytes.loadUnaligned(fromByteOffset: offset, as: UInt64.self))
    }
}
