import GeePSMemory

extension Workload {
    /// Name of the file format.
    static let schema = "geeps.workload/1"
    /// A terabyte in one piece, a million of pieces: sums stay far from overflow.
    private static let bytesMaximum = 1 << 40
    private static let countMaximum = 1_000_000

    /// Reads what `write(to:)` wrote.
    ///
    /// - Throws: `CLIError` that says what was found and what is expected; nothing in a file is trusted.
    init(path: String) throws(CLIError) {
        let text = try readTextFile(path, what: "workload")
        let problems = ProblemCollector()
        var workload: Workload?
        if let strange = strangeByte(inJSON: text, schema: Self.schema) {
            problems.report(at: .file(line: strange.line, column: 1), strange.message)
        } else if let root = JobFile.read(text, problems: problems) {
            workload = Self.read(root, problems)
        }
        guard let workload, problems.problems.isEmpty else {
            let first = problems.problems.first.map { [$0] } ?? []
            throw CLIError(
                .badData,
                JobProblems(file: path, problems: first).description
                    + "; geeps plan --record writes such a file")
        }
        do {
            _ = try PlacementPlanner(
                workload.problem(
                    TableGrouping(workload.parameters, layersPerTable: 1), hasLocals: true))
        } catch {
            throw CLIError(.badData, "\(path): \(error.message)")
        }
        self = workload
    }

    /// Writes the file.
    func write(to path: String) throws(CLIError) { try writeFile(path, text) }

    /// The file: an object a line.
    var text: String {
        func list(_ key: String, _ values: [JSONValue]) -> String {
            "\(jsonString(key)):[\n" + values.map { " \($0.text)" }.joined(separator: ",\n") + "\n]"
        }
        func sizes(_ name: String, _ bytes: Int) -> JSONValue {
            .object(["name": .string(name), "bytes": .integer(Int64(bytes))])
        }
        let members = [
            "\"schema\":\(jsonString(Self.schema))", "\"name\":\(jsonString(name))",
            "\"source\":\(jsonString(source))", "\"samples_per_clock\":\(samplesPerClock)",
            list("parameters", parameters.map { sizes($0.name, $0.byteCount) }),
            list("locals", locals.map { sizes($0.name, $0.byteCount) }),
            list(
                "phases",
                phases.map {
                    .object([
                        "name": .string($0.name), "nanoseconds": .integer(Int64($0.nanoseconds)),
                    ])
                }),
            list("accesses", accesses.map { .string($0.words) }),
        ]
        return "{" + members.joined(separator: ",\n") + "}\n"
    }

    private static func read(_ root: JobNode, _ problems: ProblemCollector) -> Workload? {
        guard var map = MapReader(root, path: "", problems: problems) else { return nil }
        map.owner = "the workload"
        guard map.choice("schema", of: [schema]) != nil else { return nil }
        let name = map.text("name", isRequired: true, expected: "a text")
        let source = map.text("source", isRequired: true, expected: "a text")
        let samples: Int = map.integer("samples_per_clock", in: 1...1_000_000_000)
        let parameters = sizes("parameters", in: &map, problems)
        let locals = sizes("locals", in: &map, problems)
        let phases = phases(in: &map, problems)
        let accesses = accesses(in: &map, problems)
        map.finish()
        guard let name, let source, problems.problems.isEmpty else { return nil }
        let workload = Workload(
            name: name, source: source, samplesPerClock: samples,
            parameters: parameters.map { Parameters(name: $0.name, byteCount: $0.bytes) },
            locals: locals.map { PlanProblem.Local(name: $0.name, byteCount: $0.bytes) },
            phases: phases, accesses: accesses)
        workload.check(at: map.origin, problems)
        return workload
    }

    /// What no list can say alone; the order of accesses is the planner's to check.
    private func check(at origin: Origin, _ problems: ProblemCollector) {
        if parameters.isEmpty {
            problems.report(at: origin, "found no parameters, expected a layer with some")
        }
        let count = PlanProblem(accesses: accesses, locals: [], batches: [], tables: []).phaseCount
        if count != phases.count {
            problems.report(
                at: origin,
                "found \(phases.count) phases, expected \(count): a phase is a run of acquires with the "
                    + "releases after it")
        }
        for access in accesses {
            let known: Int
            switch access.kind {
            case .clock: continue
            case .local, .endLocal: known = locals.count
            case .read, .endRead, .update, .endUpdate: known = parameters.count
            }
            if !(0..<known ~= access.batch) {
                problems.report(
                    at: origin, "found access '\(access.words)', expected a number below \(known)")
                return
            }
        }
    }

    private static func elements(
        _ key: String, in map: inout MapReader
    ) -> [JobNode] {
        map.value(key, fallback: nil, expected: "a list of at most \(countMaximum)") {
            node -> [JobNode]? in
            guard case .list(let elements) = node.value, elements.count <= countMaximum
            else { return nil }
            return elements
        } ?? []
    }

    private static func sizes(
        _ key: String, in map: inout MapReader, _ problems: ProblemCollector
    ) -> [(name: String, bytes: Int)] {
        elements(key, in: &map).enumerated().compactMap { index, node in
            guard var entry = MapReader(node, path: "\(key).\(index)", problems: problems)
            else { return nil }
            let name = entry.text("name", isRequired: true, expected: "a text") ?? ""
            return (name, entry.integer("bytes", in: 1...bytesMaximum))
        }
    }

    private static func phases(
        in map: inout MapReader, _ problems: ProblemCollector
    ) -> [Phase] {
        elements("phases", in: &map).enumerated().compactMap { index, node in
            guard var entry = MapReader(node, path: "phases.\(index)", problems: problems)
            else { return nil }
            let name = entry.text("name", isRequired: true, expected: "a text") ?? ""
            return Phase(
                name: name,
                nanoseconds: entry.integer("nanoseconds", in: 0...LayerTimes.nanosecondsMaximum))
        }
    }

    private static func accesses(
        in map: inout MapReader, _ problems: ProblemCollector
    ) -> [Access] {
        elements("accesses", in: &map).compactMap { node in
            if let access = node.text.flatMap({ Access(words: $0) }) { return access }
            problems.report(
                at: node.origin,
                "found \(node.summary), expected an access such as 'read 3', 'end_local 0 keep' or 'clock'"
            )
            return nil
        }
    }
}

extension Access {
    private static let names: [(kind: Kind, name: String, matter: String?)] = [
        (.read, "read", nil), (.endRead, "end_read", nil), (.update, "update", nil),
        (.endUpdate, "end_update", nil), (.local, "local", "fetch"),
        (.endLocal, "end_local", "keep"), (.clock, "clock", nil),
    ]

    /// "read 3", "local 0 fetch", "end_local 0 keep", "clock".
    var words: String {
        guard let entry = Self.names.first(where: { $0.kind == kind }), kind != .clock else {
            return "clock"
        }
        let matter = matters ? entry.matter.map { " \($0)" } ?? "" : ""
        return "\(entry.name) \(batch)\(matter)"
    }

    /// Reads `words`; nil for anything else.
    init?(words: String) {
        if words == "clock" {
            self.init(.clock)
            return
        }
        let parts = words.split(separator: " ", omittingEmptySubsequences: false)
        guard let entry = Self.names.first(where: { parts.first.map(String.init) == $0.name }),
            2...3 ~= parts.count, let batch = Int(parts[1]), batch >= 0,
            parts.count == 2 || parts[2] == entry.matter ?? " "
        else { return nil }
        self.init(entry.kind, batch: batch, matters: parts.count == 3)
    }
}
