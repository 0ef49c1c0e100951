import Yams

/// Reads YAML text into a tree whose nodes know where they were written.
///
/// Duplicate keys are problems like any other: the first of each pair is blanked out and the text is read
/// again, so that everything behind it is checked too.
struct JobFile {
    /// Stands for a letter of a key that occurs again; of a private-use area, so no key contains it.
    private static let blank: Unicode.Scalar = "\u{E0FF}"

    /// Aliases of aliases make billions of values out of a few lines; no job has as many as this.
    private static let valuesMaximum = 1_000_000
    private static let tooManyValues =
        "more than \(valuesMaximum) values, aliases included, expected fewer; write out what is meant "
        + "instead of nesting aliases"

    private var lines: [[Unicode.Scalar]]
    private var blankedKeys: [Origin: String] = [:]
    private let problems: ProblemCollector

    /// The tree of `text`, or nil after reporting why there is none.
    static func read(_ text: String, problems: ProblemCollector) -> JobNode? {
        var file = JobFile(text, problems: problems)
        return file.read()
    }

    /// The tree of a value given on the command line; every node has that flag as its origin.
    static func readValue(_ text: String, flag: String, problems: ProblemCollector) -> JobNode? {
        do {
            let root = try Yams.compose(yaml: text)
            guard root?.fits(within: valuesMaximum) ?? true else {
                problems.report(at: .flag(flag), "found \(tooManyValues)")
                return nil
            }
            return root.map { JobNode($0, at: .flag(flag)) }
                ?? JobNode(value: .scalar("", isPlain: true), origin: .flag(flag))
        } catch let error as YamlError {
            problems.report(at: .flag(flag), "'\(text)' is not a YAML value: \(error.reason)")
        } catch {
            problems.report(at: .flag(flag), "'\(text)' is not a YAML value: \(error)")
        }
        return nil
    }

    private init(_ text: String, problems: ProblemCollector) {
        lines = text.unicodeScalars.split(separator: "\n", omittingEmptySubsequences: false)
            .map(Array.init)
        self.problems = problems
    }

    private mutating func read() -> JobNode? {
        while true {
            do {
                guard let root = try Yams.compose(yaml: text) else {
                    problems.report(
                        at: .file(line: 1, column: 1), "found an empty file, expected a map")
                    return nil
                }
                guard root.fits(within: JobFile.valuesMaximum) else {
                    problems.report(
                        at: .file(line: 1, column: 1), "found \(JobFile.tooManyValues)")
                    return nil
                }
                return tree(root)
            } catch YamlError.duplicatedKeysInMapping(let keys, let context) {
                let origin = Origin.file(line: context.mark.line, column: context.mark.column)
                guard let key = blankKey(among: keys, at: context.mark) else {
                    problems.report(
                        at: origin,
                        "found \(keys.map { "'\($0)'" }.joined(separator: ", ")) more than once in a "
                            + "map, expected each key once")
                    return nil
                }
                blankedKeys[origin] = key
            } catch {
                report(error)
                return nil
            }
        }
    }

    private var text: String {
        var view = String.UnicodeScalarView()
        for (index, line) in lines.enumerated() {
            if index > 0 { view.append("\n") }
            view.append(contentsOf: line)
        }
        return String(view)
    }

    /// Overwrites the key written at `mark`, keeping every column; nil when it is not written plainly.
    private mutating func blankKey(among keys: [String], at mark: Mark) -> String? {
        guard lines.indices.contains(mark.line - 1) else { return nil }
        for key in keys.sorted(by: { $0.unicodeScalars.count > $1.unicodeScalars.count }) {
            let scalars = Array(key.unicodeScalars)
            let range = (mark.column - 1)..<(mark.column - 1 + scalars.count)
            guard !scalars.isEmpty, range.upperBound <= lines[mark.line - 1].count,
                lines[mark.line - 1][range].elementsEqual(scalars)
            else { continue }
            // The count makes blanked keys of one map differ from each other; length is kept.
            let mask = scalars.indices.map { index in
                index == 0
                    ? Unicode.Scalar(Self.blank.value - 1 - UInt32(blankedKeys.count % 200))
                        ?? Self.blank
                    : Self.blank
            }
            lines[mark.line - 1].replaceSubrange(range, with: mask)
            return key
        }
        return nil
    }

    /// The tree without blanked keys; all but the first of a name are reported.
    private func tree(_ node: Node) -> JobNode {
        let origin = Origin(node.mark)
        switch node {
        case .scalar(let scalar): return JobNode(scalar, at: origin)
        case .sequence(let sequence):
            return JobNode(value: .list(sequence.map(tree)), origin: origin)
        case .mapping(let mapping):
            var entries: [JobNode.Entry] = []
            var first: [String: Int] = [:]
            for pair in mapping {
                let keyOrigin = Origin(pair.key.mark)
                let blanked = blankedKeys[keyOrigin]
                let key = blanked ?? pair.key.scalar?.string ?? ""
                if pair.key.scalar == nil {
                    problems.report(at: keyOrigin, "found a list or map as a key, expected a name")
                }
                if let line = first[key] {
                    problems.report(
                        at: keyOrigin, "found '\(key)' again, it is given in line \(line)")
                }
                guard blanked == nil else {
                    first[key] = first[key] ?? keyOrigin.line
                    continue
                }
                entries.append(.init(key: key, origin: keyOrigin, node: tree(pair.value)))
            }
            return JobNode(value: .map(entries), origin: origin)
        case .alias:
            problems.report(at: origin, "found an alias to nothing, expected a value")
            return JobNode(value: .scalar("", isPlain: true), origin: origin)
        }
    }

    private func report(_ error: any Error) {
        guard let error = error as? YamlError else {
            return problems.report(at: .file(line: 1, column: 1), "cannot read the YAML: \(error)")
        }
        problems.report(
            at: error.origin, "the YAML cannot be read: \(error.reason)\(hint(for: error.origin))")
    }

    /// libyaml does not say that a tab is the matter.
    private func hint(for origin: Origin) -> String {
        guard let line = origin.line, lines.indices.contains(line - 1),
            lines[line - 1].prefix(while: { $0 == " " || $0 == "\t" }).contains("\t")
        else { return "" }
        return "; found a tab before the first word, expected spaces"
    }
}

extension Origin {
    fileprivate init(_ mark: Mark?) {
        self = .file(line: mark?.line ?? 1, column: mark?.column ?? 1)
    }
}

extension JobNode {
    fileprivate init(_ scalar: Node.Scalar, at origin: Origin) {
        self.init(
            value: .scalar(scalar.string, isPlain: scalar.style == .plain || scalar.style == .any),
            origin: origin)
    }

    fileprivate init(_ node: Node, at origin: Origin) {
        switch node {
        case .scalar(let scalar): self.init(scalar, at: origin)
        case .sequence(let sequence):
            self.init(value: .list(sequence.map { JobNode($0, at: origin) }), origin: origin)
        case .mapping(let mapping):
            let entries = mapping.map { pair in
                JobNode.Entry(
                    key: pair.key.scalar?.string ?? "", origin: origin,
                    node: JobNode(pair.value, at: origin))
            }
            self.init(value: .map(entries), origin: origin)
        case .alias: self.init(value: .scalar("", isPlain: true), origin: origin)
        }
    }
}

extension YamlError {
    /// Where the text stops being YAML.
    fileprivate var origin: Origin {
        switch self {
        case .scanner(_, _, let mark, _), .parser(_, _, let mark, _), .composer(_, _, let mark, _):
            Origin(mark)
        case .reader(_, let offset, _, let yaml):
            Origin(offset: offset ?? 0, in: yaml)
        case .duplicatedKeysInMapping(_, let context): Origin(context.mark)
        default: .file(line: 1, column: 1)
        }
    }

    /// What libyaml says, in one line.
    fileprivate var reason: String {
        switch self {
        case .scanner(let context, let problem, _, _), .parser(let context, let problem, _, _),
            .composer(let context, let problem, _, _):
            context.map { "\($0.text) begun in line \($0.mark.line): \(problem)" } ?? problem
        case .reader(let problem, _, let value, _):
            value >= 0 ? "\(problem) (code \(value))" : problem
        case .duplicatedKeysInMapping(let keys, _):
            "the keys \(keys.joined(separator: ", ")) are given twice"
        default: "\(self)"
        }
    }
}

extension Origin {
    fileprivate init(offset: Int, in text: String) {
        var line = 1
        var column = 1
        for character in text.prefix(offset) {
            if character.isNewline {
                line += 1
                column = 1
            } else {
                column += 1
            }
        }
        self = .file(line: line, column: column)
    }
}

extension Node {
    /// Whether it has at most `most` values, counting what aliases stand for each time.
    fileprivate func fits(within most: Int) -> Bool {
        var left = most
        return count(down: &left)
    }

    /// - Returns: false as soon as `left` is used up.
    private func count(down left: inout Int) -> Bool {
        left -= 1
        guard left >= 0 else { return false }
        switch self {
        case .scalar, .alias: return true
        case .sequence(let sequence):
            for element in sequence where !element.count(down: &left) { return false }
        case .mapping(let mapping):
            for pair in mapping where !pair.value.count(down: &left) { return false }
        }
        return true
    }
}
