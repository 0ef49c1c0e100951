import CGeePSShims
import Glibc

/// A program with its arguments and environment.
struct ProcessCommand: Hashable, Sendable {
    /// Absolute.
    var path: String
    /// Including the name of the program.
    var arguments: [String]
    var environment: [String: String]
}

/// How a process ended.
enum ProcessEnd: Hashable, Sendable, CustomStringConvertible {
    case exited(Int32)
    case killed(signal: Int32)

    /// Its own code, or 128 plus the signal, as a shell reports it.
    var exitCode: Int32 {
        switch self {
        case .exited(let code): code
        case .killed(let signal): 128 + signal
        }
    }

    var description: String {
        switch self {
        case .exited(let code):
            "exited with code \(code)" + (CLIExit(rawValue: code).map { " (\($0.meaning))" } ?? "")
        case .killed(let signal): "was killed by \(signalName(signal))"
        }
    }
}

/// "SIGKILL", or "signal 77" where there is no name.
func signalName(_ signal: Int32) -> String {
    let names: [Int32: String] = [
        SIGHUP: "SIGHUP", SIGINT: "SIGINT", SIGQUIT: "SIGQUIT", SIGILL: "SIGILL",
        SIGTRAP: "SIGTRAP", SIGABRT: "SIGABRT", SIGBUS: "SIGBUS", SIGFPE: "SIGFPE",
        SIGKILL: "SIGKILL", SIGUSR1: "SIGUSR1", SIGSEGV: "SIGSEGV", SIGUSR2: "SIGUSR2",
        SIGPIPE: "SIGPIPE", SIGALRM: "SIGALRM", SIGTERM: "SIGTERM",
    ]
    return names[signal] ?? "signal \(signal)"
}

/// A running process in a group of its own, which the kernel kills when this process dies.
struct ChildProcess {
    let identifier: pid_t
    /// Once it has ended.
    private(set) var end: ProcessEnd?

    /// Starts `command` with the given standard streams.
    ///
    /// - Throws: `CLIError` (internal) when the system cannot start it.
    init(_ command: ProcessCommand, input: Int32, output: Int32, error: Int32) throws(CLIError) {
        var child: pid_t = 0
        let variables = command.environment.map { "\($0.key)=\($0.value)" }.sorted()
        // exec takes arrays that end with a null.
        let arguments = command.arguments.map { strdup($0) } + [nil]
        let environment = variables.map { strdup($0) } + [nil]
        defer { (arguments + environment).forEach { free($0) } }
        let status = geeps_spawn(
            command.path, arguments, environment, input, output, error, &child)
        guard status == 0 else {
            throw CLIError(
                .internalError,
                "cannot start \(command.path): \(String(cString: strerror(status)))")
        }
        identifier = child
    }

    /// Notes whether it has ended, without waiting.
    ///
    /// - Returns: true when it has ended since the last call.
    mutating func reap() -> Bool {
        guard end == nil else { return false }
        var code: Int32 = 0
        var signal: Int32 = 0
        switch geeps_reap(identifier, &code, &signal) {
        case 0: return false
        case 1: end = signal == 0 ? .exited(code) : .killed(signal: signal)
        // Somebody else reaped it: how it ended is lost.
        default: end = .exited(CLIExit.internalError.rawValue)
        }
        return true
    }

    /// Signals the process and what it started, unless it has been reaped.
    func send(_ signal: Int32) {
        if end == nil { kill(-identifier, signal) }
    }
}
