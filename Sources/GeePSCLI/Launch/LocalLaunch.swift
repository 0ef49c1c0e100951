import CGeePSShims
import GeePS
import GeePSCheckpoint
import GeePSCore
import GeePSTransport
import Glibc

/// Runs a job of several processes on this machine: this program again, once a rank.
enum LocalLaunch {
    /// Supervises `job.cluster.workers` processes.
    ///
    /// - Throws: `SupervisedExit` unless all end well; the reasons have been printed then.
    static func run(_ job: Job, environment: [String: String]) throws {
        try run(
            processes: job.cluster.workers, port: job.cluster.port, checkpoint: job.checkpoint,
            tls: job.cluster.tls, environment: environment)
    }

    /// Supervises `processes` of this program, which meet at `port`; 0 takes a free one.
    ///
    /// When one of them is lost, all are started again from the newest of the job's checkpoints.
    static func run(
        processes: Int, port: Int, checkpoint: CheckpointSettings? = nil, tls: TLSFiles? = nil,
        environment: [String: String]
    ) throws {
        // Only a run that makes checkpoints does anything with SIGUSR1.
        let terminal = try Terminal(
            signals: [SIGINT, SIGTERM] + (checkpoint == nil ? [] : [SIGUSR1]))
        var restart = Restart(checkpoint, arguments: CommandLine.arguments)
        var goesOn = false
        repeat {
            goesOn = false
            let arguments = restart.arguments
            try runOnce(processes, port, arguments, terminal, tls, environment) {
                guard let line = restart.next(after: $0) else { return false }
                writeError(terminal.wipe + line)
                goesOn = true
                return true
            }
        } while goesOn
    }

    /// - Parameter isRestarted: whether an end that is none of success is not the job's.
    private static func runOnce(
        _ processes: Int, _ port: Int, _ arguments: [String], _ terminal: Terminal,
        _ tls: TLSFiles?, _ environment: [String: String], isRestarted: (Supervisor.Outcome) -> Bool
    ) throws {
        if port != 0 { try waitForPort(UInt16(port)) }
        let port = port == 0 ? try freePort() : UInt16(port)
        // Nobody else is to join: a new one for each start.
        let secret = JobSecret()
        var variables = environment.merging([JobSecret.variable: secret.variableText]) { $1 }
        variables[LaunchEnvironment.isSupervised] = "1"
        variables[StatusQuery.variable] =
            environment[StatusQuery.variable] ?? StatusPlaces.ofThisJob()
        let commands = commands(
            worldSize: processes, port: port, arguments: arguments, environment: variables,
            cores: Int(geeps_available_cores()))
        defer { StatusPlaces.clearThisJob() }
        let supervisor = Supervisor(
            signals: terminal.signals,
            onFirstFailure: {
                tellTheOthers(
                    $0, $1, worldSize: processes, port: port,
                    settings: ControlSettings(secret: secret, tls: tls, log: { _ in }))
            },
            log: { writeError(terminal.wipe + $0) })
        try supervise(commands, supervisor, terminal, isRestarted: isRestarted)
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
        var variables = environment.merging([JobSecret.variable: JobSecret().variableText]) { $1 }
        variables[StatusQuery.variable] =
            environment[StatusQuery.variable] ?? StatusPlaces.ofThisJob()
        let terminal = try Terminal(signals: [SIGINT, SIGTERM, SIGUSR1, SIGUSR2])
        let commands = commands(
            worldSize: processes, port: port, path: path, arguments: command,
            environment: variables,
            cores: Int(geeps_available_cores()))
        defer { StatusPlaces.clearThisJob() }
        let supervisor = Supervisor(
            endsOthers: true, outputs: .ofAll(print: { writeOutput($0) }),
            signals: terminal.signals, log: { writeError(terminal.wipe + $0) })
        try supervise(commands, supervisor, terminal)
    }

    /// What a supervisor hears and where it writes.
    private struct Terminal {
        /// Descriptor that signals are read from.
        let signals: Int32
        /// A line of another rank first wipes the bar that rank 0 is drawing.
        let wipe = isatty(STDERR_FILENO) == 1 ? "\r\u{1B}[K" : ""

        init(signals watched: [Int32]) throws(CLIError) {
            signals = geeps_signal_pipe(watched, Int32(watched.count))
            guard signals >= 0 else {
                throw CLIError(.internalError, "cannot watch for signals: \(lastError())")
            }
        }
    }

    /// Runs `commands` under `supervisor`.
    ///
    /// - Parameter isRestarted: whether an end that is none of success is not the job's.
    private static func supervise(
        _ commands: [ProcessCommand], _ supervisor: Supervisor, _ terminal: Terminal,
        isRestarted: (Supervisor.Outcome) -> Bool = { _ in false }
    ) throws {
        var supervisor = supervisor
        let outcome = try supervisor.run(commands)
        guard outcome.exitCode == 0 else {
            if isRestarted(outcome) { return }
            if let signal = outcome.signal, outcome.exitCode == 128 + signal {
                writeError(terminal.wipe + "geeps: the job was stopped by \(signalName(signal))\n")
            } else if outcome.signal != nil, outcome.exitCode == CLIExit.preempted.rawValue {
                // Rank 0 has said it.
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
        _ rank: Int, _ process: ChildProcess, worldSize: Int, port: UInt16,
        settings: ControlSettings
    ) {
        let reason = "it \(process.end.map { "\($0)" } ?? "ended")"
        let identifier = UInt32(process.identifier)
        _ = DedicatedThread(name: "messenger") {
            Rendezvous.decline(
                rank: rank, worldSize: worldSize, address: "127.0.0.1:\(port)", reason: reason,
                pid: identifier, settings: settings)
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
