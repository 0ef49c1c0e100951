/// A key of a job file, as the manual describes it; the list is `JobKey.all`.
struct JobKey: Hashable, Sendable {
    /// What holds when the key is left out.
    enum Fallback: Hashable, Sendable {
        /// The key must be there.
        case required
        /// As a job file would say it.
        case value(String)
        /// In words.
        case described(String)

        var text: String {
            switch self {
            case .required: "required"
            case .value(let value): value
            case .described(let words): words
            }
        }
    }

    /// Keys from the root: "optimizer.schedule"; empty for the root.
    var section: String
    var name: String
    /// The formats, rules or types of the section that have the key; empty: all.
    var variants: [String] = []
    /// What may be written, with its unit.
    var values: String
    var fallback: Fallback
    /// A value that differs from the default, as a job file would say it.
    var example: String
    /// What the key does.
    var meaning: String

    /// As `--set` takes it; layers are counted from 0.
    var path: String {
        switch section {
        case "": name
        case "model.layers": "model.layers.0.\(name)"
        default: "\(section).\(name)"
        }
    }
}

extension JobKey {
    /// All keys as text for a terminal of 80 columns.
    static var text: String {
        all.map { key in
            let owners = key.variants.isEmpty ? "" : "  (\(key.variants.joined(separator: ", ")))"
            let facts = "\(key.meaning) \(key.values); default: \(key.fallback.text)."
            let body = key.fallback == .required ? "\(key.meaning) \(key.values); required." : facts
            return key.path + owners + "\n" + wrapped(body, width: 74, indent: 4)
                + "    such as \(key.name): \(key.example)\n"
        }.joined()
    }

    /// All keys as Markdown: a table for each section.
    static var markdown: String {
        var sections: [String] = []
        for key in all where !sections.contains(key.section) { sections.append(key.section) }
        return sections.map { section in
            let title = section.isEmpty ? "The job" : "`\(section)`"
            let rows = all.filter { $0.section == section }.map(\.markdownRow)
            return
                (["### \(title)", "", "| key | of | values | default | example | meaning |"]
                + ["|---|---|---|---|---|---|"] + rows).joined(separator: "\n") + "\n"
        }.joined(separator: "\n")
    }

    private var markdownRow: String {
        let fallback =
            if case .value(let value) = self.fallback { "`\(value)`" } else { self.fallback.text }
        return "| `\(name)` | \(variants.joined(separator: ", ")) | \(values) | \(fallback) "
            + "| `\(name): \(example)` | \(meaning) |"
    }

    /// `text` in lines of at most `width` characters behind `indent` spaces, each ended.
    static func wrapped(_ text: String, width: Int, indent: Int) -> String {
        let margin = String(repeating: " ", count: indent)
        var lines: [String] = []
        var line = ""
        for word in text.split(separator: " ") {
            if !line.isEmpty && line.count + word.count + 1 > width {
                lines.append(line)
                line = ""
            }
            line += (line.isEmpty ? "" : " ") + word
        }
        if !line.isEmpty { lines.append(line) }
        return lines.map { margin + $0 + "\n" }.joined()
    }
}
