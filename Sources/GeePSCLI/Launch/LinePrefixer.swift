/// Cuts a stream of bytes into lines and puts a prefix before each.
struct LinePrefixer {
    /// A line longer than this is given out in pieces.
    private static let lineBytesMaximum = 65536

    let prefix: String
    private var pending: [UInt8] = []

    /// A prefixer for one stream.
    init(prefix: String) { self.prefix = prefix }

    /// The lines that `bytes` complete, each with prefix and newline; keeps an unfinished one.
    mutating func lines(of bytes: some Sequence<UInt8>) -> [String] {
        var lines: [String] = []
        for byte in bytes {
            if byte == UInt8(ascii: "\n") || pending.count == Self.lineBytesMaximum {
                lines.append(take())
                if byte == UInt8(ascii: "\n") { continue }
            }
            pending.append(byte)
        }
        return lines
    }

    /// The unfinished line at the end of the stream.
    mutating func finish() -> String? { pending.isEmpty ? nil : take() }

    private mutating func take() -> String {
        defer { pending.removeAll(keepingCapacity: true) }
        if pending.last == UInt8(ascii: "\r") { pending.removeLast() }
        return prefix + String(decoding: pending, as: UTF8.self) + "\n"
    }
}
