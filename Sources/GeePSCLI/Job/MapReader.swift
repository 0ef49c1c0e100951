/// A rule for a number with the words that name it in a message.
struct NumberRule: Sendable {
    let expected: String
    let accepts: @Sendable (Double) -> Bool

    /// x > 0.
    static let positive = NumberRule(expected: "a number above 0") { $0 > 0 }
    /// x >= 0.
    static let nonNegative = NumberRule(expected: "a number of 0 or more") { $0 >= 0 }
    /// 0 <= x < 1.
    static let belowOne = NumberRule(expected: "a number of at least 0 and below 1") {
        0 <= $0 && $0 < 1
    }
    /// 0 <= x <= 1.
    static let upToOne = NumberRule(expected: "a number from 0 to 1") { 0 <= $0 && $0 <= 1 }
    /// Any finite x.
    static let any = NumberRule(expected: "a number") { _ in true }
}

/// Reads the keys of one map; remembers which it was asked for, so that it can name the others.
///
/// A wrong value is reported and the fallback returned, so that reading goes on to the next problem.
struct MapReader {
    /// Keys from the root: "model.layers.0"; empty for the root.
    let path: String
    /// What the map describes, for messages: "optimizer (sgd)".
    var owner: String
    let origin: Origin
    private let entries: [JobNode.Entry]
    private let problems: ProblemCollector
    private var known: [String] = []

    /// A reader of `node`; nil after reporting that it is no map.
    init?(_ node: JobNode, path: String, problems: ProblemCollector) {
        guard case .map(let entries) = node.value else {
            problems.report(
                at: node.origin,
                "found \(node.summary)\(path.isEmpty ? "" : " for \(path)"), expected a map of keys"
            )
            return nil
        }
        self.path = path
        owner = path.isEmpty ? "the job" : path
        origin = node.origin
        self.entries = entries
        self.problems = problems
    }

    /// The value of `key`, nil when it is not given or null.
    mutating func node(_ key: String) -> JobNode? {
        if !known.contains(key) { known.append(key) }
        guard let entry = entries.last(where: { $0.key == key }), !entry.node.isNull else {
            return nil
        }
        return entry.node
    }

    /// Whether `key` has a value.
    func has(_ key: String) -> Bool { entries.contains { $0.key == key && !$0.node.isNull } }

    /// Where `key` is written; the map's own place when it is not.
    func origin(of key: String) -> Origin {
        entries.last { $0.key == key }?.origin ?? origin
    }

    /// The value of `key` as `convert` reads it.
    ///
    /// - Returns: `fallback` when the key is not given; nil after reporting that it is missing (no
    ///   fallback) or that `convert` refused it.
    mutating func value<T>(
        _ key: String, fallback: T?, expected: String, _ convert: (JobNode) -> T?
    ) -> T? {
        guard let node = node(key) else {
            if fallback == nil {
                report(at: origin, "missing key '\(key)' in \(owner), expected \(expected)")
            }
            return fallback
        }
        if let value = convert(node) { return value }
        report(at: node.origin, "found \(node.summary) for \(name(of: key)), expected \(expected)")
        return nil
    }

    /// A number that `rule` accepts.
    mutating func number(_ key: String, _ rule: NumberRule, default fallback: Double? = nil)
        -> Double
    {
        value(key, fallback: fallback, expected: rule.expected) {
            Self.number($0).flatMap { rule.accepts($0) ? $0 : nil }
        } ?? fallback ?? 0.5
    }

    /// An integer in `range`.
    mutating func integer<T: FixedWidthInteger>(
        _ key: String, in range: ClosedRange<T>, default fallback: T? = nil
    ) -> T {
        value(key, fallback: fallback, expected: Self.words(for: range)) { node in
            node.plainText.flatMap { T($0) }.flatMap { range.contains($0) ? $0 : nil }
        } ?? fallback ?? range.lowerBound
    }

    /// true or false.
    mutating func flag(_ key: String, default fallback: Bool) -> Bool {
        value(key, fallback: fallback, expected: "true or false") { node in
            switch node.plainText {
            case "true", "True", "TRUE": true
            case "false", "False", "FALSE": false
            default: nil
            }
        } ?? fallback
    }

    /// A text that is not empty; nil when it is not given and not `isRequired`, or is wrong.
    mutating func text(_ key: String, isRequired: Bool = false, expected: String) -> String? {
        if !isRequired && !has(key) {
            _ = node(key)
            return nil
        }
        return value(key, fallback: nil, expected: expected) { node in
            node.text.flatMap { $0.isEmpty ? nil : $0 }
        }
    }

    /// One of `choices`; nil after reporting a missing or an unknown one.
    mutating func choice(_ key: String, of choices: [String], default fallback: String? = nil)
        -> String?
    {
        let expected = "one of \(choices.joined(separator: ", "))"
        guard let node = node(key) else {
            return value(key, fallback: fallback, expected: expected) { _ in nil }
        }
        if let text = node.text, choices.contains(text) { return text }
        report(
            at: node.origin,
            "found \(node.summary) for \(name(of: key)), expected \(expected)"
                + suggestion(for: node.text ?? "", among: choices))
        return nil
    }

    /// A list of integers in `range`; nil after reporting that it is missing or wrong.
    mutating func integers<T: FixedWidthInteger>(_ key: String, in range: ClosedRange<T>) -> [T]? {
        let expected = "a list with \(Self.words(for: range)) each"
        return value(key, fallback: nil, expected: expected) { node in
            guard case .list(let elements) = node.value, !elements.isEmpty else { return nil }
            let numbers = elements.compactMap { $0.plainText.flatMap { T($0) } }
            let isValid = numbers.count == elements.count && numbers.allSatisfy(range.contains)
            return isValid ? numbers : nil
        }
    }

    /// A reader of the map under `key`; nil when it is not given (reported if required) or no map.
    mutating func map(_ key: String, isRequired: Bool = false) -> MapReader? {
        guard let node = node(key) else {
            if isRequired {
                report(at: origin, "missing key '\(key)' in \(owner), expected a map of keys")
            }
            return nil
        }
        return MapReader(node, path: name(of: key), problems: problems)
    }

    /// Reports every key that was not asked for.
    func finish() {
        for entry in entries where !known.contains(entry.key) {
            report(
                at: entry.origin,
                "found unknown key '\(entry.key)' in \(owner), expected one of "
                    + known.joined(separator: ", ") + suggestion(for: entry.key, among: known))
        }
    }

    /// Adds a problem.
    func report(at origin: Origin, _ message: String) { problems.report(at: origin, message) }

    /// The full name of `key`, as `--set` takes it.
    func name(of key: String) -> String { path.isEmpty ? key : "\(path).\(key)" }

    /// A finite decimal number.
    static func number(_ node: JobNode) -> Double? {
        guard let text = node.plainText, text.allSatisfy({ "0123456789+-.eE".contains($0) }),
            let number = Double(text), number.isFinite
        else { return nil }
        return number
    }

    private static func words<T: FixedWidthInteger>(for range: ClosedRange<T>) -> String {
        range.upperBound >= T(clamping: Int.max)
            ? "an integer of \(range.lowerBound) or more"
            : "an integer from \(range.lowerBound) to \(range.upperBound)"
    }
}
