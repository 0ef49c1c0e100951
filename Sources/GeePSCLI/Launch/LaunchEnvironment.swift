import GeePS
import GeePSDevice
import GeePSTransport

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

/// What was found out about the launch, and why.
struct DetectedLaunch: Hashable, Sendable {
    /// Nil where this process is alone.
    var launch: Launch?
    /// What gave it its place.
    var claim: LaunchClaim?
    /// Where its rendezvous comes from, for people.
    var rendezvousReason = ""
    /// What is odd: for people, once a job.
    var warnings: [String] = []
}

/// What the environment says about the launch.
///
/// The variables of launchers, and those whose names begin with GEEPS_, which outrank them.
enum LaunchEnvironment {
    static let rank = "GEEPS_RANK"
    static let worldSize = "GEEPS_WORLD_SIZE"
    static let rendezvous = "GEEPS_RENDEZVOUS"
    static let localRank = "GEEPS_LOCAL_RANK"
    /// Variables that mean something; the last is read by tests only.
    static let known =
        [rank, worldSize, rendezvous, localRank, JobSecret.variable, JobSecret.fileVariable]
        + TLSFiles.variables
        + CUDALibrary.allCases.map(\.variable)
        + [
            isSupervised, StatusQuery.variable, "GEEPS_CACHE_DIR", "GEEPS_LIBRARY",
            "GEEPS_ORACLE_PYTHON",
        ]
    /// Set for processes whose supervisor starts them again by itself.
    static let isSupervised = "GEEPS_SUPERVISED"

    /// The launch that `environment` describes, nil when it describes none.
    ///
    /// - Throws: `CLIError` (usage) naming the variable that is unknown, missing or does not fit.
    static func launch(from environment: [String: String]) throws(CLIError) -> Launch? {
        try detect(environment).launch
    }

    /// Goes through the launchers in the order of `Launcher` and believes the first that left its mark.
    ///
    /// - Throws: `CLIError` (usage) naming the variable that is unknown, missing or does not fit.
    static func detect(_ environment: [String: String]) throws(CLIError) -> DetectedLaunch {
        try refuseUnknown(environment)
        let variables = LaunchVariables(environment)
        let given = known.prefix(4).filter { environment[$0] != nil }
        if environment[rank] != nil && environment[worldSize] == nil {
            throw incomplete(worldSize, given)
        }
        for (place, launcher) in Launcher.allCases.enumerated() {
            guard let claim = try LaunchClaim(of: launcher, in: variables) else { continue }
            let others = Launcher.allCases[(place + 1)...]
            return try believe(claim, others: Array(others), variables)
        }
        guard given.isEmpty else { throw incomplete(rank, given) }
        return DetectedLaunch(
            warnings: [variables.batchScriptWarning, variables.indexedJobWarning].compactMap { $0 })
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

    private static func believe(
        _ claim: LaunchClaim, others: [Launcher], _ variables: LaunchVariables
    ) throws(CLIError) -> DetectedLaunch {
        var detected = DetectedLaunch(claim: claim)
        detected.warnings = disagreements(with: claim, others, variables)
        // A launcher of one process says no more than a shell does.
        guard claim.worldSize > 1 || claim.launcher == .geeps else { return detected }
        guard claim.localRank < claim.worldSize else {
            throw CLIError(
                .usage,
                "\(localRank) is \(claim.localRank) but \(claim.sizeVariable) is \(claim.worldSize): a machine "
                    + "has no more ranks than the job")
        }
        var launch = Launch(
            rank: claim.rank, worldSize: claim.worldSize, localRank: claim.localRank,
            rendezvous: nil)
        if let (address, reason) = try RendezvousRule.address(for: claim, in: variables) {
            launch.rendezvous = address
            detected.rendezvousReason = reason
        }
        detected.launch = launch
        return detected
    }

    /// A line for each other launcher that says something else, unless that is how the two work together.
    private static func disagreements(
        with claim: LaunchClaim, _ others: [Launcher], _ variables: LaunchVariables
    ) -> [String] {
        if claim.launcher == .torchrun && variables["TORCHELASTIC_RUN_ID"] != nil { return [] }
        return others.compactMap { launcher in
            if claim.launcher == .openMPI && launcher == .slurm { return nil }
            let other = (try? LaunchClaim(of: launcher, in: variables)) ?? nil
            guard let other, other.worldSize > 1 || claim.launcher != .geeps else { return nil }
            let (mine, theirs) = (claim.launcher.rawValue, launcher.rawValue)
            if other.worldSize != claim.worldSize {
                return
                    "\(claim.sizeVariable) is \(claim.worldSize) (\(mine)) but \(other.sizeVariable) is "
                    + "\(other.worldSize) (\(theirs)); going by \(mine)"
            }
            guard other.rank != claim.rank else { return nil }
            return "\(claim.rankVariable) is \(claim.rank) (\(mine)) but \(other.rankVariable) is "
                + "\(other.rank) (\(theirs)); going by \(mine)"
        }
    }

    private static func refuseUnknown(_ environment: [String: String]) throws(CLIError) {
        let unknown = environment.keys.filter { $0.hasPrefix("GEEPS_") && !known.contains($0) }
        guard let name = unknown.sorted().first else { return }
        let nearest = known.min { editDistance(name, $0) < editDistance(name, $1) } ?? rank
        throw CLIError(
            .usage,
            "unknown environment variable \(name), expected one of "
                + "\(known.prefix(6).joined(separator: ", ")) (did you mean \(nearest)?)")
    }

    private static func incomplete(_ name: String, _ given: [String]) -> CLIError {
        CLIError(
            .usage,
            "\(name) is not set but \(given.joined(separator: ", ")) \(given.count == 1 ? "is" : "are"): "
                + "set \(rank), \(worldSize) and \(rendezvous) together, or none of them")
    }
}
