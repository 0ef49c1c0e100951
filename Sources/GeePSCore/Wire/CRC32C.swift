/// CRC-32C (Castagnoli; RFC 3720 appendix B.4), a byte at a time: for headers and control messages.
public struct CRC32C: Sendable {
    private var register: UInt32 = ~0

    /// The checksum of nothing.
    public init() {}

    /// The checksum of all bytes so far.
    public var value: UInt32 { ~register }

    /// Adds bytes.
    public mutating func update(_ bytes: UnsafeRawBufferPointer) {
        for byte in bytes { add(byte) }
    }

    /// Adds `count` zero bytes.
    public mutating func updateZeros(_ count: Int) {
        for _ in 0..<count { add(0) }
    }

    private mutating func add(_ byte: UInt8) {
        register = Self.table[Int(UInt8(truncatingIfNeeded: register) ^ byte)] ^ (register >> 8)
    }

    private static let table: [UInt32] = (0..<256).map { index in
        (0..<8).reduce(UInt32(index)) { crc, _ in
            crc & 1 == 1 ? (crc >> 1) ^ 0x82F6_3B78 : crc >> 1
        }
    }
}

/// The CRC-32C of `bytes`.
public func crc32c(_ bytes: UnsafeRawBufferPointer) -> UInt32 {
    var crc = CRC32C()
    crc.update(bytes)
    return crc.value
}
