import ArgumentParser
import GeePS
import Glibc

/// `geeps why`.
struct WhyCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "why",
        abstract: "Says who waits for whom in a running job, for which rows, since when.",
        discussion: """
            Every process of a job answers by itself, on a socket that only its user can connect to; a stopped one \
            shows as one that does not. Asking makes no thread of the job wait. Processes on other machines are \
            asked by rank 0: ask where that runs.

            RUN is the directory that the job writes its results to. Without it the newest run is asked that is \
            found here, below here, in runs directories of both, or that was started by `geeps run`.

            EXAMPLES
              geeps why
              geeps why Examples/runs/digits --watch
              geeps why runs/large --json | jq .waits_for
            """)

    @Argument(
        help: ArgumentHelp("The run's directory.", valueName: "run"), completion: .directory)
    var directory: String?

    @Flag(help: "Prints one JSON object; with --watch one a line.")
    var json = false

    @Flag(help: "Asks every second until the job ends.")
    var watch = false

    func run() throws {
        var found = try find()
        while true {
            if let graph = graph(found.answer) { show(graph, found.place) }
            for problem in found.answer.problems { writeError("geeps: \(problem)\n") }
            guard watch else { return }
            sleep(1)
            found.answer = StatusQuery(directory: found.place).ask()
            // The job that was watched has ended: that is a good end.
            guard found.answer.isAlive else { return }
        }
    }

    private struct Found {
        var place: String
        var answer: StatusQuery.Answer
    }

    /// The first place where somebody answers.
    private func find() throws(CLIError) -> Found {
        if let directory, access(directory, F_OK) != 0 {
            throw CLIError(.cannotOpen, "found no directory \(directory): \(lastError())")
        }
        let places =
            directory.map { StatusPlaces.candidates(for: $0) } ?? StatusPlaces.all(from: ".")
        var silent: [String] = []
        for place in places {
            let answer = StatusQuery(directory: place).ask()
            if graph(answer) != nil { return Found(place: place, answer: answer) }
            if answer.isAlive { silent.append(StatusPlaces.run(of: place)) }
            if let problem = answer.problems.first { throw CLIError(.unavailable, problem) }
        }
        if let name = silent.first {
            throw CLIError(
                .unavailable,
                "no process of \(name) answers within 2 s: all are stopped, or overloaded")
        }
        throw CLIError(.unavailable, nobody)
    }

    private var nobody: String {
        guard let directory else {
            return
                "found no running job here or in runs directories below; give the directory that it "
                + "writes to"
        }
        return
            "found no running job in \(directory), expected one that `geeps train` has started with it as "
            + "output.directory"
    }

    private func graph(_ answer: StatusQuery.Answer) -> WaitGraph? {
        WaitGraph(answer.statuses) { peer, rank in
            SilentProcess.words(peer, isCalled: answer.silent.contains(rank))
        }
    }

    private func show(_ graph: WaitGraph, _ place: String) {
        let run = StatusPlaces.run(of: place)
        if json { return writeOutput(graph.json(run: run).text + "\n") }
        let isTerminal = isatty(STDOUT_FILENO) == 1
        let environment = processEnvironment()
        let isColored =
            isTerminal && environment["NO_COLOR", default: ""].isEmpty
            && environment["TERM"] != "dumb"
        let lines = WaitGraphText(graph, isColored: isColored).lines(run: run)
        // Drawn over the last one.
        let home = watch && isTerminal ? "\u{1B}[H\u{1B}[J" : ""
        writeOutput(home + lines.joined(separator: "\n") + (watch && !isTerminal ? "\n\n" : "\n"))
    }
}
