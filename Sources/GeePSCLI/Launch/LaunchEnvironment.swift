import GeePSDevice

/// Where the processes of a job meet.
struct RendezvousAddress: Hashable, Sendable, CustomStringConvertible {
    /// A name or an address; an IPv6 address without brackets.
    var host: String
    /// 1 to 65535.
    var port: UInt16

    /// A host with a port.
    init(host: String, port: UInt16) {
        self.host = host
        self.port = port
    }

    /// Reads "host:port" or "[address]:port"; nil when it is neither.
    init?(_ text: String) {
        guard let colon = text.lastIndex(of: ":"),
            let port = UInt16(text[text.index(after: colon)...]), port > 0
        else { return nil }
        var host = text[..<colon]
        if host.hasPrefix("[") && host.hasSuffix("]") {
            host = host.dropFirst().dropLast()
        } else if host.contains(":") {
            return nil
        }
        guard !host.isEmpty else { return nil }
        self.init(host: String(host), port: port)
    }

    var description: String { host.contains(":") ? "[\(host)]:\(port)" : "\(host):\(port)" }
}

/// The place of this process in its job.
struct Launch: Hashable, Sendable {
    /// 0 ..< worldSize.
    var rank: Int
    /// Processes in the job.
    var worldSize: Int
    /// Position among the processes of this machine; picks the device.
    var localRank: Int
    /// Where the processes meet; nil for a job of one.
    var rendezvous: RendezvousAddress?

    /// A job of one process.
    static let alone = Launch(rank: 0, worldSize: 1, localRank: 0, rendezvous: nil)
}

/// What the environment says about the launch: the variables whose names begin with GEEPS_.
enum LaunchEnvironment {
    static let rank = "GEEPS_RANK"
    static let worldSize = "GEEPS_WORLD_SIZE"
    static let rendezvous = "GEEPS_RENDEZVOUS"
    static let localRank = "GEEPS_LOCAL_RANK"
    /// Variables that mean something; the last is read by tests only.
    static let known =
        [rank, worldSize, rendezvous, localRank] + CUDALibrary.allCases.map(\.variable)
        + ["GEEPS_CACHE_DIR", "GEEPS_LIBRARY", "GEEPS_ORACLE_PYTHON"]

    /// The launch that `environment` describes, nil when it describes none.
    ///
    /// - Throws: `CLIError` (usage) naming the variable that is unknown, missing or does not fit.
    static func launch(from environment: [String: String]) throws(CLIError) -> Launch? {
        try refuseUnknown(environment)
        let given = known.prefix(4).filter { environment[$0] != nil }
        guard !given.isEmpty else { return nil }
        let worldSize = try count(worldSize, in: environment, given: given, from: 1)
        let rank = try count(rank, in: environment, given: given, from: 0)
        guard rank < worldSize else {
            throw CLIError(
                .usage,
                "\(Self.rank) is \(rank) but \(Self.worldSize) is \(worldSize): ranks go from 0 to \(worldSize - 1)"
            )
        }
        var localRank = 0
        if environment[Self.localRank] != nil {
            localRank = try count(Self.localRank, in: environment, given: given, from: 0)
        }
        guard localRank < worldSize else {
            throw CLIError(
                .usage,
                "\(Self.localRank) is \(localRank) but \(Self.worldSize) is \(worldSize): a machine has "
                    + "no more ranks than the job")
        }
        return Launch(
            rank: rank, worldSize: worldSize, localRank: localRank,
            rendezvous: try address(in: environment, worldSize: worldSize))
    }

    /// The variables that give a process its place.
    static func variables(for launch: Launch) -> [String: String] {
        var variables = [
            rank: "\(launch.rank)", worldSize: "\(launch.worldSize)",
            localRank: "\(launch.localRank)",
        ]
        variables[rendezvous] = launch.rendezvous.map { "\($0)" }
        return variables
    }

    private static func refuseUnknown(_ environment: [String: String]) throws(CLIError) {
        let unknown = environment.keys.filter { $0.hasPrefix("GEEPS_") && !known.contains($0) }
        guard let name = unknown.sorted().first else { return }
        let nearest = known.min { editDistance(name, $0) < editDistance(name, $1) } ?? rank
        throw CLIError(
            .usage,
            "unknown environment variable \(name), expected one of "
                + "\(known.prefix(4).joined(separator: ", ")) (did you mean \(nearest)?)")
    }

    private static func count(
        _ name: String, in environment: [String: String], given: [String], from least: Int
    ) throws(CLIError) -> Int {
        guard let text = environment[name] else {
            throw CLIError(
                .usage,
                "\(name) is not set but \(given.joined(separator: ", ")) \(given.count == 1 ? "is" : "are"): "
                    + "set \(rank), \(worldSize) and \(rendezvous) together, or none of them")
        }
        guard let number = Int(text), number >= least, number <= 1_000_000 else {
            throw CLIError(.usage, "\(name) is '\(text)', expected an integer of \(least) or more")
        }
        return number
    }

    private static func address(in environment: [String: String], worldSize: Int)
        throws(CLIError) -> RendezvousAddress?
    {
        guard let text = environment[rendezvous] else {
            if worldSize == 1 { return nil }
            throw CLIError(
                .usage,
                "\(rendezvous) is not set but \(Self.worldSize) is \(worldSize): it says where rank 0 "
                    + "listens, such as 10.0.0.7:29500")
        }
        guard let address = RendezvousAddress(text) else {
            throw CLIError(
                .usage,
                "\(rendezvous) is '\(text)', expected host:port such as 10.0.0.7:29500 or [::1]:29500"
            )
        }
        return address
    }
}
