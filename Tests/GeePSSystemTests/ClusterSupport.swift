import Foundation
import Glibc
import Testing

/// Whether there is a UCX for lanes; only looked for, since loading it belongs to the program that is tested.
let hasUCX = ["/usr/lib/\(machine)-linux-gnu", "/usr/lib64", "/usr/lib"].contains {
    access("\($0)/libucp.so.0", F_OK) == 0
}

private let machine: String = {
    var names = utsname()
    uname(&names)
    return withUnsafeBytes(of: &names.machine) {
        String(decoding: $0.prefix { $0 != 0 }, as: UTF8.self)
    }
}()

/// What the tests of launchers need from the system; `make setup-cluster` installs it.
enum LauncherTools {
    static let mpirun = path(of: "mpirun")
    /// Why there can be no cluster of namespaces; nil where there can.
    static let obstacleToSlurm: String? = {
        if geteuid() != 0 { return "only root can make network namespaces" }
        for program in ["srun", "slurmctld", "slurmd", "ip", "unshare", "nsenter"]
        where path(of: program) == nil {
            return "no \(program) here"
        }
        return access("/sys/fs/cgroup", F_OK) == 0 ? nil : "no cgroups here, which slurmd needs"
    }()

    /// Where a program is.
    static func path(of program: String) -> String? {
        let search = ProcessInfo.processInfo.environment["PATH"] ?? ""
        return (search.split(separator: ":").map(String.init) + ["/usr/sbin", "/sbin"])
            .map { "\($0)/\(program)" }.first { access($0, X_OK) == 0 }
    }
}

/// Four hosts under Slurm on this machine, until it is let go.
final class SlurmCluster {
    private static let script = GeepsProcess.root.appending(path: "Tests/Cluster/slurm").path()
    private let folder: TemporaryFolder
    /// Starts a program on the host that jobs are submitted from.
    let launcher: [String]

    init() throws {
        folder = try TemporaryFolder()
        launcher = [Self.script, "run", folder.url.path()]
        try #require(try Self.run(["start", folder.url.path()]) == 0, "the cluster did not start")
    }

    deinit { _ = try? Self.run(["stop", folder.url.path()]) }

    /// Cuts a host off from all others, or lets it back: at the switch, where the host itself notices nothing.
    func cutOff(_ host: Int, _ isCut: Bool = true) throws {
        let tag = folder.url.path().trimmingCharacters(in: ["/"]).suffix(6)
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments =
            ["ip", "link", "set", "\(tag)-n\(host)"]
            + (isCut ? ["nomaster"] : ["master", "br\(tag)"])
        try process.run()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0)
    }

    /// What a command of Slurm prints on the host that jobs are submitted from.
    func output(of command: [String]) throws -> String {
        let process = Process()
        let pipe = Pipe()
        process.executableURL = URL(filePath: Self.script)
        process.arguments = Array(launcher.dropFirst()) + command
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = pipe
        process.standardError = pipe
        try process.run()
        let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return String(decoding: bytes, as: UTF8.self)
    }

    private static func run(_ arguments: [String]) throws -> Int32 {
        let process = Process()
        process.executableURL = URL(filePath: script)
        process.arguments = arguments
        // Daemons keep what they inherit.
        process.standardInput = FileHandle.nullDevice
        process.standardOutput = FileHandle.nullDevice
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return process.terminationStatus
    }
}
