public import Foundation

/// A Python that can import what an oracle needs; suites named Oracle are skipped where there is none.
public enum OraclePython {
    /// The interpreter with torch and safetensors, or nil: `GEEPS_ORACLE_PYTHON`, else the repository's `.oracles`, else python3.
    public static let withTorch: String? = find(importing: "torch, safetensors.torch")

    /// The root of the repository.
    public static let root = URL(filePath: #filePath)
        .deletingLastPathComponent().deletingLastPathComponent().deletingLastPathComponent()

    /// Runs a script of `Benchmarks/oracles`; its standard output.
    public static func run(_ script: String, _ arguments: [String]) throws -> String {
        let path = root.appending(path: "Benchmarks/oracles/\(script)").path()
        let (status, output) = try launch(withTorch ?? "python3", [path] + arguments)
        guard status == 0 else { throw OracleFailure(script: script, status: status) }
        return output
    }

    private static func find(importing module: String) -> String? {
        let environment = ProcessInfo.processInfo.environment
        let candidates = [
            environment["GEEPS_ORACLE_PYTHON"], root.appending(path: ".oracles/bin/python3").path(),
            "python3",
        ]
        return candidates.compactMap(\.self).first {
            (try? launch($0, ["-c", "import \(module)"], isQuiet: true))?.status == 0
        }
    }

    private static func launch(
        _ program: String, _ arguments: [String], isQuiet: Bool = false
    ) throws -> (status: Int32, output: String) {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [program] + arguments
        let pipe = Pipe()
        process.standardOutput = pipe
        process.standardError = isQuiet ? FileHandle.nullDevice : FileHandle.standardError
        try process.run()
        let data = pipe.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        return (process.terminationStatus, String(decoding: data, as: UTF8.self))
    }
}

/// An oracle's script ended with another status than zero.
public struct OracleFailure: Error {
    /// The script.
    public let script: String
    /// Its exit status.
    public let status: Int32
}
