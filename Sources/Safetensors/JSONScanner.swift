/// Reads the tokens of a header from left to right: strict JSON, no recursion, no lookahead but a byte.
package struct JSONScanner {
    private let bytes: UnsafeRawBufferPointer
    /// Offset of the next byte in the header.
    package private(set) var position = 0

    package init(_ bytes: UnsafeRawBufferPointer) { self.bytes = bytes }

    /// Takes the punctuation `character`, after any white space.
    package mutating func take(_ character: Unicode.Scalar) throws(SafetensorsError) {
        skipSpace()
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else {
            throw unexpected(expected: "'\(character)'")
        }
        position += 1
    }

    /// Takes `character` if it is next.
    package mutating func takeIfPresent(_ character: Unicode.Scalar) -> Bool {
        skipSpace()
        guard position < bytes.count, bytes[position] == UInt8(ascii: character) else {
            return false
        }
        position += 1
        return true
    }

    /// Refuses anything but white space up to the end.
    package mutating func takeEnd() throws(SafetensorsError) {
        skipSpace()
        if position < bytes.count { throw unexpected(expected: "the end") }
    }

    /// A whole number of zero or more, without sign, fraction, exponent or leading zeros.
    package mutating func takeCount() throws(SafetensorsError) -> Int {
        skipSpace()
        let start = position
        var value = 0
        while position < bytes.count, case let digit = bytes[position] &- UInt8(ascii: "0"),
            digit < 10
        {
            let (tens, overflow) = value.multipliedReportingOverflow(by: 10)
            let (sum, carry) = tens.addingReportingOverflow(Int(digit))
            if overflow || carry {
                throw SafetensorsError(.json, "header byte \(start): number over \(Int.max)")
            }
            value = sum
            position += 1
        }
        let hasLeadingZero = position - start > 1 && bytes[start] == UInt8(ascii: "0")
        if position == start || hasLeadingZero {
            position = start
            throw unexpected(expected: "a whole number")
        }
        return value
    }

    /// A string, escapes resolved.
    package mutating func takeString() throws(SafetensorsError) -> String {
        try take("\"")
        let start = position
        var text: [UInt8] = []
        while position < bytes.count {
            let byte = bytes[position]
            switch byte {
            case UInt8(ascii: "\""):
                position += 1
                guard let string = String(validating: text, as: UTF8.self) else {
                    throw SafetensorsError(.json, "header byte \(start): string is not UTF-8")
                }
                return string
            case UInt8(ascii: "\\"):
                position += 1
                text.append(contentsOf: try takeEscape())
            case 0..<0x20:
                throw unexpected(expected: "a string without control characters")
            default:
                text.append(byte)
                position += 1
            }
        }
        throw unexpected(expected: "the end of a string")
    }

    private mutating func takeEscape() throws(SafetensorsError) -> [UInt8] {
        guard position < bytes.count else { throw unexpected(expected: "an escape") }
        let byte = bytes[position]
        position += 1
        switch byte {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return [byte]
        case UInt8(ascii: "b"): return [0x08]
        case UInt8(ascii: "f"): return [0x0C]
        case UInt8(ascii: "n"): return [0x0A]
        case UInt8(ascii: "r"): return [0x0D]
        case UInt8(ascii: "t"): return [0x09]
        case UInt8(ascii: "u"): return try takeUnicodeEscape()
        default:
            position -= 1
            throw unexpected(expected: "one of \"\\/bfnrtu after a backslash")
        }
    }

    // \uXXXX, or two of them that are a surrogate pair.
    private mutating func takeUnicodeEscape() throws(SafetensorsError) -> [UInt8] {
        let start = position
        var value = try takeHexDigits()
        if (0xD800..<0xDC00).contains(value), position + 1 < bytes.count,
            bytes[position] == UInt8(ascii: "\\"), bytes[position + 1] == UInt8(ascii: "u")
        {
            position += 2
            let low = try takeHexDigits()
            guard (0xDC00..<0xE000).contains(low) else {
                throw SafetensorsError(.json, "header byte \(start): half a surrogate pair")
            }
            value = 0x10000 + (value - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(value) else {
            throw SafetensorsError(.json, "header byte \(start): half a surrogate pair")
        }
        return Array(String(Character(scalar)).utf8)
    }

    private mutating func takeHexDigits() throws(SafetensorsError) -> UInt32 {
        var value: UInt32 = 0
        for _ in 0..<4 {
            guard position < bytes.count,
                let digit = Character(Unicode.Scalar(bytes[position])).hexDigitValue,
                bytes[position] < 0x80
            else { throw unexpected(expected: "four hexadecimal digits") }
            value = value << 4 | UInt32(digit)
            position += 1
        }
        return value
    }

    private mutating func skipSpace() {
        while position < bytes.count {
            switch bytes[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position += 1
            default: return
            }
        }
    }

    private func unexpected(expected: String) -> SafetensorsError {
        let found =
            position < bytes.count
            ? (0x21..<0x7F).contains(bytes[position])
                ? "'\(Character(Unicode.Scalar(bytes[position])))'"
                : "byte 0x\(String(bytes[position], radix: 16))"
            : "the end"
        return SafetensorsError(
            .json, "header byte \(position): found \(found), expected \(expected)")
    }
}

/// The JSON of `text`, quotes included: only what must be escaped is.
package func quotedJSON(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\u{08}": result += "\\b"
        case "\u{0C}": result += "\\f"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case "\u{00}"..<"\u{20}":
            let hex = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - hex.count) + hex
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
