public import GeePSCore
internal import GeePSServer

/// Where a process of a running job stands: what it says to who asks why the job waits.
public struct ProcessStatus: Hashable, Sendable {
    /// A process of the job, as it is known at the join.
    public struct Peer: Hashable, Sendable {
        /// The name of its machine.
        public var host: String
        /// Its process id there.
        public var pid: UInt32

        /// A process.
        public init(host: String, pid: UInt32) {
            self.host = host
            self.pid = pid
        }
    }

    /// Who answers.
    public var rank: Int
    /// By rank: all processes of the job.
    public var peers: [Peer]
    /// Ranks below this work; the others only keep.
    public var workerCount: Int
    /// By keeper: the rank whose process it is in.
    public var ownerOfKeeper: [Int]
    /// Names of the tables.
    public var tables: [String]
    /// Its worker; nil where it only keeps.
    public var worker: WorkerStanding?
    /// Its keepers.
    public var keepers: [KeeperStanding]

    /// A status.
    public init(
        rank: Int, peers: [Peer], workerCount: Int, ownerOfKeeper: [Int], tables: [String],
        worker: WorkerStanding?, keepers: [KeeperStanding]
    ) {
        self.rank = rank
        self.peers = peers
        self.workerCount = workerCount
        self.ownerOfKeeper = ownerOfKeeper
        self.tables = tables
        self.worker = worker
        self.keepers = keepers
    }
}

extension Node {
    /// Where this process stands now; from any thread, it makes none of the others wait.
    public func status() -> ProcessStatus {
        StatusSource(
            configuration: configuration, processes: membership.processes, worker: worker,
            server: server
        ).status()
    }

    /// What this process's keepers have found out about waits for their rows.
    public var waitShares: WaitShares { server.waitShares }
}
