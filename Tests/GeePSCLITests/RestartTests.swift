import Foundation
import Glibc
import Testing

@testable import GeePSCLI

@Suite struct RestartTests {
    private func outcome(_ end: ProcessEnd, signal: Int32? = nil) -> Supervisor.Outcome {
        Supervisor.Outcome(
            exitCode: end.exitCode, failedRank: 1, ends: [.exited(69), end], signal: signal)
    }

    private func settings(restarts: Int, _ directory: String = "/nowhere") -> CheckpointSettings {
        var settings = CheckpointSettings(directory: directory)
        settings.restarts = restarts
        return settings
    }

    @Test func aLostProcessIsStartedAgainAsOftenAsAllowed() {
        var restart = Restart(settings(restarts: 2), arguments: ["geeps"])
        let first = restart.next(after: outcome(.killed(signal: SIGKILL)))
        let second = restart.next(after: outcome(.killed(signal: SIGSEGV)))
        let third = restart.next(after: outcome(.killed(signal: SIGKILL)))
        #expect(first != nil && second != nil && third == nil)
        // Without a checkpoint it starts as it was told to.
        #expect(restart.arguments == ["geeps"])
    }

    @Test func itGoesOnFromACheckpoint() throws {
        let folder = FileManager.default.temporaryDirectory
            .appending(path: "geeps-restart-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        try FileManager.default.createDirectory(
            at: folder.appending(path: "step-0000000042"), withIntermediateDirectories: true)
        var restart = Restart(
            settings(restarts: 5, folder.path()), arguments: ["geeps", "--resume", "never"])
        for _ in 0..<2 {
            let next = restart.next(after: outcome(.exited(70)))
            let line = try #require(next)
            #expect(line.contains("step 42"))
            #expect(restart.arguments == ["geeps", "--resume", "never", "--resume", "auto"])
        }
    }

    /// A wrong job, an early stop and a user's signal are no losses.
    @Test(arguments: [64, 65, 73, 75, 77] as [Int32]) func othersAreNot(code: Int32) {
        var restart = Restart(settings(restarts: 9), arguments: [])
        let lines = [
            restart.next(after: outcome(.exited(code))),
            restart.next(after: outcome(.killed(signal: SIGTERM), signal: SIGTERM)),
        ]
        #expect(lines == [nil, nil])
        var never = Restart(nil, arguments: [])
        let line = never.next(after: outcome(.killed(signal: SIGKILL)))
        #expect(line == nil)
    }
}
