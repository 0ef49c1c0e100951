/// One value that a flag puts in place of the job file's: `--set model.layers.0.out=32`.
struct JobOverride: Hashable, Sendable {
    /// Keys from the root, list positions as numbers.
    var path: [String]
    /// As YAML.
    var value: String
    /// The flag as it was given, for messages.
    var flag: String

    /// An override by a flag of its own, such as `--workers 3`.
    init(path: [String], value: String, flag: String) {
        self.path = path
        self.value = value
        self.flag = flag
    }

    /// Reads `key.path=value`; nil after reporting what is wrong with it.
    init?(assignment: String, problems: ProblemCollector) {
        let flag = "--set \(assignment)"
        guard let equals = assignment.firstIndex(of: "="), equals != assignment.startIndex else {
            problems.report(
                at: .flag(flag), "found no '=', expected key.path=value such as optimizer.lr=0.1")
            return nil
        }
        path = assignment[..<equals].split(separator: ".", omittingEmptySubsequences: false)
            .map(String.init)
        value = String(assignment[assignment.index(after: equals)...])
        self.flag = flag
        guard !path.contains("") else {
            problems.report(
                at: .flag(flag),
                "found an empty key in '\(assignment[..<equals])', expected keys joined by dots")
            return nil
        }
    }

    /// Puts the value into `root`, making the maps on its way; reports what stands in the way.
    func apply(to root: inout JobNode, problems: ProblemCollector) {
        guard let node = JobFile.readValue(value, flag: flag, problems: problems) else { return }
        put(node, into: &root, depth: 0, problems: problems)
    }

    private func put(
        _ node: JobNode, into target: inout JobNode, depth: Int, problems: ProblemCollector
    ) {
        guard depth < path.count else {
            target = node
            return
        }
        if target.isNull { target = JobNode(value: .map([]), origin: .flag(flag)) }
        switch target.value {
        case .map(var entries):
            let position = entries.firstIndex { $0.key == path[depth] } ?? entries.count
            if position == entries.count {
                let missing = JobNode(value: .scalar("", isPlain: true), origin: .flag(flag))
                entries.append(.init(key: path[depth], origin: .flag(flag), node: missing))
            }
            put(node, into: &entries[position].node, depth: depth + 1, problems: problems)
            target.value = .map(entries)
        case .list(var elements):
            guard let index = Int(path[depth]), elements.indices.contains(index) else {
                problems.report(
                    at: .flag(flag),
                    "found '\(path[depth])' after \(name(of: depth)), a list of \(elements.count), "
                        + (elements.isEmpty
                            ? "which has no elements to change"
                            : "expected a position from 0 to \(elements.count - 1)"))
                return
            }
            put(node, into: &elements[index], depth: depth + 1, problems: problems)
            target.value = .list(elements)
        case .scalar:
            problems.report(
                at: .flag(flag),
                "\(name(of: depth)) is \(target.summary), expected a map or a list to set "
                    + "'\(path[depth])' in")
        }
    }

    private func name(of depth: Int) -> String {
        depth == 0 ? "the job" : path[..<depth].joined(separator: ".")
    }
}
