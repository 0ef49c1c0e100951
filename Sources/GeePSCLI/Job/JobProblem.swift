/// One thing that is wrong with a job.
struct JobProblem: Hashable, Sendable {
    var origin: Origin
    /// What was found and what is expected.
    var message: String
}

/// Everything that is wrong with a job, in the order of the file; flags come last.
struct JobProblems: Error, Hashable, Sendable, CustomStringConvertible {
    /// As given on the command line.
    let file: String
    let problems: [JobProblem]

    /// Sorts `problems`; equal ones are kept once.
    init(file: String, problems: [JobProblem]) {
        self.file = file
        var seen: Set<JobProblem> = []
        self.problems =
            problems
            .filter { seen.insert($0).inserted }
            .enumerated()
            .sorted {
                $0.element.origin.sortKey(then: $0.offset)
                    < $1.element.origin.sortKey(then: $1.offset)
            }
            .map(\.element)
    }

    /// One line a problem: `job.yaml:3:5: message`, or `--set lr=x: message`.
    var description: String {
        problems.map { problem in
            switch problem.origin {
            case .file(let line, let column): "\(file):\(line):\(column): \(problem.message)"
            case .flag(let flag): "\(flag): \(problem.message)"
            }
        }.joined(separator: "\n")
    }
}

extension Origin {
    /// Line and column; a flag is behind every line.
    fileprivate func sortKey(then order: Int) -> (Int, Int, Int) {
        switch self {
        case .file(let line, let column): (line, column, order)
        case .flag: (Int.max, 0, order)
        }
    }
}

/// Takes problems while a job is read, so that all can be reported at once; one thread uses it.
final class ProblemCollector {
    private(set) var problems: [JobProblem] = []

    /// Notes that the value written at `origin` is wrong.
    func report(at origin: Origin, _ message: String) {
        problems.append(JobProblem(origin: origin, message: message))
    }
}
