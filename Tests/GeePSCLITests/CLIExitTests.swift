import ArgumentParser
import GeePSCore
import Testing

@testable import GeePSCLI

private struct Unforeseen: Error {}

private struct Ending: Sendable {
    let error: any Error
    let code: Int32

    init(_ error: any Error, _ code: Int32) {
        self.error = error
        self.code = code
    }
}

@Suite struct CLIExitTests {
    private static let endings = [
        Ending(CLIError(.preempted, "m"), 75), Ending(CLIError(.noPermission, "m"), 77),
        Ending(JobProblems(file: "f", problems: []), 65), Ending(SupervisedExit(code: 143), 143),
        Ending(TransportError(.lost, "m"), 69), Ending(TransportError(.unreachable, "m"), 69),
        Ending(TransportError(.deadline, "m"), 69), Ending(TransportError(.refused, "m"), 69),
        Ending(TransportError(.closed, "m"), 69), Ending(TransportError(.malformed, "m"), 70),
        Ending(TransportError(.system, "m"), 74), Ending(Unforeseen(), 70),
    ]

    @Test(arguments: endings)
    fileprivate func everyErrorHasItsCode(ending: Ending) {
        #expect(ErrorReport.make(ending.error)?.code == ending.code)
    }

    @Test(arguments: [
        ["train"], ["train", "a", "--jsn"], ["nothing"], ["simulate", "--seeds", "0"],
    ])
    func aWrongCommandLineIsLeftToTheParser(arguments: [String]) {
        #expect {
            _ = try GeepsCommand.parseAsRoot(arguments)
        } throws: {
            ErrorReport.make($0) == nil && GeepsCommand.exitCode(for: $0).rawValue == 64
        }
    }

    @Test(arguments: [["--help"], ["train", "--help"], ["simulate", "--help"], ["--version"]])
    func helpIsNoError(arguments: [String]) {
        #expect {
            var command = try GeepsCommand.parseAsRoot(arguments)
            try command.run()
        } throws: {
            ErrorReport.make($0) == nil && GeepsCommand.exitCode(for: $0).rawValue == 0
        }
    }

    @Test func aMissingJobFileIsBadData() {
        #expect {
            var command = try GeepsCommand.parseAsRoot(["train", "/nowhere/job.yaml"])
            try command.run()
        } throws: {
            ErrorReport.make($0)?.code == 65
                && "\($0)" == "cannot open job file /nowhere/job.yaml: No such file or directory"
        }
    }
}

@Suite struct SimulateCommandTests {
    @Test(arguments: [
        ([], 0..<100), (["--seeds", "7"], 0..<7), (["--seed", "77"], 77..<78),
        (["--seed", "5", "--seeds", "3"], UInt64(5)..<8),
    ])
    func seedsAreARange(arguments: [String], seeds: Range<UInt64>) throws {
        let command = try #require(
            try GeepsCommand.parseAsRoot(["simulate"] + arguments) as? SimulateCommand)
        #expect(command.options.seeds == seeds)
    }
}
