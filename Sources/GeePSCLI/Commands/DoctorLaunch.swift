import GeePS

/// What `geeps doctor` says about the launch: the place of this process, who gave it and what it will be proven with.
struct DoctorLaunch {
    private let detected: DetectedLaunch?
    private let problem: String?
    private let secret: String

    init(environment: [String: String], secret: String = JobSecret.sourceOfEnvironment()) {
        self.secret = secret
        do throws(CLIError) {
            detected = try LaunchEnvironment.detect(environment)
            problem = nil
        } catch {
            detected = nil
            problem = error.message
        }
    }

    private var place: String {
        guard let claim = detected?.claim else {
            return "alone: no launcher has left its variables"
        }
        let why =
            "\(claim.launcher.rawValue): \(claim.rankVariable), \(claim.sizeVariable)"
        guard let launch = detected?.launch else { return "alone: a job of one (\(why))" }
        return
            "rank \(launch.rank) of \(launch.worldSize), \(launch.localRank) on this machine (\(why))"
    }

    var lines: [String] {
        var lines = ["launch"]
        if let problem { return lines + ["  ✗ \(problem)"] }
        lines.append("  ✓ \(place)")
        if let launch = detected?.launch, let address = launch.rendezvous {
            lines.append(
                "    rendezvous   \(address) (\(detected?.rendezvousReason ?? ""))")
        }
        lines.append("    job secret   \(secret)")
        return lines + (detected?.warnings ?? []).map { "  ! \($0)" }
    }

    var json: JSONValue {
        let launch = detected?.launch
        return .object([
            "launcher": detected?.claim.map { .string($0.launcher.rawValue) } ?? .null,
            "rank": launch.map { .integer(Int64($0.rank)) } ?? .null,
            "world_size": launch.map { .integer(Int64($0.worldSize)) } ?? .null,
            "local_rank": launch.map { .integer(Int64($0.localRank)) } ?? .null,
            "rendezvous": launch?.rendezvous.map { .string("\($0)") } ?? .null,
            "secret": .string(secret),
            "warnings": .array((detected?.warnings ?? []).map { .string($0) }),
            "problem": problem.map { .string($0) } ?? .null,
        ])
    }
}
