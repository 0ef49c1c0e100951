/// A value of a JSON document; keys keep their order.
enum JSONValue: Hashable, Sendable {
    case null
    case bool(Bool)
    case integer(Int64)
    /// What is not finite is written as null: JSON has no word for it.
    case number(Double)
    /// A number of thousandths, written with three decimals.
    case fixed(thousandths: UInt64)
    case string(String)
    case array([JSONValue])
    case object([Member])

    /// A key with its value.
    struct Member: Hashable, Sendable {
        var key: String
        var value: JSONValue
    }

    /// An object with keys in this order.
    static func object(_ pairs: KeyValuePairs<String, JSONValue>) -> JSONValue {
        .object(pairs.map { Member(key: $0.key, value: $0.value) })
    }

    /// The document on one line.
    var text: String {
        switch self {
        case .null: "null"
        case .bool(let value): "\(value)"
        case .integer(let value): "\(value)"
        case .number(let value): value.isFinite ? "\(value)" : "null"
        case .fixed(let value): "\(value / 1000)." + "\(1000 + value % 1000)".dropFirst()
        case .string(let value): jsonString(value)
        case .array(let values): "[" + values.map(\.text).joined(separator: ",") + "]"
        case .object(let members):
            "{" + members.map { "\(jsonString($0.key)):\($0.value.text)" }.joined(separator: ",")
                + "}"
        }
    }
}

/// `text` in double quotes, as JSON and YAML read it.
func jsonString(_ text: String) -> String {
    var result = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"": result += "\\\""
        case "\\": result += "\\\\"
        case "\n": result += "\\n"
        case "\r": result += "\\r"
        case "\t": result += "\\t"
        case _ where scalar.value < 0x20 || scalar.value == 0x7F:
            let digits = String(scalar.value, radix: 16)
            result += "\\u" + String(repeating: "0", count: 4 - digits.count) + digits
        default: result.unicodeScalars.append(scalar)
        }
    }
    return result + "\""
}
