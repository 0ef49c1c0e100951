/// Builds a message byte by byte: little endian, variable parts behind a 32-bit length.
public struct ByteWriter: Sendable {
    /// Everything written so far.
    public private(set) var bytes: [UInt8] = []

    /// An empty message.
    public init() {}

    /// Appends one byte.
    public mutating func write(_ value: UInt8) { bytes.append(value) }

    /// Appends 2 bytes.
    public mutating func write(_ value: UInt16) { append(value) }

    /// Appends 4 bytes.
    public mutating func write(_ value: UInt32) { append(value) }

    /// Appends 8 bytes.
    public mutating func write(_ value: UInt64) { append(value) }

    /// Appends the 8 bytes of an IEEE 754 double; every bit pattern survives.
    public mutating func write(_ value: Double) { append(value.bitPattern) }

    /// Appends a 32-bit length and the UTF-8 of `text`.
    public mutating func write(_ text: String) { write(Array(text.utf8)) }

    /// Appends a 32-bit length and `block`.
    ///
    /// - Precondition: `block` is shorter than 4 GiB.
    public mutating func write(_ block: [UInt8]) {
        append(UInt32(block.count))
        bytes += block
    }

    private mutating func append<T: FixedWidthInteger>(_ value: T) {
        withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
    }
}

/// Why bytes are not the message they should be.
public struct ByteError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Which field, what was expected and what was found.
    public let description: String

    /// An error that reads `description`.
    public init(_ description: String) { self.description = description }
}

/// Takes a message apart that somebody else wrote.
///
/// No sequence of bytes traps, and nothing is allocated for a length before that many bytes are
/// known to be there.
public struct ByteReader: Sendable {
    private let bytes: [UInt8]
    private var position = 0

    /// Starts at the first of `bytes`.
    public init(_ bytes: [UInt8]) { self.bytes = bytes }

    /// Bytes not read yet.
    public var remaining: Int { bytes.count - position }

    /// Takes one byte.
    public mutating func uint8(_ field: StaticString) throws(ByteError) -> UInt8 {
        try integer(field)
    }

    /// Takes 2 bytes.
    public mutating func uint16(_ field: StaticString) throws(ByteError) -> UInt16 {
        try integer(field)
    }

    /// Takes 4 bytes.
    public mutating func uint32(_ field: StaticString) throws(ByteError) -> UInt32 {
        try integer(field)
    }

    /// Takes 8 bytes.
    public mutating func uint64(_ field: StaticString) throws(ByteError) -> UInt64 {
        try integer(field)
    }

    /// Takes the 8 bytes of a double.
    public mutating func double(_ field: StaticString) throws(ByteError) -> Double {
        Double(bitPattern: try integer(field))
    }

    /// Takes a 32-bit count of elements that need at least `elementBytes` each.
    ///
    /// - Throws: when it is over `limit`, or more than the rest of the message could hold.
    public mutating func count(
        _ field: StaticString, limit: Int, elementBytes: Int
    ) throws(ByteError) -> Int {
        let found = Int(try uint32(field))
        guard found <= limit else {
            throw ByteError("\(field): \(found) announced, at most \(limit) are allowed")
        }
        guard found <= remaining / max(1, elementBytes) else {
            throw ByteError("\(field): \(found) announced, but only \(remaining) bytes follow")
        }
        return found
    }

    /// Takes a 32-bit length and that many bytes, at most `limit`.
    public mutating func block(_ field: StaticString, limit: Int) throws(ByteError) -> [UInt8] {
        let length = try count(field, limit: limit, elementBytes: 1)
        defer { position += length }
        return Array(bytes[position..<position + length])
    }

    /// Takes a 32-bit length and that many bytes of UTF-8, at most `limit`.
    public mutating func text(_ field: StaticString, limit: Int) throws(ByteError) -> String {
        let found = try block(field, limit: limit)
        guard let text = String(validating: found, as: UTF8.self) else {
            throw ByteError("\(field): \(found.count) bytes that are not UTF-8")
        }
        return text
    }

    /// Ends the reading.
    ///
    /// - Throws: when bytes are left; a message is exactly its fields.
    public func finish() throws(ByteError) {
        guard remaining == 0 else {
            throw ByteError("\(remaining) bytes are left after the last field")
        }
    }

    private mutating func integer<T: FixedWidthInteger>(_ field: StaticString) throws(ByteError)
        -> T
    {
        let size = MemoryLayout<T>.size
        guard remaining >= size else {
            throw ByteError("\(field): \(size) bytes expected, \(remaining) are left")
        }
        defer { position += size }
        return bytes.withUnsafeBytes {
            T(littleEndian: $0.loadUnaligned(fromByteOffset: position, as: T.self))
        }
    }
}
