/// What a frame carries.
///
/// Numbers are part of the wire format (docs/formats/frame.md).
public enum FrameKind: UInt8, Sendable, CaseIterable {
    /// Opens a data lane: who is calling, and for which keeper.
    case hello = 1
    /// The lane is accepted.
    case welcome = 2
    /// The lane is refused; the payload is the reason, UTF-8.
    case refusal = 3
    /// Initial values of a block; from rank 0 only.
    case initialise = 4
    /// A worker's update of a block for one tick; without payload: it made none.
    case push = 5
    /// Fresh rows of a block.
    case rows = 6
    /// An orderly end: nothing follows.
    case goodbye = 7
    /// Control traffic; the payload is defined by docs/formats/control.md.
    case control = 8
    /// The keeper's answer to hello: prove that you are of the job.
    case challenge = 9
    /// The worker's proof.
    case proof = 10
    /// A worker has waited for rows of a block: what its keeper tells causes apart with.
    ///
    /// Nothing depends on it.
    case waited = 11
    /// What the sender has of every block of the lane; each side's first frame after the handshake.
    case resume = 12
    /// Both sides leave TCP for UCX: the address of the sender's worker, or nothing once it has reached the other's.
    case carrier = 13
}

/// The fixed head of every frame: 64 bytes, little endian.
///
/// The meaning of `tick`, `second` and `third` depends on the kind; docs/formats/frame.md is normative.
public struct FrameHeader: Hashable, Sendable {
    /// What the frame carries.
    public var kind: FrameKind
    /// A set of `payloadChecked`; other bits are refused.
    public var flags: UInt16 = 0
    /// CRC-32C of the payload when `flags` has `payloadChecked`, otherwise zero.
    public var payloadChecksum: UInt32 = 0
    /// Index of the table.
    ///
    /// hello: the connection's number, higher than those of the lane's earlier connections.
    public var table: UInt32 = 0
    /// Rank of the sending worker or index of the sending keeper.
    public var sender: UInt32 = 0
    /// First row of the table that the payload covers.
    public var firstRow: UInt64 = 0
    /// Rows of the payload.
    public var rowCount: UInt32 = 0
    /// Bytes that follow the header; set by `Connection.send`.
    public var payloadBytes: UInt32 = 0
    /// push: the tick of the update.
    ///
    /// rows, waited: the data age. hello: lane.
    public var tick: UInt64 = 0
    /// rows: the receiver's last tick that the keeper has.
    ///
    /// push: learning rate, as the bits of a Double. hello: the worker's lanes to this keeper.
    /// waited: see `WaitNotice`.
    public var second: UInt64 = 0
    /// hello: keeper index.
    ///
    /// Otherwise the block's index in its keeper; of a push in the lower half, and see `busyMicroseconds`.
    public var third: UInt64 = 0

    /// A header of `kind` with all else zero.
    public init(_ kind: FrameKind) { self.kind = kind }

    /// Flag: `payloadChecksum` holds and must be verified.
    public static let payloadChecked: UInt16 = 1

    /// The first four bytes of every frame, "GPSF" when read as text.
    public static let magic: UInt32 = 0x4653_5047
    /// The version this code writes, and the only one it reads.
    public static let version: UInt8 = 4
}

/// Why 64 bytes are not a frame header.
public enum FrameError: Error, Hashable, Sendable, CustomStringConvertible {
    case tooShort(bytes: Int)
    case wrongMagic(UInt32)
    case wrongVersion(UInt8)
    case wrongHeaderChecksum(found: UInt32, expected: UInt32)
    case unknownKind(UInt8)
    case unknownFlags(UInt16)
    case payloadTooLong(bytes: UInt32, limit: Int)

    /// The message a person reads.
    public var description: String {
        switch self {
        case .tooShort(let bytes):
            return "frame header is \(bytes) bytes, expected \(Limits.frameHeaderBytes)"
        case .wrongMagic(let magic):
            return
                "not a GeePS frame: starts with 0x\(hex(magic)), expected 0x\(hex(FrameHeader.magic))"
        case .wrongVersion(let version):
            return "frame version \(version), this program speaks \(FrameHeader.version); "
                + "run the same GeePS version on every machine"
        case .wrongHeaderChecksum(let found, let expected):
            return "header checksum 0x\(hex(found)), expected 0x\(hex(expected))"
        case .unknownKind(let kind): return "frame kind \(kind) is unknown"
        case .unknownFlags(let flags): return "frame flags \(flags) are unknown"
        case .payloadTooLong(let bytes, let limit):
            return "payload of \(bytes) bytes announced, at most \(limit) are allowed"
        }
    }

    private func hex(_ value: UInt32) -> String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 8 - digits.count) + digits
    }
}

extension FrameHeader {
    /// Writes the header to the first 64 bytes of `target`, checksum included.
    ///
    /// - Precondition: `target` has at least 64 bytes.
    public func encode(into target: UnsafeMutableRawBufferPointer) {
        precondition(target.count >= Limits.frameHeaderBytes, "a header takes 64 bytes")
        store(Self.magic, at: 0, in: target)
        store(Self.version, at: 4, in: target)
        store(kind.rawValue, at: 5, in: target)
        store(flags, at: 6, in: target)
        store(UInt32(0), at: 8, in: target)
        store(payloadChecksum, at: 12, in: target)
        store(table, at: 16, in: target)
        store(sender, at: 20, in: target)
        store(firstRow, at: 24, in: target)
        store(rowCount, at: 32, in: target)
        store(payloadBytes, at: 36, in: target)
        store(tick, at: 40, in: target)
        store(second, at: 48, in: target)
        store(third, at: 56, in: target)
        let checksum = crc32c(UnsafeRawBufferPointer(rebasing: target[..<Limits.frameHeaderBytes]))
        store(checksum, at: 8, in: target)
    }

    /// Reads a header from untrusted bytes; every field that decides about memory is checked.
    ///
    /// - Throws: what is wrong, in the order magic, version, checksum, kind, flags, length.
    public init(decoding source: UnsafeRawBufferPointer) throws(FrameError) {
        guard source.count >= Limits.frameHeaderBytes else {
            throw .tooShort(bytes: source.count)
        }
        let magic: UInt32 = load(0, from: source)
        guard magic == Self.magic else { throw .wrongMagic(magic) }
        let version: UInt8 = load(4, from: source)
        guard version == Self.version else { throw .wrongVersion(version) }
        let found: UInt32 = load(8, from: source)
        var crc = CRC32C()
        crc.update(UnsafeRawBufferPointer(rebasing: source[0..<8]))
        crc.updateZeros(4)
        crc.update(UnsafeRawBufferPointer(rebasing: source[12..<Limits.frameHeaderBytes]))
        guard found == crc.value else {
            throw .wrongHeaderChecksum(found: found, expected: crc.value)
        }
        let kindNumber: UInt8 = load(5, from: source)
        guard let kind = FrameKind(rawValue: kindNumber) else { throw .unknownKind(kindNumber) }
        self.init(kind)
        flags = load(6, from: source)
        guard flags & ~Self.payloadChecked == 0 else { throw .unknownFlags(flags) }
        payloadChecksum = load(12, from: source)
        table = load(16, from: source)
        sender = load(20, from: source)
        firstRow = load(24, from: source)
        rowCount = load(32, from: source)
        payloadBytes = load(36, from: source)
        tick = load(40, from: source)
        second = load(48, from: source)
        third = load(56, from: source)
        guard Int(payloadBytes) <= Limits.framePayloadBytesMaximum else {
            throw .payloadTooLong(bytes: payloadBytes, limit: Limits.framePayloadBytesMaximum)
        }
    }
}

private func store<T: FixedWidthInteger>(
    _ value: T, at offset: Int, in target: UnsafeMutableRawBufferPointer
) {
    target.storeBytes(of: value.littleEndian, toByteOffset: offset, as: T.self)
}

private func load<T: FixedWidthInteger>(_ offset: Int, from source: UnsafeRawBufferPointer) -> T {
    T(littleEndian: source.loadUnaligned(fromByteOffset: offset, as: T.self))
}
