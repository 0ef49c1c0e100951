import Foundation
import Glibc
import Testing

/// The tests that run whole jobs; suites go into extensions of this one.
///
/// One test at a time: each starts several processes, and a machine may have few cores.
@Suite("System", .serialized) enum SystemTests {}

/// How a run of `geeps` ended.
struct GeepsResult: Sendable, CustomStringConvertible {
    /// The end of a process.
    enum End: Hashable, Sendable {
        case exited(Int32)
        case killed(signal: Int32)
    }

    var end: End
    /// Whether it had to be killed because its time was up.
    var isTimedOut: Bool
    var output: String
    var error: String

    /// Whether it ended with code 0 in time.
    var isSuccess: Bool { end == .exited(0) && !isTimedOut }

    /// The object that `--json` prints; empty when there is none.
    var json: [String: Any] {
        let object = try? JSONSerialization.jsonObject(with: Data(output.utf8))
        return object as? [String: Any] ?? [:]
    }

    var description: String {
        "\(isTimedOut ? "timed out, " : "")\(end)\noutput: \(output)\nerror: \(error)"
    }
}

/// A running `geeps`, in a process group of its own, that never outlives its time or this object.
///
/// Its output goes to files, so that nobody waits for a reader. The workers it starts die with it: the kernel
/// kills them.
final class GeepsProcess {
    /// The program, beside the test bundle.
    static let program: URL = {
        let bundle = CommandLine.arguments.first.map { URL(filePath: $0) }
        let own = (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe"))
            .map { URL(filePath: $0) }
        let beside =
            [own, bundle].compactMap { $0?.deletingLastPathComponent() }
            + [root.appending(path: ".build/debug")]
        let candidates = beside.map { $0.appending(path: "geeps") }
        return candidates.first { FileManager.default.isExecutableFile(atPath: $0.path()) }
            ?? candidates[candidates.count - 1]
    }()

    /// The root of the repository.
    static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Of the first process; those of workers are found with `children`.
    let identifier: pid_t
    private let folder: TemporaryFolder
    private let deadline: ContinuousClock.Instant
    private var end: GeepsResult.End?

    /// Starts `geeps` with `arguments`.
    ///
    /// - Parameters:
    ///   - launcher: a program with arguments that starts it, such as mpirun; its path is absolute.
    ///   - environment: added to this process's, whose own GEEPS_ variables are left out.
    ///   - timeout: after which `wait` kills it.
    init(
        _ arguments: [String], launcher: [String] = [], environment: [String: String] = [:],
        timeout: Duration = .seconds(120)
    ) throws {
        folder = try TemporaryFolder()
        deadline = .now + timeout
        var variables = ProcessInfo.processInfo.environment.filter { !$0.key.hasPrefix("GEEPS_") }
        variables.merge(environment) { $1 }
        identifier = try Self.spawn(
            launcher + [Self.program.path()] + arguments,
            variables.map { "\($0.key)=\($0.value)" }.sorted(),
            output: folder.path("output"), error: folder.path("error"))
    }

    deinit { kill() }

    /// Runs `geeps` to its end.
    static func run(
        _ arguments: [String], environment: [String: String] = [:],
        timeout: Duration = .seconds(120)
    ) async throws -> GeepsResult {
        try await GeepsProcess(arguments, environment: environment, timeout: timeout).wait()
    }

    /// What it has written to standard output so far.
    var output: String { folder.text("output") }

    /// What it has written to standard error so far.
    var error: String { folder.text("error") }

    /// Whether it has not ended yet.
    var isRunning: Bool {
        reap()
        return end == nil
    }

    /// The processes that it has started and that are still there, ascending.
    var children: [pid_t] {
        let path = "/proc/\(identifier)/task/\(identifier)/children"
        guard isRunning, let text = try? String(contentsOfFile: path, encoding: .utf8) else {
            return []
        }
        return text.split(separator: " ").compactMap { pid_t($0) }.sorted()
    }

    /// Signals the first process alone, as `kill PID` does.
    func send(_ signal: Int32) {
        if isRunning { _ = Glibc.kill(identifier, signal) }
    }

    /// Kills it and its workers at once, and takes note of the end.
    func kill() {
        guard isRunning else { return }
        _ = Glibc.kill(-identifier, SIGKILL)
        while end == nil {
            reap()
            usleep(1000)
        }
    }

    /// Waits for the end, at most until the time is up; then kills it.
    func wait() async throws -> GeepsResult {
        let isTimedOut = try await !wait { !self.isRunning }
        kill()
        return GeepsResult(
            end: end ?? .exited(-1), isTimedOut: isTimedOut, output: output, error: error)
    }

    /// Waits until `condition` holds, at most until the time is up.
    ///
    /// - Returns: whether it holds.
    func wait(until condition: () -> Bool) async throws -> Bool {
        while !condition() {
            guard ContinuousClock.now < deadline else { return false }
            try await Task.sleep(for: .milliseconds(5))
        }
        return true
    }

    private func reap() {
        guard end == nil else { return }
        var status: Int32 = 0
        guard waitpid(identifier, &status, WNOHANG) == identifier else { return }
        let signal = status & 0x7f
        end = signal == 0 ? .exited((status >> 8) & 0xff) : .killed(signal: signal)
    }

    private static func spawn(
        _ arguments: [String], _ environment: [String], output: String, error: String
    ) throws -> pid_t {
        var actions = posix_spawn_file_actions_t()
        posix_spawn_file_actions_init(&actions)
        defer { posix_spawn_file_actions_destroy(&actions) }
        let flags = O_WRONLY | O_CREAT | O_TRUNC
        posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, output, flags, 0o600)
        posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, error, flags, 0o600)
        var attributes = posix_spawnattr_t()
        posix_spawnattr_init(&attributes)
        defer { posix_spawnattr_destroy(&attributes) }
        posix_spawnattr_setflags(&attributes, Int16(POSIX_SPAWN_SETPGROUP))
        let pointers = (arguments: cStrings(arguments), environment: cStrings(environment))
        defer { (pointers.arguments + pointers.environment).forEach { free($0) } }
        var identifier: pid_t = 0
        let status = posix_spawn(
            &identifier, arguments[0], &actions, &attributes, pointers.arguments,
            pointers.environment)
        guard status == 0 else {
            throw GeepsNotStarted(reason: "\(arguments[0]): \(String(cString: strerror(status)))")
        }
        return identifier
    }

    private static func cStrings(_ texts: [String]) -> [UnsafeMutablePointer<CChar>?] {
        texts.map { strdup($0) } + [nil]
    }
}

struct GeepsNotStarted: Error {
    let reason: String
}

/// A folder that goes with its owner.
final class TemporaryFolder: Sendable {
    let url: URL

    init() throws {
        url = FileManager.default.temporaryDirectory.appending(
            path: "geeps-system-\(UUID().uuidString)", directoryHint: .isDirectory)
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
    }

    deinit { try? FileManager.default.removeItem(at: url) }

    /// The path of `name` in the folder.
    func path(_ name: String) -> String { url.appending(path: name).path() }

    /// The text of file `name`; empty when there is none.
    func text(_ name: String) -> String {
        (try? Data(contentsOf: url.appending(path: name))).map {
            String(decoding: $0, as: UTF8.self)
        }
            ?? ""
    }

    /// Writes a file.
    ///
    /// - Returns: its path.
    func write(_ name: String, _ text: String) throws -> String {
        try Data(text.utf8).write(to: url.appending(path: name))
        return path(name)
    }
}
