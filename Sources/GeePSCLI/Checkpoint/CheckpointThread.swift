import GeePS
import GeePSCheckpoint
import GeePSCore
import GeePSServer
import Safetensors
import Synchronization

/// Writes this process's files of a checkpoint while training goes on, and at rank 0 completes it.
final class CheckpointThread: @unchecked Sendable {
    // Sendable: `state` is a mutex, `tick` and `isUsable` the thread's own; the rest is constant after init.

    /// How far the checkpoint in hand has come here.
    struct Status: Sendable {
        /// Files this process has still to deal with.
        var missing: Int
        /// Whether one could not be written.
        var hasFailed = false
        /// Whether the checkpoint is complete: at rank 0 only.
        var isPublished = false
        /// By position in `fileNames`: what was written.
        var files: [Int: Manifest.File] = [:]
    }

    private enum Work: Sendable {
        case begin(tick: UInt64)
        case shard(keeper: Int, Result<ShardCapture, RowStoreError>)
        case worker(WorkerFile)
        case publish(Manifest)
        case abandon(tick: UInt64)
    }

    /// The tensors of this worker.
    struct WorkerFile: @unchecked Sendable {
        // Sendable: the sources hold values, and one thread at a time has them.
        var rank: Int
        var tensors: [TensorSource]
    }

    /// Names of all files of a checkpoint, in the order that `Status` counts.
    let fileNames: [String]
    private let keepers: Int
    private let ownFiles: Int
    private let writer: CheckpointWriter
    private let keep: Int
    private let log: @Sendable (String) -> Void
    private let mailbox: Mailbox<Work>
    private let state: Mutex<Status>
    private var thread: DedicatedThread?
    private var tick: UInt64 = 0

    init(
        _ settings: CheckpointSettings, keepers: Int, workers: Int, ownKeepers: Int,
        log: @escaping @Sendable (String) -> Void
    ) {
        fileNames =
            (0..<keepers).map(Manifest.fileName(ofKeeper:))
            + (0..<workers).map(Manifest.fileName(ofWorker:))
        self.keepers = keepers
        ownFiles = ownKeepers + 1
        writer = CheckpointWriter(directory: settings.directory)
        keep = settings.keep
        self.log = log
        state = Mutex(Status(missing: 0))
        mailbox = Mailbox(capacity: 16 + ownKeepers)
        thread = DedicatedThread(name: "checkpoint") { [self] in run() }
    }

    /// How far it is.
    var status: Status { state.withLock { $0 } }

    /// The next files belong to the checkpoint of `tick`.
    func begin(_ tick: UInt64) {
        state.withLock { $0 = Status(missing: ownFiles) }
        mailbox.send(.begin(tick: tick))
    }

    /// The copy of a keeper; from its thread.
    func take(keeper: Int, _ shard: Result<ShardCapture, RowStoreError>) {
        mailbox.send(.shard(keeper: keeper, shard))
    }

    /// What this worker adds.
    func take(_ file: WorkerFile) { mailbox.send(.worker(file)) }

    /// Completes the checkpoint; rank 0, when all have written.
    func publish(_ manifest: Manifest) { mailbox.send(.publish(manifest)) }

    /// Gives the checkpoint up; rank 0, when all have dealt with their files.
    func abandon(_ tick: UInt64) { mailbox.send(.abandon(tick: tick)) }

    /// Finishes what is in hand and ends the thread.
    func close() {
        mailbox.close()
        thread?.join()
        thread = nil
    }

    private func run() {
        while let work = mailbox.receive() {
            do throws(CheckpointError) {
                try perform(work)
            } catch {
                log("geeps: the checkpoint of step \(tick) is given up: \(error.message)\n")
                state.withLock { $0.hasFailed = true }
            }
        }
    }

    private func perform(_ work: Work) throws(CheckpointError) {
        switch work {
        case .begin(let tick):
            self.tick = tick
            try writer.begin(tick)
        case .shard(let keeper, let result):
            defer { state.withLock { $0.missing -= 1 } }
            guard !status.hasFailed else { return }
            switch result {
            case .success(let shard): note(try writer.write(shard), at: keeper)
            case .failure(let error): throw CheckpointError(.inputOutput, error.message)
            }
        case .worker(let file):
            defer { state.withLock { $0.missing -= 1 } }
            guard !status.hasFailed else { return }
            let written = try writer.write(
                fileNames[keepers + file.rank], of: tick, file.tensors,
                metadata: [
                    "format": "geeps-worker", "tick": "\(tick)", "worker": "\(file.rank)",
                ])
            note(written, at: keepers + file.rank)
        case .publish(let manifest):
            try writer.publish(manifest)
            state.withLock { $0.isPublished = true }
            prune()
        case .abandon(let tick): try? writer.abandon(tick)
        }
    }

    private func prune() {
        do throws(CheckpointError) {
            try writer.prune(keeping: keep)
        } catch {
            log("geeps: an old checkpoint stays: \(error.message)\n")
        }
    }

    private func note(_ file: Manifest.File, at index: Int) {
        state.withLock { $0.files[index] = file }
    }
}
