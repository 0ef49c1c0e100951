import GeePSCore
import GeePSTransport

extension JobParser {
    /// The cluster section; without one, the defaults.
    func cluster(_ map: MapReader?) -> ClusterConfiguration {
        guard var map else {
            return ClusterConfiguration(
                workers: defaultWorkers, keepers: defaultWorkers, transport: .automatic, port: 0,
                interface: "auto", joinTimeout: .seconds(60), lanes: nil)
        }
        let workers = map.integer(
            "workers", in: 1...Limits.workersMaximum, default: defaultWorkers)
        let keepers = map.integer("keepers", in: 1...Limits.workersMaximum, default: workers)
        if keepers > workers * ClusterConfiguration.keepersPerWorkerMaximum {
            map.report(
                at: map.origin(of: "keepers"),
                "found \(keepers) keepers for \(workers) worker\(workers == 1 ? "" : "s"), expected at "
                    + "most \(ClusterConfiguration.keepersPerWorkerMaximum) keepers a worker"
            )
        }
        let keeperThreads =
            map.has("keeper_threads") ? map.integer("keeper_threads", in: 1...64) : nil
        _ = map.node("keeper_threads")
        let transport = map.choice(
            "transport", of: ClusterConfiguration.Carriage.allCases.map(\.rawValue),
            default: ClusterConfiguration.Carriage.automatic.rawValue)
        let port = map.integer("port", in: 0...65535, default: 0)
        let interface = map.text("interface", expected: "an address to listen on") ?? "auto"
        let joinTimeout = map.duration("join_timeout", fallback: .seconds(60))
        let reconnectTimeout = map.duration("reconnect_timeout", fallback: .seconds(10))
        let lanes = map.has("lanes") ? map.integer("lanes", in: 1...64) : nil
        _ = map.node("lanes")
        let tls = map.map("tls").flatMap { self.tls($0) }
        map.finish()
        return ClusterConfiguration(
            workers: workers, keepers: keepers, keeperThreads: keeperThreads,
            transport: transport.flatMap { .init(rawValue: $0) } ?? .automatic, port: port,
            interface: interface, joinTimeout: joinTimeout, reconnectTimeout: reconnectTimeout,
            lanes: lanes, tls: tls)
    }

    /// The files of cluster.tls: all three.
    private func tls(_ map: MapReader) -> TLSFiles? {
        var map = map
        map.owner = "cluster.tls"
        let paths = [
            path(
                "certificate", in: &map, isRequired: true,
                expected: "a PEM file with the certificate of this process"),
            path("key", in: &map, isRequired: true, expected: "a PEM file with its private key"),
            path("ca", in: &map, isRequired: true, expected: "a PEM file with the CA of the job"),
        ].compactMap { $0 }
        map.finish()
        return paths.count == 3 ? TLSFiles(certificate: paths[0], key: paths[1], ca: paths[2]) : nil
    }
}

extension MapReader {
    /// A time above zero.
    fileprivate mutating func duration(_ name: String, fallback: Duration) -> Duration {
        value(
            name, fallback: fallback, expected: "a time above 0 such as 60s, 500ms or 2m"
        ) { $0.plainText.flatMap(Duration.init(jobText:)) } ?? fallback
    }
}

extension Duration {
    /// Reads "60s", "500ms", "2m", "1h" or a bare number of seconds; nil for all else and for zero.
    init?(jobText text: String) {
        let digits = text.prefix { $0.isASCII && $0.isNumber }
        guard let count = Int64(digits), count > 0, count <= 1_000_000_000 else { return nil }
        switch text.dropFirst(digits.count) {
        case "", "s": self = .seconds(count)
        case "ms": self = .milliseconds(count)
        case "m", "min": self = .seconds(count * 60)
        case "h": self = .seconds(count * 3600)
        default: return nil
        }
    }

    /// The text that `init(jobText:)` reads back; whole milliseconds.
    var jobText: String {
        let (seconds, attoseconds) = components
        return attoseconds == 0
            ? "\(seconds)s" : "\(seconds * 1000 + attoseconds / 1_000_000_000_000_000)ms"
    }
}
