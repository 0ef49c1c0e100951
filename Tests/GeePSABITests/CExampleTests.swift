import Foundation
import GeePSTestSupport
import Testing

@Suite("C example", .enabled(if: CExample.library != nil, "needs libGeePSABI.so of this build"))
struct CExampleTests {
    @Test(arguments: [[], ["-fsanitize=address,undefined"]])
    func itCompilesAndFitsItsLine(_ options: [String]) throws {
        let program = try CExample.compile("least_squares", options: options)
        defer { try? FileManager.default.removeItem(at: program) }
        let output = try CExample.run(program.path(), [])
        #expect(output.hasPrefix("rank 0: y = 3.000 x + -1.000"))
    }
}

/// Programs of `Examples/c`, against the library of this build.
private enum CExample {
    /// The library; beside the test bundle.
    static let library: String? = {
        let path = OraclePython.root.appending(path: ".build/debug/libGeePSABI.so").path()
        return FileManager.default.fileExists(atPath: path) ? path : nil
    }()

    static func compile(_ name: String, options: [String]) throws -> URL {
        let root = OraclePython.root
        let program = FileManager.default.temporaryDirectory.appending(
            path: "geeps-\(name)-\(UUID().uuidString)")
        let library = try #require(library)
        let directory = URL(filePath: library).deletingLastPathComponent().path()
        _ = try run(
            "clang",
            [
                "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-g",
                "-I\(root.path())/Sources/CGeePS/include",
                "\(root.path())/Examples/c/\(name).c", library, "-lm", "-Wl,-rpath,\(directory)",
                "-o", program.path(),
            ] + options)
        return program
    }

    static func run(_ program: String, _ arguments: [String]) throws -> String {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [program] + arguments
        var environment = ProcessInfo.processInfo.environment
        // Swift keeps its metadata for ever, which looks like leaks.
        environment["ASAN_OPTIONS"] = "detect_leaks=0"
        process.environment = environment
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let data = output.fileHandleForReading.readDataToEndOfFile()
        process.waitUntilExit()
        try #require(process.terminationStatus == 0, "\(program) \(arguments)")
        return String(decoding: data, as: UTF8.self)
    }
}
