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

    /// Carriers, connections and what UCX may use: its own TCP and shared memory, and where there is an RDMA device
    /// what it finds best.
    private static func shapes(hasTLS: Bool, hasUCX: Bool) -> [(Carrier, Int, String?)] {
        var shapes: [(Carrier, Int, String?)] = [
            (.sharedMemory, 1, nil), (.unixSocket, 4, nil), (.tcp, 1, nil), (.tcp, 4, nil),
        ]
        if hasTLS { shapes += [(.tls, 1, nil), (.tls, 4, nil)] }
        if hasUCX { shapes += [(.ucx, 1, "tcp"), (.ucx, 4, "tcp"), (.ucx, 1, "posix")] }
        if UCXDevices.isOfUse { shapes += [(.ucx, 1, "rc,ud,dc"), (.ucx, 4, "rc,ud,dc")] }
        return shapes
    }

    func run() throws {
        var lines: [JSONValue] = []
        let library = try? TLSLibrary.load()
        let ucx = try? UCXLibrary.load()
        for (carrier, lanes, transports) in Self.shapes(hasTLS: library != nil, hasUCX: ucx != nil)
        {
            var options = TransportOptions()
            options.ucxTransports = transports
            let stream = try measureStream(
                carrier: carrier, payloadBytes: payload, totalBytes: total, lanes: lanes,
                options: options)
            let trip = try measureRoundTrip(carrier: carrier, count: 2000, options: options)
            lines.append(
                .object([
                    "carrier": .string(carrier.rawValue),
                    "ucx_transports": transports.map { .string($0) } ?? .null,
                    "lanes": .integer(Int64(lanes)),
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
                "ucx_library": ucx.map { .string($0.version) } ?? .null,
                "rdma_devices": .array(UCXDevices().active.map { .string($0) }),
                "has_aes": .bool(TLSLibrary.hasAES), "streams": .array(lines),
            ]).text + "\n")
    }
}
