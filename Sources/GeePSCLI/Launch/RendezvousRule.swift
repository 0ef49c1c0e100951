/// Where the processes of a launcher meet, when nobody says it.
enum RendezvousRule {
    /// The port of jobs that have nothing to tell them apart.
    static let defaultPort: UInt16 = 29500
    /// Ports that are made from a job's name go from here to 24,999: below those that the system gives to callers.
    private static let firstJobPort = 15000

    /// The address of rank 0 and where it is from; nil where one process needs none.
    ///
    /// - Throws: `CLIError` (usage) where nothing tells it, with what would.
    static func address(
        for claim: LaunchClaim, in environment: LaunchVariables
    ) throws(CLIError) -> (RendezvousAddress, reason: String)? {
        let name = LaunchEnvironment.rendezvous
        if let text = environment[name] {
            guard let address = RendezvousAddress(text) else {
                throw CLIError(
                    .usage,
                    "\(name) is '\(text)', expected host:port such as 10.0.0.7:29500 or [::1]:29500"
                )
            }
            return (address, name)
        }
        if claim.worldSize == 1 { return nil }
        guard claim.launcher != .geeps else { throw missing(claim) }
        if claim.launcher == .kubeflow { return try kubeflow(environment) }
        if let host = environment["MASTER_ADDR"] {
            let (port, reason) = try masterPort(of: claim, in: environment)
            return (RendezvousAddress(host: host, port: port), "MASTER_ADDR, \(reason)")
        }
        let (port, reason) = jobPort(of: claim, in: environment)
        if claim.isLocal {
            return (
                RendezvousAddress(host: "127.0.0.1", port: port), "all on this machine, \(reason)"
            )
        }
        guard claim.launcher != .torchrun, claim.launcher != .indexedJob,
            let host = environment.slurmHosts?.first
        else { throw missing(claim) }
        return (RendezvousAddress(host: host, port: port), "first host of the node list, \(reason)")
    }

    private static func kubeflow(
        _ environment: LaunchVariables
    ) throws(CLIError) -> (RendezvousAddress, reason: String) {
        guard let host = environment["PET_MASTER_ADDR"] else {
            throw CLIError(
                .usage, "PET_MASTER_ADDR is not set, but other variables of its launcher are")
        }
        let port = try port("PET_MASTER_PORT", in: environment) ?? defaultPort
        return (RendezvousAddress(host: host, port: port), "PET_MASTER_ADDR, PET_MASTER_PORT")
    }

    /// Under torchrun the port after MASTER_PORT, where torch's own store listens.
    private static func masterPort(
        of claim: LaunchClaim, in environment: LaunchVariables
    ) throws(CLIError) -> (UInt16, reason: String) {
        guard let port = try port("MASTER_PORT", in: environment) else {
            return jobPort(of: claim, in: environment)
        }
        guard claim.launcher == .torchrun else { return (port, "MASTER_PORT") }
        guard port < UInt16.max else {
            throw CLIError(
                .usage,
                "MASTER_PORT is \(port), which leaves no port after it; set GEEPS_RENDEZVOUS")
        }
        return (port + 1, "port after MASTER_PORT")
    }

    /// A port that the processes of one job come to alike and those of another on the same machine, mostly, do not.
    private static func jobPort(
        of claim: LaunchClaim, in environment: LaunchVariables
    ) -> (UInt16, reason: String) {
        let names: [String] =
            switch claim.launcher {
            case .openMPI: ["PMIX_NAMESPACE"]
            case .pmi: ["PMI_JOBID", "SLURM_JOB_ID"]
            case .slurm: ["SLURM_JOB_ID"]
            default: []
            }
        for name in names {
            guard let text = environment[name] else { continue }
            let sum = text.utf8.enumerated().reduce(0) { $0 + ($1.offset + 1) * Int($1.element) }
            // Of a number its last digits, so that jobs that follow each other never meet.
            let offset = UInt64(text).map { Int($0 % 10000) } ?? sum % 10000
            return (UInt16(firstJobPort + offset), "port by \(name)")
        }
        return (defaultPort, "port \(defaultPort)")
    }

    private static func port(
        _ name: String, in environment: LaunchVariables
    ) throws(CLIError) -> UInt16? {
        guard let text = environment[name] else { return nil }
        guard let port = UInt16(text), port > 0 else {
            throw CLIError(.usage, "\(name) is '\(text)', expected a port from 1 to 65535")
        }
        return port
    }

    private static func missing(_ claim: LaunchClaim) -> CLIError {
        let how =
            claim.launcher == .openMPI
            ? "; hand it on by mpirun -x \(LaunchEnvironment.rendezvous)=host:port" : ""
        return CLIError(
            .usage,
            "\(LaunchEnvironment.rendezvous) is not set but \(claim.sizeVariable) is \(claim.worldSize): it says "
                + "where rank 0 listens, such as 10.0.0.7:29500\(how)")
    }
}
