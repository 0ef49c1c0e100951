import ArgumentParser
import GeePSCore
import Glibc

/// `geeps run`.
struct RunCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "run",
        abstract: "Starts any command several times on this machine, as the processes of one job.",
        discussion: """
            Each process finds its place in GEEPS_RANK, GEEPS_WORLD_SIZE, GEEPS_LOCAL_RANK and \
            GEEPS_RENDEZVOUS, and the job's secret in GEEPS_SECRET. Its lines come out on the stream it wrote \
            them to, with its rank before them. Cores are divided by OMP_NUM_THREADS unless it is set.

            When a process fails the others get SIGTERM and, after 8 s, SIGKILL; the code is that of the \
            first to fail, 128 + n if signal n ended it. SIGINT and SIGTERM go to all, a second one kills them.

            EXAMPLES
              geeps run --nproc 2 -- python train.py --epochs 5
              geeps run --nproc 2 -- geeps train job.yaml
              geeps run --nproc 3 -- sh -c 'echo rank $GEEPS_RANK of $GEEPS_WORLD_SIZE'
            """)

    @Option(help: ArgumentHelp("Processes.", valueName: "n"))
    var nproc: Int

    @Option(
        help: ArgumentHelp(
            "Port of 127.0.0.1 where they meet; 0 takes a free one.", valueName: "port"))
    var port = 0

    @Argument(parsing: .postTerminator, help: "The command and its arguments.")
    var command: [String]

    func validate() throws {
        guard (1...Limits.workersMaximum).contains(nproc) else {
            throw ValidationError("--nproc is \(nproc), expected 1 to \(Limits.workersMaximum)")
        }
        guard (0...65535).contains(port) else {
            throw ValidationError("--port is \(port), expected 0 to 65535")
        }
        guard !command.isEmpty else { throw ValidationError("no command after --") }
    }

    func run() throws {
        let environment = processEnvironment()
        guard let path = Self.path(of: command[0], search: environment["PATH"]) else {
            throw CLIError(.usage, "found no program '\(command[0])' in PATH")
        }
        try LocalLaunch.run(
            command, path: path, processes: nproc, port: port, environment: environment)
    }

    /// Where a program is, as a shell finds it.
    static func path(of program: String, search: String?) -> String? {
        if program.contains("/") { return access(program, X_OK) == 0 ? program : nil }
        let directories = (search ?? "/usr/local/bin:/usr/bin:/bin")
            .split(separator: ":", omittingEmptySubsequences: false)
        return directories.map { $0.isEmpty ? program : "\($0)/\(program)" }.first {
            var status = stat()
            return stat($0, &status) == 0 && status.st_mode & S_IFMT == S_IFREG
                && access($0, X_OK) == 0
        }
    }
}
