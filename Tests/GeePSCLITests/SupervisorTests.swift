import Glibc
import Testing

@testable import GeePSCLI

/// Runs shell scripts as ranks; `signals` are sent once rank 1 has written "ready".
private func supervise(
    _ scripts: [String], grace: Duration = .seconds(10), signals: [Int32] = []
) throws -> (outcome: Supervisor.Outcome, log: [String], output: String) {
    var signalPipe: [Int32] = [0, 0]
    var outputPipe: [Int32] = [0, 0]
    #expect(pipe(&signalPipe) == 0 && pipe(&outputPipe) == 0)
    _ = fcntl(signalPipe[0], F_SETFL, O_NONBLOCK)
    for descriptor in signalPipe + outputPipe { _ = fcntl(descriptor, F_SETFD, FD_CLOEXEC) }
    defer { (signalPipe + [outputPipe[0]]).forEach { _ = close($0) } }

    var log: [String] = []
    let commands = scripts.map {
        ProcessCommand(
            path: "/bin/sh", arguments: ["sh", "-c", $0], environment: ["PATH": "/usr/bin:/bin"])
    }
    let writeEnd = signalPipe[1]
    var supervisor = Supervisor(grace: grace, signals: signalPipe[0]) { line in
        log.append(line)
        if line == "[rank 1] ready\n" {
            var bytes = signals.map { UInt8($0) }
            _ = write(writeEnd, &bytes, bytes.count)
        }
    }
    let outcome = try supervisor.run(commands, output: outputPipe[1], error: outputPipe[1])
    close(outputPipe[1])
    var bytes = [UInt8](repeating: 0, count: 65536)
    let count = read(outputPipe[0], &bytes, bytes.count)
    return (outcome, log, String(decoding: bytes.prefix(max(0, count)), as: UTF8.self))
}

/// Two ranks that set a trap and then do nothing; rank 1 says "ready" when both have set it.
private func trapping(_ trap: String) -> [String] {
    let marker = "/tmp/geeps-supervisor-\(getpid())-\(UInt64.random(in: .min ... .max))"
    let idle = "while :; do sleep 0.05; done"
    return [
        "trap \(trap); : > \(marker); \(idle)",
        "trap \(trap); while [ ! -e \(marker) ]; do sleep 0.02; done; rm \(marker); echo ready; \(idle)",
    ]
}

@Suite struct SupervisorTests {
    @Test func whenAllEndWellTheJobDoes() throws {
        let result = try supervise(["exit 0", "exit 0", "exit 0"])
        #expect(result.outcome.exitCode == 0)
        #expect(result.outcome.failedRank == nil)
        #expect(result.log.isEmpty)
    }

    @Test func rankZeroIsPassedThroughAndOthersArePrefixed() throws {
        let result = try supervise([
            "printf 'a\\rb'; echo c >&2", "echo out; echo err >&2", "printf unfinished",
        ])
        #expect(result.output == "a\rbc\n")
        #expect(
            result.log.sorted() == ["[rank 1] err\n", "[rank 1] out\n", "[rank 2] unfinished\n"])
    }

    @Test func theCodeIsThatOfTheFirstThatFailed() throws {
        let result = try supervise(["sleep 0.4; exit 3", "exit 17", "sleep 0.2; exit 4"])
        #expect(result.outcome.exitCode == 17)
        #expect(result.outcome.failedRank == 1)
        #expect(result.outcome.ends == [.exited(3), .exited(17), .exited(4)])
        #expect(result.log.first == "geeps: rank 1 exited with code 17\n")
    }

    @Test func aRankThatLostItsPeerIsNotTheCause() throws {
        let result = try supervise(["exit 69", "sleep 0.3; kill -SEGV $$"])
        #expect(result.outcome.failedRank == 1)
        #expect(result.outcome.exitCode == 128 + SIGSEGV)
        #expect(
            result.log.contains(
                "geeps: rank 0 exited with code 69 (peer, rendezvous or device unavailable)\n"))
        #expect(result.log.contains("geeps: rank 1 was killed by SIGSEGV\n"))
    }

    @Test func ranksThatDoNotNoticeAFailureAreKilledAfterTheGrace() throws {
        let result = try supervise(["sleep 60", "kill -KILL $$"], grace: .milliseconds(200))
        #expect(result.outcome.exitCode == 137)
        #expect(result.outcome.failedRank == 1)
        #expect(result.outcome.ends == [.killed(signal: SIGKILL), .killed(signal: SIGKILL)])
        #expect(result.log.contains("geeps: rank 0 did not end, killing it\n"))
    }

    @Test func ranksMayEndByThemselvesWithinTheGrace() throws {
        let result = try supervise(["sleep 0.3; exit 69", "exit 70"])
        #expect(result.outcome.ends == [.exited(69), .exited(70)])
        #expect(!result.log.contains { $0.contains("killing") })
    }

    @Test(arguments: [SIGINT, SIGTERM])
    func aSignalReachesEveryRank(signal: Int32) throws {
        let name = signal == SIGINT ? "INT" : "TERM"
        let scripts = trapping("'echo got \(name); exit 75' \(name)")
        let result = try supervise(scripts, signals: [signal])
        #expect(result.outcome.exitCode == 75)
        #expect(result.outcome.ends == [.exited(75), .exited(75)])
        // The shell may add a line about its child, which got the signal too.
        #expect(result.output.contains("got \(name)\n"))
        #expect(result.log.contains("[rank 1] got \(name)\n"))
    }

    @Test func aSecondSignalKills() throws {
        let result = try supervise(trapping("'' TERM INT"), signals: [SIGTERM, SIGINT])
        #expect(result.outcome.exitCode == 128 + SIGINT)
        #expect(result.outcome.ends == [.killed(signal: SIGKILL), .killed(signal: SIGKILL)])
    }

    @Test func aProgramThatIsNotThereEndsTheOthers() throws {
        let missing = ProcessCommand(path: "/nowhere/geeps", arguments: ["geeps"], environment: [:])
        let sleeper = ProcessCommand(
            path: "/bin/sleep", arguments: ["sleep", "60"], environment: [:])
        var supervisor = Supervisor(signals: -1) { _ in }
        #expect {
            try supervisor.run([sleeper, missing])
        } throws: {
            "\($0)" == "cannot start /nowhere/geeps: No such file or directory"
        }
    }
}

@Suite struct LinePrefixerTests {
    @Test func linesAreJoinedAcrossPieces() {
        var lines = LinePrefixer(prefix: "> ")
        #expect(lines.lines(of: Array("a\nb".utf8)) == ["> a\n"])
        #expect(lines.lines(of: Array("c\r\n\n".utf8)) == ["> bc\n", "> \n"])
        #expect(lines.finish() == nil)
        #expect(lines.lines(of: Array("d".utf8)).isEmpty)
        #expect(lines.finish() == "> d\n")
    }

    @Test func anEndlessLineIsGivenOutInPieces() {
        var lines = LinePrefixer(prefix: "")
        #expect(lines.lines(of: [UInt8](repeating: 120, count: 65536)).isEmpty)
        #expect(lines.lines(of: [120]).map(\.utf8.count) == [65537])
    }
}
