import Glibc

/// Reads a job: file, overrides, checks.
struct JobLoader {
    /// As given on the command line.
    let file: String
    /// In the order given; a later one wins.
    let assignments: [String]
    /// `--workers`, an override of `cluster.workers`.
    let workers: Int?
    /// `cluster.workers` of a job that does not say.
    let defaultWorkers: Int
    /// Whether the paths a job reads from must exist.
    let checksPaths: Bool

    /// The job.
    ///
    /// - Throws: `JobProblems` with all that is wrong, `CLIError` when the file cannot be read.
    func load() throws -> Job {
        let text = try readTextFile(file, what: "job file")
        guard let directory = JobDirectory(ofFile: file) else {
            throw CLIError(
                .cannotOpen, "cannot find the directory of job file \(file): \(lastError())")
        }
        return try parse(text, in: directory)
    }

    /// The job that `text` describes, with relative paths starting from `directory`.
    func parse(_ text: String, in directory: JobDirectory) throws -> Job {
        let problems = ProblemCollector()
        var root = JobFile.read(text, problems: problems)
        var overrides = assignments.compactMap { JobOverride(assignment: $0, problems: problems) }
        if let workers {
            overrides.append(
                JobOverride(
                    path: ["cluster", "workers"], value: "\(workers)", flag: "--workers \(workers)")
            )
        }
        var job: Job?
        if root != nil {
            for override in overrides { override.applyIfRead(to: &root, problems: problems) }
            replacedLength(by: overrides)?.applyIfRead(to: &root, problems: problems)
            let parser = JobParser(
                directory: directory, defaultWorkers: defaultWorkers, checksPaths: checksPaths,
                problems: problems)
            job = root.flatMap(parser.job)
        }
        guard let job, problems.problems.isEmpty else {
            throw JobProblems(file: file, problems: problems.problems)
        }
        return job
    }
}

/// Epochs and steps are two ways to say one thing: a flag that gives one takes the file's other away.
private func replacedLength(by overrides: [JobOverride]) -> JobOverride? {
    let ways = ["epochs", "steps"]
    let given = ways.filter { way in
        overrides.contains { $0.path == ["train", way] && $0.value != "null" }
    }
    guard given.count == 1, let way = given.first, let other = ways.first(where: { $0 != way })
    else { return nil }
    let flag = overrides.last { $0.path == ["train", way] }?.flag ?? ""
    return JobOverride(path: ["train", other], value: "null", flag: flag)
}

extension JobOverride {
    fileprivate func applyIfRead(to root: inout JobNode?, problems: ProblemCollector) {
        guard var tree = root else { return }
        apply(to: &tree, problems: problems)
        root = tree
    }
}

/// The text of `path`.
///
/// - Throws: `CLIError` that says why it cannot be read, or that it is not UTF-8.
func readTextFile(_ path: String, what: String) throws(CLIError) -> String {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else {
        let code: CLIExit = errno == EACCES || errno == EPERM ? .noPermission : .badData
        throw CLIError(code, "cannot open \(what) \(path): \(lastError())")
    }
    defer { close(descriptor) }
    var bytes: [UInt8] = []
    var chunk = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = read(descriptor, &chunk, chunk.count)
        if count < 0 && errno == EINTR { continue }
        if count < 0 && errno == EISDIR {
            throw CLIError(.badData, "\(what) \(path) is a directory, expected a file")
        }
        guard count >= 0 else {
            throw CLIError(.inputOutput, "cannot read \(what) \(path): \(lastError())")
        }
        if count == 0 { break }
        bytes.append(contentsOf: chunk[..<count])
    }
    guard let text = String(validating: bytes, as: UTF8.self) else {
        throw CLIError(.badData, "\(what) \(path) is not UTF-8 text")
    }
    return text
}

/// What the last system call answered.
func lastError() -> String { String(cString: strerror(errno)) }
