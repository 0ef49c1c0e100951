/// Where a value of a job was written.
enum Origin: Hashable, Sendable {
    /// In the job file; both count from 1.
    case file(line: Int, column: Int)
    /// On the command line: the flag as it was given.
    case flag(String)
}

/// A value of a job file with the place it was written at: what the parser reads and overrides change.
struct JobNode: Hashable, Sendable {
    /// What was written.
    enum Value: Hashable, Sendable {
        /// `isPlain` is false in quotes: a quoted value is a text, whatever it looks like.
        case scalar(String, isPlain: Bool)
        case list([JobNode])
        /// In the order of the file.
        case map([Entry])
    }

    /// A key of a map with its value.
    struct Entry: Hashable, Sendable {
        var key: String
        /// Where the key is written.
        var origin: Origin
        var node: JobNode
    }

    var value: Value
    var origin: Origin

    /// Whether it stands for "not given".
    var isNull: Bool {
        guard case .scalar(let text, isPlain: true) = value else { return false }
        return ["", "~", "null", "Null", "NULL"].contains(text)
    }

    /// The text of a scalar that is not in quotes.
    var plainText: String? {
        guard case .scalar(let text, isPlain: true) = value, !isNull else { return nil }
        return text
    }

    /// The text of any scalar but null.
    var text: String? {
        guard case .scalar(let text, _) = value, !isNull else { return nil }
        return text
    }

    /// What a person would call it: "the number 3", "a list of 2".
    var summary: String {
        switch value {
        case .list(let elements): return "a list of \(elements.count)"
        case .map: return "a map"
        case .scalar(let text, let isPlain):
            if isNull { return "nothing" }
            if isPlain && Double(text) != nil { return "the number \(text)" }
            return isPlain ? "'\(text)'" : "the text \"\(text)\""
        }
    }
}
