import GeePS
import GeePSCore

/// Who waits for whom in a running job, put together from what its processes say.
///
/// A pure function of the answers and of what the system says of the processes that gave none.
struct WaitGraph: Hashable, Sendable {
    /// Why the rows of a keeper are not there.
    enum Cause: Hashable, Sendable {
        /// Updates of these workers are missing, with their last tick; and how many there are in all.
        case lacks([KeeperStanding.Missing], count: Int)
        /// It has all updates and adds up or steps.
        case updates
        /// It has the rows; they, or the news of them, are on their way.
        case onTheirWay
        /// It has no initial values yet.
        case start
        /// Its process has not answered.
        case silent
    }

    /// What a worker waits for from one keeper.
    struct Edge: Hashable, Sendable {
        var keeper: Int
        /// The process that it is in.
        var rank: Int
        var rows: Range<Int>
        /// The age of the rows that the worker has.
        var age: UInt64?
        var cause: Cause
    }

    /// A process of the job.
    struct Process: Hashable, Sendable {
        var rank: Int
        var host: String
        var pid: UInt32
        /// "it is stopped"; nil where it answered.
        var silence: String?
        var standing: WorkerStanding?
        /// What its worker's read waits for.
        var edges: [Edge] = []
    }

    var processes: [Process]
    var workerCount: Int
    var tables: [String]
    /// By keeper.
    var owners: [Int]
    /// By keeper; nil where its process has not answered.
    var keepers: [KeeperStanding?]

    /// - Parameter silence: what the system says of a process that did not answer.
    /// - Returns: nil where nobody has answered.
    init?(
        _ statuses: [ProcessStatus], silence: (ProcessStatus.Peer, _ rank: Int) -> String
    ) {
        guard let first = statuses.first else { return nil }
        // Answers of another job that had this directory before do not fit together.
        let statuses = statuses.filter {
            $0.peers == first.peers && $0.tables == first.tables
                && $0.ownerOfKeeper == first.ownerOfKeeper
        }
        let byRank = Dictionary(statuses.map { ($0.rank, $0) }) { $1 }
        workerCount = first.workerCount
        tables = first.tables
        owners = first.ownerOfKeeper
        keepers = Array(repeating: nil, count: owners.count)
        processes = first.peers.enumerated().map { rank, peer in
            Process(
                rank: rank, host: peer.host, pid: peer.pid,
                silence: byRank[rank] == nil ? silence(peer, rank) : nil,
                standing: byRank[rank]?.worker)
        }
        for status in statuses {
            for keeper in status.keepers where keepers.indices.contains(keeper.keeper) {
                keepers[keeper.keeper] = keeper
            }
        }
        for rank in processes.indices { processes[rank].edges = edges(of: processes[rank]) }
    }

    private func edges(of process: Process) -> [Edge] {
        guard let standing = process.standing, let table = standing.table else { return [] }
        return standing.lacking.map { lack in
            Edge(
                keeper: lack.keeper, rank: owners[lack.keeper], rows: lack.rows, age: lack.age,
                cause: cause(lack, table: table, needed: standing.neededAge))
        }
    }

    private func cause(
        _ lack: WorkerStanding.Lack, table: TableIndex, needed: UInt64
    ) -> Cause {
        guard let keeper = keepers[lack.keeper] else { return .silent }
        guard let oldest = keeper.tables.first(where: { $0.table == table }) else {
            return .onTheirWay
        }
        guard let age = oldest.age else { return .start }
        guard age < needed || needed == 0 && lack.age != nil else { return .onTheirWay }
        return oldest.missing.isEmpty
            ? .updates : .lacks(oldest.missing, count: oldest.missingCount)
    }

    /// Workers that others wait for and that wait for nobody themselves, or do not answer: where to look first.
    ///
    /// Each with those who wait for it, directly or through others; most first.
    var culprits: [(rank: Int, waiting: [Int])] {
        var waiting: [Int: Set<Int>] = [:]
        for process in processes where !process.edges.isEmpty {
            for root in roots(of: process.rank) where root != process.rank {
                waiting[root, default: []].insert(process.rank)
            }
        }
        return waiting.keys.sorted()
            .map { (rank: $0, waiting: waiting[$0, default: []].sorted()) }
            .sorted { ($1.waiting.count, $0.rank) < ($0.waiting.count, $1.rank) }
    }

    /// The ranks that a rank's waits lead to in the end.
    private func roots(of rank: Int) -> Set<Int> {
        var roots: Set<Int> = []
        var seen: Set<Int> = [rank]
        var stack = [rank]
        while let next = stack.popLast() {
            let blockers = blockers(of: next)
            if blockers.isEmpty { roots.insert(next) }
            for blocker in blockers where seen.insert(blocker).inserted { stack.append(blocker) }
        }
        return roots
    }

    /// The ranks that a rank waits for now.
    private func blockers(of rank: Int) -> [Int] {
        processes[rank].edges.flatMap { edge -> [Int] in
            switch edge.cause {
            case .lacks(let missing, _):
                missing.map(\.worker).filter { processes.indices.contains($0) }
            case .silent, .updates: [edge.rank]
            case .start: [0]
            case .onTheirWay: []
            }
        }
    }
}
