import GeePSCore
import Glibc
import Testing

@testable import GeePSTransport

private let hasOpenSSLProgram = system("openssl version >/dev/null 2>&1") == 0

/// What a shell command prints, on both outputs.
private func output(of command: String) -> Running<String> {
    Running {
        guard let stream = popen("{ \(command); } 2>&1", "r") else { return "" }
        defer { pclose(stream) }
        var bytes: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: 4096)
        while true {
            let count = fread(&buffer, 1, buffer.count, stream)
            if count == 0 { break }
            bytes += buffer[..<count]
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}

extension TransportTests {
    /// Against a peer that we did not write: the program `openssl`.
    @Suite(.enabled(if: hasOpenSSL && hasOpenSSLProgram, "needs the program openssl"))
    struct TLSOracleTests {
        private let job = TestAuthority.job!
        private let exporter =
            "-keymatexport EXPORTER-Channel-Binding -keymatexportlen 32"

        private func binding(_ connection: any Connection) -> String {
            connection.channelBinding.map {
                ($0 < 16 ? "0" : "") + String($0, radix: 16, uppercase: true)
            }.joined()
        }

        @Test func aListenerServesSClient() throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            let files = try directory.files(of: job, name: "s_client")
            let ends = try TLSEnds(listening: job.context(), calling: nil)
            let client = output(
                of:
                    "timeout 20 openssl s_client -connect \(ends.listener.endpoint) -tls1_3 -ign_eof "
                    + "-cert \(files.certificate) -key \(files.key) -CAfile \(files.ca) "
                    + "-verify_return_error \(exporter) </dev/null")
            let connection = try ends.listener.accept(deadline: soon())
            try connection.establish(deadline: soon())
            let ours = binding(connection)
            try connection.send(FrameHeader(.goodbye))
            connection.close()
            let text = client.value
            #expect(text.contains("Keying material: \(ours)"), "\(text)")
            #expect(text.contains("TLSv1.3"))
            #expect(text.contains("GPSF"))
        }

        @Test func aCallerSpeaksToSServer() throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            let files = try directory.files(of: job, name: "s_server")
            let probe = try Listener()
            let endpoint = Endpoint(host: "127.0.0.1", port: probe.endpoint.port)
            probe.close()
            let server = output(
                of: "sleep 2 | timeout 20 openssl s_server -accept \(endpoint) -tls1_3 -naccept 1 "
                    + "-cert \(files.certificate) -key \(files.key) -CAfile \(files.ca) "
                    + "-Verify 2 -verify_return_error \(exporter)")
            var options = TransportOptions()
            options.tls = try job.context(of: job.issue(name: "caller"))
            let connection = try dial(
                endpoint, carrier: .fixed(.tls), options: options, deadline: soon())
            try connection.establish(deadline: soon())
            try connection.send(FrameHeader(.goodbye))
            let ours = binding(connection)
            // The server reads on until it has seen the end.
            usleep(200_000)
            connection.close()
            let text = server.value
            #expect(text.contains("Keying material: \(ours)"), "\(text)")
            #expect(text.contains("CN = caller") || text.contains("CN=caller"), "\(text)")
            #expect(text.contains("GPSF"))
        }

        @Test(arguments: [("-tls1_2", "unsupported protocol"), ("-tls1_3", "peer did not return")])
        func olderVersionsAndCallersWithoutACertificateAreRefused(
            version: String, reason: String
        ) throws {
            let directory = try PEMDirectory()
            defer { directory.remove() }
            let files = try directory.files(of: job)
            let ends = try TLSEnds(listening: job.context(), calling: nil)
            let client = output(
                of: "timeout 20 openssl s_client -connect \(ends.listener.endpoint) \(version) "
                    + "-ign_eof -CAfile \(files.ca) </dev/null")
            let error = try ends.answer()
            #expect(error?.code == .refused)
            #expect(error?.message.contains(reason) == true, "\(error?.message ?? "none")")
            #expect(client.value.contains("alert"))
        }
    }
}
