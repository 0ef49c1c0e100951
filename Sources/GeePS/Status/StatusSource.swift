internal import GeePSClient
internal import GeePSCore
internal import GeePSServer
internal import Glibc

/// What a process's status is made of.
struct StatusSource: Sendable {
    let configuration: NodeConfiguration
    let processes: [ProcessDescription]
    let worker: Client?
    let server: Server

    func status() -> ProcessStatus {
        ProcessStatus(
            rank: configuration.rank,
            peers: processes.map { ProcessStatus.Peer(host: $0.host, pid: $0.pid) },
            workerCount: configuration.workers,
            ownerOfKeeper: (0..<configuration.keeperCount).map {
                configuration.owner(ofKeeper: $0)
            },
            tables: configuration.tables.map(\.name), worker: worker?.standing(),
            keepers: server.standings())
    }

    /// Answers in the directory of the configuration, or of the environment.
    ///
    /// A job is worth more than its status: where that does not work, it says so and goes on.
    ///
    /// - Returns: nil where no directory is given, or it cannot be listened in.
    func serve(for membership: Membership) -> StatusSocket? {
        let given = getenv(StatusQuery.variable).map { String(cString: $0) }
        guard let directory = configuration.statusDirectory ?? given, !directory.isEmpty else {
            return nil
        }
        do throws(LaunchError) {
            return try StatusSocket(directory: directory, rank: configuration.rank) {
                [weak membership] question in
                let own = status().encoded()
                guard question == .all, let membership else { return [own] }
                // A rank that is stopped must not take longer than who asks will wait.
                return [own] + membership.statuses(until: .after(.seconds(1)))
            }
        } catch {
            configuration.control.log("geeps why will not find this process: \(error.message)")
            return nil
        }
    }
}
