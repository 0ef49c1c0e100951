import GeePSNN

extension LayerTimes {
    /// Where the times of a job's network are kept: "digits.layers.json" beside "digits.yaml".
    static func path(besideJob job: String) -> String {
        let name = job[(job.lastIndex(of: "/").map(job.index(after:)) ?? job.startIndex)...]
        guard let dot = name.lastIndex(of: "."), dot > name.startIndex else {
            return job + ".layers.json"
        }
        return job[..<dot] + ".layers.json"
    }

    /// The times beside `job`, if there are some and they are those of `network`.
    ///
    /// - Parameter onWarning: told in one line why a file that is there is ignored.
    static func besideJob(
        _ job: String, for network: Network, onWarning: (String) -> Void
    ) -> LayerTimes? {
        let path = path(besideJob: job)
        guard JobDirectory.exists(path) else { return nil }
        do {
            let times = try LayerTimes(path: path)
            if times.matches(network) { return times }
            onWarning("\(path) is ignored: \(times.difference(from: network))")
        } catch {
            onWarning("\(path) is ignored: \(error.message)")
        }
        return nil
    }

    /// Why the times are not those of `network`.
    func difference(from network: Network) -> String {
        let found =
            batchSize == network.batchSize
            ? "it is of another network" : "it is of a network for batches of \(batchSize)"
        return "\(found) (\(steps.count) steps, fingerprint \(fingerprint)), expected "
            + "\(network.steps.count) steps for batches of \(network.batchSize), fingerprint "
            + "\(Self.fingerprint(of: network)); geeps bench layers measures it"
    }

    /// Reads what `write(to:)` wrote.
    ///
    /// - Throws: `CLIError` that says what was found and what is expected; nothing in a file is trusted.
    init(path: String) throws(CLIError) {
        let text = try readTextFile(path, what: "layer times")
        self = try Self.parse(text, path: path)
    }

    /// Writes the file.
    func write(to path: String) throws(CLIError) { try writeFile(path, json.text + "\n") }

    /// The object in the file.
    var json: JSONValue {
        .object([
            "schema": .string(Self.schema), "fingerprint": .string(fingerprint),
            "batch_size": .integer(Int64(batchSize)), "threads": .integer(Int64(threads)),
            "cpu": .string(cpu),
            "steps": .array(
                steps.map { step in
                    .object([
                        "name": .string(step.name),
                        "nanoseconds": .integer(Int64(step.nanoseconds)),
                    ])
                }),
        ])
    }

    private static func parse(_ text: String, path: String) throws(CLIError) -> LayerTimes {
        let problems = ProblemCollector()
        var times: LayerTimes?
        if let strange = strangeByte(inJSON: text, schema: schema) {
            problems.report(at: .file(line: strange.line, column: 1), strange.message)
        } else if let root = JobFile.read(text, problems: problems) {
            times = read(root, problems)
        }
        guard let times, problems.problems.isEmpty else {
            // The first is enough: the file is made by a program.
            let first = problems.problems.first.map { [$0] } ?? []
            throw CLIError(
                .badData,
                JobProblems(file: path, problems: first).description
                    + "; geeps bench layers writes such a file")
        }
        return times
    }

    private static func read(_ root: JobNode, _ problems: ProblemCollector) -> LayerTimes? {
        guard var map = MapReader(root, path: "", problems: problems) else { return nil }
        map.owner = "the layer times"
        guard map.choice("schema", of: [schema]) != nil else { return nil }
        let fingerprint = map.text("fingerprint", isRequired: true, expected: "a text")
        let cpu = map.text("cpu", isRequired: true, expected: "a text")
        let batchSize: Int = map.integer("batch_size", in: 1...Int.max)
        let threads: Int = map.integer("threads", in: 1...Int.max)
        let elements = map.value(
            "steps", fallback: nil, expected: "a list of steps"
        ) { node -> [JobNode]? in
            guard case .list(let elements) = node.value else { return nil }
            return elements
        }
        var steps: [Step] = []
        for (index, element) in (elements ?? []).enumerated() {
            guard var step = MapReader(element, path: "steps.\(index)", problems: problems)
            else { break }
            let name = step.text("name", isRequired: true, expected: "a text")
            let time: UInt64 = step.integer("nanoseconds", in: 0...nanosecondsMaximum)
            steps.append(Step(name: name ?? "", nanoseconds: time))
        }
        guard let fingerprint, let cpu else { return nil }
        return LayerTimes(
            fingerprint: fingerprint, batchSize: batchSize, threads: threads, cpu: cpu, steps: steps
        )
    }
}
