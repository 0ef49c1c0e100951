import CGeePSShims
import GeePS
import GeePSCore
import Glibc

/// Runs a job of several processes on this machine: this program again, once a rank.
enum LocalLaunch {
    /// Supervises `job.cluster.workers` processes.
    ///
    /// - Throws: `SupervisedExit` unless all end well; the reasons have been printed then.
    static func run(_ job: Job, environment: [String: String]) throws {
        try run(
            processes: job.cluster.workers, port: job.cluster.port, environment: environment)
    }

    /// Supervises `processes` of this program, which meet at `port`; 0 takes a free one.
    static func run(processes: Int, port: Int, environment: [String: String]) throws {
        if port != 0 { try waitForPort(UInt16(port)) }
        let port = port == 0 ? try freePort() : UInt16(port)
        // Nobody else is to join: a new one for each job.
        let secret = JobSecret()
        try supervise(
            commands(
                worldSize: processes, port: port, arguments: CommandLine.arguments,
                environment: environment.merging([JobSecret.variable: secret.variableText]) { $1 },
                cores: Int(geeps_available_cores())), signals: [SIGINT, SIGTERM]
        ) { signals, wipe in
            Supervisor(
                signals: signals,
                onFirstFailure: {
                    tellTheOthers($0, $1, worldSize: processes, port: port, secret: secret)
                },
                log: { writeError(wipe + $0) })
        }
    }

    /// Supervises `command` as `processes` ranks that meet at `port`; 0 takes a free one.
    ///
    /// - Parameter path: of its program.
    /// - Throws: `SupervisedExit` unless all end well; the reasons have been printed then.
    static func run(
        _ command: [String], path: String, processes: Int, port: Int, environment: [String: String]
    ) throws {
        if port != 0 { try waitForPort(UInt16(port)) }
        let port = port == 0 ? try freePort() : UInt16(port)
        let secret = JobSecret()
        try supervise(
            commands(
                worldSize: processes, port: port, path: path, arguments: command,
                environment: environment.merging([JobSecret.variable: secret.variableText]) { $1 },
                cores: Int(geeps_available_cores())),
            signals: [SIGINT, SIGTERM, SIGUSR1, SIGUSR2]
        ) { signals, wipe in
            Supervisor(
                endsOthers: true, outputs: .ofAll(print: { writeOutput($0) }), signals: signals,
                log: { writeError(wipe + $0) })
        }
    }

    /// Runs `commands` under the supervisor that `make` makes.
    ///
    /// - Parameter make: is given the descriptor with the signals and what wipes a line of the terminal.
    private static func supervise(
        _ commands: [ProcessCommand], signals watched: [Int32],
        _ make: (Int32, String) -> Supervisor
    ) throws {
        let signals = geeps_signal_pipe(watched, Int32(watched.count))
        guard signals >= 0 else {
            throw CLIError(.internalError, "cannot watch for signals: \(lastError())")
        }
        // A line of another rank first wipes the bar that rank 0 is drawing.
        let wipe = isatty(STDERR_FILENO) == 1 ? "\r\u{1B}[K" : ""
        var supervisor = make(signals, wipe)
        let outcome = try supervisor.run(commands)
        guard outcome.exitCode == 0 else {
            if let signal = outcome.signal, outcome.exitCode == 128 + signal {
                writeError(wipe + "geeps: the job was stopped by \(signalName(signal))\n")
            } else if let rank = outcome.failedRank {
                writeError(
                    "geeps: the job ends with code \(outcome.exitCode): rank \(rank) "
                        + "\(outcome.ends[rank])\n")
            }
            throw SupervisedExit(code: outcome.exitCode)
        }
    }

    /// Speaks for a rank that ended before it could join or decline: the others may still wait for it.
    ///
    /// On a thread that is not joined: when all ranks have ended, nobody is left to be told.
    private static func tellTheOthers(
        _ rank: Int, _ process: ChildProcess, worldSize: Int, port: UInt16, secret: JobSecret
    ) {
        let reason = "it \(process.end.map { "\($0)" } ?? "ended")"
        let identifier = UInt32(process.identifier)
        _ = DedicatedThread(name: "messenger") {
            Rendezvous.decline(
                rank: rank, worldSize: worldSize, address: "127.0.0.1:\(port)", reason: reason,
                pid: identifier, settings: ControlSettings(secret: secret, log: { _ in }))
        }
    }

    /// A program, this one unless told otherwise, once a rank, each with its place in the environment.
    ///
    /// The cores are divided between the ranks unless the environment says how many threads to use, and
    /// threads that wait give their core away.
    static func commands(
        worldSize: Int, port: UInt16, path: String = "/proc/self/exe", arguments: [String],
        environment: [String: String], cores: Int
    ) -> [ProcessCommand] {
        (0..<worldSize).map { rank in
            let launch = Launch(
                rank: rank, worldSize: worldSize, localRank: rank,
                rendezvous: RendezvousAddress(host: "127.0.0.1", port: port))
            var variables = environment
            variables["OMP_NUM_THREADS"] =
                environment["OMP_NUM_THREADS"] ?? "\(max(1, cores / worldSize))"
            variables["OMP_WAIT_POLICY"] = environment["OMP_WAIT_POLICY"] ?? "passive"
            variables.merge(LaunchEnvironment.variables(for: launch)) { $1 }
            return ProcessCommand(
                path: path, arguments: arguments, environment: variables)
        }
    }
}
