import Foundation
import Testing

private let hasOpenSSLProgram =
    ["/usr/bin/openssl", "/usr/local/bin/openssl"].contains {
        FileManager.default.isExecutableFile(atPath: $0)
    }

extension SystemTests {
    /// Whole jobs whose processes have certificates.
    @Suite struct TLSTrainingTests {
        /// A directory with what `geeps tls init` makes.
        private func certificates() async throws -> TemporaryFolder {
            let folder = try TemporaryFolder()
            let made = try await GeepsProcess.run(["tls", "init", folder.path("tls")])
            try #require(made.isSuccess, "\(made)")
            return folder
        }

        private func files(
            _ folder: TemporaryFolder, certificate: String = "node", key: String = "node-key",
            ca: String = "ca"
        ) -> String {
            func path(_ name: String) -> String { folder.path("tls/\(name).pem") }
            return "{certificate: \(path(certificate)), key: \(path(key)), ca: \(path(ca))}"
        }

        @Test func threeProcessesTrainOverTLSToTheSameBits() async throws {
            let folder = try await certificates()
            let plain = try await TestJob(cluster: "{workers: 3, keepers: 2}").run()
            for transport in ["tcp", "auto"] {
                let encrypted = try await TestJob(
                    cluster:
                        "{workers: 3, keepers: 2, transport: \(transport), tls: \(files(folder))}"
                ).run()
                #expect(encrypted.model == plain.model)
            }
        }

        @Test func aWrongFileIsSaidOnceAndNobodyStarts() async throws {
            let folder = try await certificates()
            let result = try await TestJob(
                cluster: "{workers: 3, tls: \(files(folder, key: "ca-key"))}"
            ).attempt()
            #expect(result.end == .exited(77), "\(result)")
            #expect(
                result.error.components(separatedBy: "is not that of the certificate").count == 2,
                "\(result)")
            let missing = try await TestJob(
                cluster: "{workers: 3, tls: \(files(folder, certificate: "none"))}"
            ).attempt()
            #expect(missing.error.contains("there is nothing at"), "\(missing)")
        }

        @Test func initLeavesWhatIsThere() async throws {
            let folder = try await certificates()
            let before = try Data(contentsOf: URL(filePath: folder.path("tls/ca-key.pem")))
            let again = try await GeepsProcess.run(["tls", "init", folder.path("tls")])
            #expect(again.end == .exited(73), "\(again)")
            #expect(again.error.contains("tls/ca.pem is there already"))
            #expect(
                try Data(contentsOf: URL(filePath: folder.path("tls/ca-key.pem"))) == before)
            let attributes = try FileManager.default.attributesOfItem(
                atPath: folder.path("tls/node-key.pem"))
            #expect(attributes[.posixPermissions] as? Int == 0o600)
        }

        @Test(.enabled(if: hasOpenSSLProgram, "needs the program openssl"))
        func theCommandsOfTheManualMakeCertificatesThatWork() async throws {
            let manual = try String(
                contentsOf: GeepsProcess.root.appending(path: "docs/operating/tls.md"),
                encoding: .utf8)
            let commands = try #require(
                manual.components(separatedBy: "```sh\n").dropFirst().first?
                    .components(separatedBy: "```").first)
            let folder = try TemporaryFolder()
            let shell = Process()
            shell.executableURL = URL(filePath: "/bin/sh")
            try FileManager.default.createDirectory(
                atPath: folder.path("tls"), withIntermediateDirectories: true)
            shell.currentDirectoryURL = URL(filePath: folder.path("tls"))
            shell.arguments = ["-e", "-c", commands]
            shell.standardError = FileHandle.nullDevice
            try shell.run()
            shell.waitUntilExit()
            #expect(shell.terminationStatus == 0)
            _ = try await TestJob(
                cluster: "{workers: 2, transport: tcp, tls: \(files(folder))}"
            ).run()
        }
    }
}
