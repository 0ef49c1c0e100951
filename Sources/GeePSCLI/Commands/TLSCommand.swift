import ArgumentParser
import GeePSCore
import GeePSTransport
import Glibc

/// `geeps tls`.
struct TLSCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tls", abstract: "Makes certificates for jobs whose machines talk by TLS.",
        subcommands: [TLSInitCommand.self])
}

/// `geeps tls init`.
struct TLSInitCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "init",
        abstract: "Makes a CA, and a certificate of it that all processes of a job may have.",
        discussion: """
            Writes ca.pem, ca-key.pem, node.pem and node-key.pem; the keys are readable by you alone. What is there already is \
            left as it is. Needs OpenSSL 3, as TLS does.

            EXAMPLES
              geeps tls init tls
              geeps train job.yaml --set 'cluster.tls={certificate: tls/node.pem, key: tls/node-key.pem, ca: tls/ca.pem}'
            """)

    @Argument(help: "The directory; made where it is not.")
    var directory: String
    @Option(help: "How long the certificates are valid.")
    var days = 365

    func validate() throws {
        guard (1...36_500).contains(days) else {
            throw ValidationError("--days is \(days), expected 1 to 36500")
        }
    }

    func run() throws {
        let authority = try TLSAuthority(days: days)
        let node = try authority.issue(name: "node", seconds: days * TLSAuthority.secondsPerDay)
        guard mkdir(directory, 0o755) == 0 || errno == EEXIST else {
            throw CLIError(.cannotOpen, "cannot make the directory \(directory): \(lastError())")
        }
        let files = [
            ("ca.pem", authority.identity.certificate, mode_t(0o644)),
            ("ca-key.pem", authority.identity.key, 0o600),
            ("node.pem", node.certificate, 0o644), ("node-key.pem", node.key, 0o600),
        ]
        // All or none: two halves of different CAs would be of no use.
        for (name, _, _) in files where access("\(directory)/\(name)", F_OK) == 0 {
            throw CLIError(
                .cannotOpen,
                "\(directory)/\(name) is there already, expected a directory without it: name another one"
            )
        }
        for (name, bytes, mode) in files { try write(bytes, to: "\(directory)/\(name)", mode) }
        writeOutput(
            """
            \(directory): a CA and a certificate, valid for \(days) days
              in a job file   cluster: {tls: {certificate: \(directory)/node.pem, key: \(directory)/node-key.pem, ca: \
            \(directory)/ca.pem}}
              to yourself     \(directory)/ca-key.pem: who has it can make certificates of the job

            """)
    }

    private func write(_ bytes: [UInt8], to path: String, _ mode: mode_t) throws {
        let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode)
        guard descriptor >= 0 else {
            throw CLIError(.cannotOpen, "cannot make \(path): \(lastError())")
        }
        defer { close(descriptor) }
        guard Glibc.write(descriptor, bytes, bytes.count) == bytes.count else {
            throw CLIError(.inputOutput, "cannot write \(path): \(lastError())")
        }
    }
}
