import GeePS
import GeePSCheckpoint
import GeePSCore
import GeePSNN
import GeePSServer
import Synchronization

/// Where a run goes on.
struct FoundCheckpoint: Sendable {
    /// The checkpoint.
    var path: String
    /// Clocks completed, counted with this job's workers and batches.
    var tick: UInt64
    /// What this worker had.
    var record: WorkerRecord
}

/// Finds the checkpoint that a run goes on from, when all ranks are there: rank 0 proposes, all verify a part.
final class ResumeSearch: @unchecked Sendable {
    // Sendable: constant after init but for `found`, a mutex; of the network only its shapes are read.
    private let settings: CheckpointSettings
    private let network: Network
    private let tables: [TableLayout]
    private let stateNames: [String]
    private let samplesPerClock: Int
    private let isLengthInEpochs: Bool
    private let log: @Sendable (String) -> Void
    private let found = Mutex<FoundCheckpoint?>(nil)

    /// What was found; nil before the search and where training starts from the beginning.
    var point: FoundCheckpoint? { found.withLock { $0 } }

    /// - Parameter samplesPerClock: of all workers together.
    init(
        _ settings: CheckpointSettings, job: Job, network: Network, samplesPerClock: Int,
        log: @escaping @Sendable (String) -> Void
    ) {
        self.settings = settings
        self.network = network
        self.samplesPerClock = samplesPerClock
        self.log = log
        tables = Trainer.tables(of: network)
        stateNames = Optimizer(job.optimizer).stateKinds.map(\.name)
        if case .epochs = job.length { isLengthInEpochs = true } else { isLengthInEpochs = false }
    }

    /// How long ranks wait for each other to have read their parts.
    private static let patience = Duration.seconds(3600)

    /// Comes to the same result on all ranks.
    func run(_ membership: Membership) throws(LaunchError) -> RestoredRows? {
        if membership.rank == 0 { try? CheckpointWriter(directory: settings.directory).clean() }
        var refused: Set<String> = []
        while true {
            let proposal = membership.rank == 0 ? self.proposal(without: refused) : ""
            let path = String(
                decoding: try membership.broadcast(
                    Array(proposal.utf8), label: "checkpoint to resume from",
                    deadline: .after(Self.patience)), as: UTF8.self)
            if path.isEmpty { return nil }
            if path.hasPrefix("!") { throw LaunchError(.disagreement, String(path.dropFirst())) }
            let (point, reader, failure) = read(path, membership)
            let sums = try membership.sum(
                [failure == nil ? 0 : 1, failure?.code == .mismatch ? 1 : 0],
                label: "checkpoint verified", deadline: .after(Self.patience))
            if let point, let reader, sums[0] == 0 {
                found.withLock { $0 = point }
                return RestoredRows(tick: point.tick) { (store) throws(RowStoreError) in
                    try reader.fill(store)
                }
            }
            try refuse(path, failure, isMismatch: sums[1] > 0, membership)
            refused.insert(path)
        }
    }

    /// At rank 0: the next path; empty when there is none, with "!" before the reason why the run cannot start.
    private func proposal(without refused: Set<String>) -> String {
        let ticks = CheckpointDirectory(settings.directory).ticks
        switch settings.resume {
        case .automatic:
            return ticks.reversed().map { CheckpointDirectory.path(settings.directory, $0) }
                .first { !refused.contains($0) } ?? ""
        case .never:
            guard let last = ticks.last else { return "" }
            return
                "!\(settings.directory) has checkpoints of an earlier run, up to step \(last): to start anew "
                + "remove them or choose another checkpoint.directory; --resume auto goes on"
        case .from(let path):
            return path
        }
    }

    private func read(_ path: String, _ membership: Membership) -> (
        FoundCheckpoint?, ShardReader?, CheckpointError?
    ) {
        do throws(CheckpointError) {
            let checkpoint = try Checkpoint(path: path)
            let manifest = checkpoint.manifest
            // Lengths and checksums first: what follows may then trust the files.
            try checkpoint.verify(part: membership.rank, of: membership.worldSize)
            let reader = try ShardReader(checkpoint)
            try reader.check(tables: tables, stateNames: stateNames)
            let record = try self.record(checkpoint, membership)
            let point = FoundCheckpoint(path: path, tick: try tick(of: manifest), record: record)
            return (point, reader, nil)
        } catch {
            return (nil, nil, error)
        }
    }

    /// As many samples in as the checkpoint, where the length is counted in samples; else as many clocks.
    private func tick(of manifest: Manifest) throws(CheckpointError) -> UInt64 {
        guard isLengthInEpochs, manifest.samplesPerClock > 0,
            manifest.samplesPerClock != samplesPerClock
        else { return manifest.tick }
        let (samples, isTooLarge) = manifest.tick.multipliedReportingOverflow(
            by: UInt64(manifest.samplesPerClock))
        guard !isTooLarge else {
            throw CheckpointError(
                .damaged,
                "the manifest speaks of \(manifest.tick) clocks of \(manifest.samplesPerClock) samples"
            )
        }
        return samples / UInt64(samplesPerClock)
    }

    /// This worker's own record; with another number of workers one of theirs, and rank 0 has all losses.
    private func record(_ checkpoint: Checkpoint, _ membership: Membership) throws(CheckpointError)
        -> WorkerRecord
    {
        let workers = checkpoint.manifest.workers
        var record = try WorkerRecord(
            checkpoint, worker: membership.rank % workers, network: network)
        guard workers != membership.worldSize else { return record }
        if membership.rank > 0 {
            record.losses = EpochLosses(epochCount: 0)
            return record
        }
        for worker in 1..<max(1, workers) {
            record.losses.add(
                try WorkerRecord(checkpoint, worker: worker, network: network).losses)
        }
        return record
    }

    private func refuse(
        _ path: String, _ failure: CheckpointError?, isMismatch: Bool, _ membership: Membership
    ) throws(LaunchError) {
        let message = failure?.message ?? "\(path) is not usable, as another rank says"
        let isLast = isMismatch || settings.resume != .automatic
        // What rank 0 says may be all that is heard of those that end with it.
        if let failure, !isLast || membership.rank > 0 {
            log("geeps: the checkpoint is not usable: \(failure.message)\n")
        }
        if isLast { throw LaunchError(.disagreement, "cannot resume: \(message)") }
        guard membership.rank == 0 else { return }
        let digits = path.split(separator: "-").last.map(String.init) ?? ""
        if let tick = UInt64(digits) {
            try? CheckpointWriter(directory: settings.directory).setAside(tick)
        }
    }
}
