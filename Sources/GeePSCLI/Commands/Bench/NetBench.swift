import ArgumentParser
import GeePSCore
import GeePSTransport

/// `geeps bench net`: the carriers by themselves.
struct NetBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "net", abstract: "Times streams and round trips of every carrier on this host."
    )

    @Option(help: "Bytes of a frame's payload.")
    var payload = 1 << 20
    @Option(help: "Bytes of a stream.")
    var total = 1 << 30

    func run() throws {
        var lines: [JSONValue] = []
        let library = try? TLSLibrary.load()
        var shapes = [(Carrier.sharedMemory, 1), (.unixSocket, 4), (.tcp, 1), (.tcp, 4)]
        if library != nil { shapes += [(.tls, 1), (.tls, 4)] }
        for (carrier, lanes) in shapes {
            let stream = try measureStream(
                carrier: carrier, payloadBytes: payload, totalBytes: total, lanes: lanes)
            let trip = try measureRoundTrip(carrier: carrier, count: 2000)
            lines.append(
                .object([
                    "carrier": .string(carrier.rawValue), "lanes": .integer(Int64(lanes)),
                    "gigabytes_per_second": .number(
                        Double(stream.totalBytes) / stream.seconds / 1e9),
                    "cpu_seconds_per_gigabyte": .number(
                        stream.cpuSeconds / (Double(stream.totalBytes) / 1e9)),
                    "round_trip_median_us": .number(trip.medianMicroseconds),
                    "round_trip_p99_us": .number(trip.percentile99Microseconds),
                ]))
        }
        writeOutput(
            JSONValue.object([
                "schema": .string("geeps.bench.net/1"), "payload_bytes": .integer(Int64(payload)),
                "tls_library": library.map { .string($0.version) } ?? .null,
                "has_aes": .bool(TLSLibrary.hasAES), "streams": .array(lines),
            ]).text + "\n")
    }
}
