import Foundation
import Testing

@testable import GeePSCLI

/// A section in one of its variants, and a valid job in which its text can be replaced.
private struct Section: Sendable, CustomTestStringConvertible {
    let path: String
    let variant: String
    /// Keys with values that make the section valid, without those that it may do without.
    let keys: [(String, String)]

    var testDescription: String { "\(path) \(variant)" }

    init(_ path: String, _ variant: String = "", _ keys: [(String, String)]) {
        self.path = path
        self.variant = variant
        self.keys = keys
    }
}

private let sections: [Section] = [
    Section("model", "", [("name", "lenet")]),
    Section("model.layers", "linear", [("type", "linear"), ("out", "4")]),
    Section("model.layers", "conv", [("type", "conv"), ("out", "4"), ("kernel", "2")]),
    Section("model.layers", "maxpool", [("type", "maxpool"), ("kernel", "2")]),
    Section("model.layers", "avgpool", [("type", "avgpool"), ("kernel", "2")]),
    Section("model.layers", "relu", [("type", "relu")]),
    Section("model.layers", "tanh", [("type", "tanh")]),
    Section("model.layers", "sigmoid", [("type", "sigmoid")]),
    Section("model.layers", "dropout", [("type", "dropout")]),
    Section("model.layers", "lrn", [("type", "lrn"), ("size", "5")]),
    Section("model.layers", "batch_norm", [("type", "batch_norm")]),
    Section("model.layers", "flatten", [("type", "flatten")]),
    Section("model.layers", "lstm", [("type", "lstm"), ("out", "4"), ("steps", "2")]),
    Section("data", "mnist", [("format", "mnist"), ("path", "d")]),
    Section("data", "cifar10", [("format", "cifar10"), ("path", "d")]),
    Section(
        "data", "synthetic",
        [("format", "synthetic"), ("samples", "9"), ("features", "3"), ("classes", "2")]),
    Section("optimizer", "sgd", [("name", "sgd"), ("momentum", "0.5")]),
    Section("optimizer", "adam", [("name", "adam")]),
    Section("optimizer", "adamw", [("name", "adamw")]),
    Section("optimizer", "adagrad", [("name", "adagrad")]),
    Section("optimizer", "rmsprop", [("name", "rmsprop")]),
    Section("optimizer", "add", [("name", "add")]),
    Section("optimizer.schedule", "constant", [("name", "constant")]),
    Section("optimizer.schedule", "step", [("name", "step"), ("step_size", "5")]),
    Section("optimizer.schedule", "multistep", [("name", "multistep"), ("milestones", "[2]")]),
    Section("optimizer.schedule", "exponential", [("name", "exponential"), ("gamma", "0.9")]),
    Section("optimizer.schedule", "polynomial", [("name", "polynomial"), ("total_iters", "9")]),
    Section("optimizer.schedule", "cosine", [("name", "cosine"), ("T_max", "9")]),
    Section("train", "", [("epochs", "1")]),
    Section("consistency", "", []),
    Section("cluster", "", [("workers", "2")]),
    Section("cluster.tls", "", [("certificate", "a.pem"), ("key", "b.pem"), ("ca", "c.pem")]),
    Section("memory", "", []),
    Section("output", "", [("directory", "d")]),
    Section("checkpoint", "", [("directory", "d")]),
    Section("emulate", "", [("clock", "20ms"), ("delay", "5ms")]),
]

/// Keys of which a section takes one.
private let alternatives = [["name", "layers"], ["features", "shape"], ["epochs", "steps"]]

extension Section {
    /// A job with this section as it is, with `name: value` added or put in place of what it excludes.
    func job(with name: String? = nil, _ value: String = "") -> String {
        var keys = keys
        if let name {
            let rivals = alternatives.first { $0.contains(name) && path != "model.layers" } ?? []
            let excludes = rivals.count == 2 && keys.contains { rivals.contains($0.0) }
            keys.removeAll { $0.0 == name || (excludes && rivals.contains($0.0)) }
            keys.append((name, value))
        }
        let body = "{" + keys.map { "\($0.0): \($0.1)" }.joined(separator: ", ") + "}"
        var job = [
            ("model", "{name: lenet}"), ("data", "{format: mnist, path: d}"),
            ("optimizer", "{name: sgd, lr: 0.1}"), ("train", "{epochs: 1}"),
        ]
        switch path {
        case "model.layers": job[0].1 = "{layers: [\(body)]}"
        case "optimizer.schedule": job[2].1 = "{name: sgd, lr: 0.1, schedule: \(body)}"
        case "cluster.tls": job.append(("cluster", "{workers: 2, tls: \(body)}"))
        default:
            job.removeAll { $0.0 == path }
            job.append((path, body))
        }
        return job.map { "\($0.0): \($0.1)\n" }.joined()
    }

    /// The keys that the manual lists for this section in this variant.
    var described: [JobKey] {
        JobKey.all.filter {
            $0.section == path && ($0.variants.isEmpty || $0.variants.contains(variant))
        }
    }
}

private func parse(_ text: String) throws -> Job {
    try JobLoader(
        file: "job.yaml", assignments: [], workers: nil, defaultWorkers: 1, checksPaths: false
    ).parse(text, in: JobDirectory(path: "/jobs"))
}

/// What the parser says it knows in the map where the key "zzz" is.
private func knownKeys(in text: String) throws -> [String] {
    let error = try #require(throws: JobProblems.self) { _ = try parse(text) }
    let message = try #require(error.problems.map(\.message).first { $0.contains("'zzz'") })
    let list = try #require(message.range(of: "expected one of ")).upperBound
    return message[list...].split(separator: " (")[0].split(separator: ", ").map(String.init)
}

@Suite struct JobKeyTests {
    @Test(arguments: sections)
    fileprivate func theManualHasTheKeysThatTheParserKnows(section: Section) throws {
        let known = try knownKeys(in: section.job(with: "zzz", "1"))
        #expect(known.sorted() == section.described.map(\.name).sorted())
    }

    @Test func theManualHasTheSectionsThatTheParserKnows() throws {
        let known = try knownKeys(in: sections[0].job() + "zzz: 1\n")
        #expect(known == JobKey.all.filter { $0.section.isEmpty }.map(\.name))
        let paths = JobKey.all.map(\.section).filter { !$0.isEmpty }
        #expect(Set(paths) == Set(sections.map(\.path)))
    }

    @Test(arguments: sections)
    fileprivate func everyExampleIsAccepted(section: Section) throws {
        for key in section.described where !section.isVariant(key) {
            #expect(throws: Never.self, "\(key.path): \(key.example)") {
                _ = try parse(section.job(with: key.name, key.example))
            }
        }
    }

    @Test(arguments: sections)
    fileprivate func everyDefaultIsWhatAJobGetsThatDoesNotSay(section: Section) throws {
        for key in section.described {
            guard case .value(let value) = key.fallback else { continue }
            var base = section
            if key.name != "nesterov" {
                base = Section(
                    section.path, section.variant, section.keys.filter { $0.0 != key.name })
            }
            let spoken = try parse(base.job(with: key.name, value))
            #expect(try parse(base.job()) == spoken, "\(key.path): \(value)")
        }
    }

    @Test func requiredKeysAreMissed() throws {
        for section in sections {
            for key in section.described where key.fallback == .required {
                let rest = Section(
                    section.path, section.variant, section.keys.filter { $0.0 != key.name })
                let error = try #require(throws: JobProblems.self, "\(key.path)") {
                    _ = try parse(rest.job())
                }
                #expect(error.description.contains("missing key '\(key.name)'"), "\(key.path)")
            }
        }
    }

    @Test func aLineOfTheListFitsATerminal() {
        #expect(JobKey.text.split(separator: "\n").allSatisfy { $0.count <= 80 })
    }

    @Test func thePageIsPrintedFromTheList() throws {
        let page = try repositoryText("docs/job-file.md")
        #expect(
            page.contains(JobKey.markdown),
            "paste the output of geeps config --markdown into docs/job-file.md")
    }
}

extension Section {
    /// Whether `key` chooses the variant, so that another value makes it another section.
    fileprivate func isVariant(_ key: JobKey) -> Bool {
        !variant.isEmpty && keys.first?.0 == key.name && key.fallback == .required
            && ["name", "type", "format"].contains(key.name)
    }
}

/// A file of the repository this test was built in.
private func repositoryText(_ path: String) throws -> String {
    let root = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
    return try readTextFile("/\(root)/\(path)", what: "page")
}
