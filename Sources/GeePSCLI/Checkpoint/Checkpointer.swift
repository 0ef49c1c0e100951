import GeePS
import GeePSCheckpoint
import GeePSCore
import GeePSNN
import Glibc

/// Makes checkpoints while a rank trains, and stops the run at one when a signal asks for it.
///
/// All ranks decide alike, because they decide by the same sums: every now and then each adds what it knows to a
/// round (`Rounds`), whose result all look at after the same clock. The keepers then copy what they have as soon
/// as the chosen tick is applied, block by block, and threads write the copies. Nobody waits for a disk.
final class Checkpointer {
    private enum Phase: Equatable {
        case idle
        /// Files of this tick are being written.
        case writing(UInt64)
        /// All are; rank 0 completes it.
        case publishing(UInt64)
    }

    /// Positions in a round's values; two for each file follow, its bytes and its checksum.
    private enum Slot {
        static let stop = 0
        static let due = 1
        static let written = 2
        static let failed = 3
        static let published = 4
        static let clockNanoseconds = 5
        static let files = 6
    }

    private let settings: CheckpointSettings
    private let node: Node
    private let network: Network
    private let launch: Launch
    /// All but tick and files of the manifests.
    private let template: Manifest
    private let lastTick: UInt64
    /// Clocks between a round's begin and the look at its result: as many as others may be behind.
    private let roundClocks: UInt64
    private let isAsynchronous: Bool
    private let signals: StopSignals
    private let log: @Sendable (String) -> Void
    private let rounds: Rounds
    private let thread: CheckpointThread

    private var phase = Phase.idle
    private var cutTick: UInt64?
    private var stopTick: UInt64?
    private var isStopping = false
    private var isDue = false
    /// The tick at which the round under way was begun.
    private var roundTick: UInt64?
    private var nextRoundTick: UInt64
    private var lastCut = monotonicNanoseconds()
    private var previousRound: (tick: UInt64, nanoseconds: UInt64)
    /// The newest checkpoint of this run that is complete.
    private(set) var completeTick: UInt64?

    /// - Parameters:
    ///   - template: of the manifests.
    ///   - firstTick: where training begins.
    ///   - lastTick: where it ends.
    init(
        _ settings: CheckpointSettings, node: Node, network: Network, launch: Launch,
        staleness: Staleness, template: Manifest, firstTick: UInt64, lastTick: UInt64,
        signals: StopSignals, log: @escaping @Sendable (String) -> Void
    ) {
        self.settings = settings
        self.node = node
        self.network = network
        self.launch = launch
        self.template = template
        self.lastTick = lastTick
        self.signals = signals
        self.log = log
        isAsynchronous = staleness == .unbounded
        if case .clocks(let lag) = staleness { roundClocks = 1 + lag } else { roundClocks = 0 }
        rounds = Rounds(node.membership)
        thread = CheckpointThread(
            settings, keepers: template.keepers, workers: launch.worldSize,
            ownKeepers: node.ownKeepers.count, log: log)
        nextRoundTick = firstTick
        previousRound = (firstTick, monotonicNanoseconds())
    }

    /// After a step, when this worker is at `tick`: `record` makes what it adds to a checkpoint.
    ///
    /// - Throws: `StoppedEarly` when the run ends here, with all others; what keeps the ranks from agreeing.
    func afterStep(_ tick: UInt64, record: () throws -> WorkerRecord) throws {
        if tick == cutTick {
            thread.take(
                CheckpointThread.WorkerFile(
                    rank: launch.rank, tensors: try record().tensors(of: network)))
            cutTick = nil
            if isAsynchronous { try waitForCopies() }
        }
        if tick == stopTick {
            try finish()
            throw StoppedEarly(tick: completeTick == tick ? tick : nil)
        }
        if tick < lastTick { try decide(tick) }
    }

    /// Waits for the checkpoint in hand, if there is one.
    func finish() throws {
        if roundTick != nil { try endRound() }
        while phase != .idle {
            rounds.begin(contribution(at: previousRound.tick))
            take(try rounds.finish())
            if phase != .idle { usleep(2000) }
        }
    }

    /// Ends the threads; after the membership is left, or when all is finished.
    func close() {
        rounds.close()
        thread.close()
    }

    // MARK: Deciding

    private func decide(_ tick: UInt64) throws {
        if roundTick == nil, tick >= nextRoundTick { beginRound(tick) }
        if let roundTick, tick >= roundTick + roundClocks { try endRound() }
        let next = tick + 1
        guard phase == .idle, next < lastTick else { return }
        var isWanted = isStopping || isDue
        if case .clocks(let count) = settings.every, next % count == 0 { isWanted = true }
        if isWanted { cut(at: next) }
    }

    private func cut(at tick: UInt64) {
        phase = .writing(tick)
        cutTick = tick
        lastCut = monotonicNanoseconds()
        isDue = false
        if isStopping { stopTick = tick }
        thread.begin(tick)
        node.cut(at: tick) { [thread] in thread.take(keeper: $0, $1) }
    }

    /// On arrival updates are applied at once: whoever went on would be in the copies of the others.
    private func waitForCopies() throws {
        // This worker's file is counted too, so it is waited for: there are no clocks to overlap with.
        while thread.status.missing > 0 {
            if let failure = node.membership.failure { throw CLIError(.unavailable, "\(failure)") }
            usleep(1000)
        }
        if roundTick != nil { try endRound() }
        try finishRound(of: contribution(at: previousRound.tick))
    }

    // MARK: Rounds

    private func beginRound(_ tick: UInt64) {
        roundTick = tick
        rounds.begin(contribution(at: tick))
    }

    private func endRound() throws {
        guard let tick = roundTick else { return }
        let sum = try rounds.finish()
        roundTick = nil
        // All ranks see the same sum, so all space their rounds alike.
        let mean = max(1, sum[Slot.clockNanoseconds] / Double(launch.worldSize))
        let wanted: Double = isAsynchronous ? 2e9 : 5e7
        nextRoundTick = tick + UInt64(min(max(1, wanted / mean), 100_000))
        previousRound = (tick, monotonicNanoseconds())
        take(sum)
    }

    private func finishRound(of values: [Double]) throws {
        rounds.begin(values)
        take(try rounds.finish())
    }

    private func contribution(at tick: UInt64) -> [Double] {
        var values = [Double](repeating: 0, count: Slot.files + 2 * thread.fileNames.count)
        let now = monotonicNanoseconds()
        values[Slot.stop] = signals.signal == nil ? 0 : 1
        if launch.rank == 0, case .time(let interval) = settings.every {
            values[Slot.due] = now - lastCut >= interval.nanosecondCount ? 1 : 0
        }
        let clocks = max(1, tick - min(tick, previousRound.tick))
        values[Slot.clockNanoseconds] = Double(now - previousRound.nanoseconds) / Double(clocks)
        guard phase != .idle else { return values }
        let status = thread.status
        values[Slot.published] = status.isPublished ? 1 : 0
        guard status.missing == 0 else { return values }
        values[status.hasFailed ? Slot.failed : Slot.written] = 1
        for (index, file) in status.files {
            values[Slot.files + 2 * index] = Double(file.bytes)
            values[Slot.files + 2 * index + 1] = Double(file.checksum)
        }
        return values
    }

    private func take(_ sum: [Double]) {
        if sum[Slot.stop] > 0 { isStopping = true }
        if sum[Slot.due] > 0 { isDue = true }
        let (written, failed) = (Int(sum[Slot.written]), Int(sum[Slot.failed]))
        switch phase {
        case .idle: break
        case .writing(let tick):
            guard written + failed == launch.worldSize else { return }
            guard failed == 0 else { return giveUp(tick) }
            phase = .publishing(tick)
            if launch.rank == 0 { thread.publish(manifest(tick, sum)) }
        case .publishing(let tick):
            if sum[Slot.published] > 0 {
                phase = .idle
                completeTick = tick
            } else if failed > 0 {
                giveUp(tick)
            }
        }
    }

    /// The one before stays; the next is made when its time comes.
    private func giveUp(_ tick: UInt64) {
        phase = .idle
        guard launch.rank == 0 else { return }
        thread.abandon(tick)
        let before = completeTick.map { "the checkpoint of step \($0) stays" }
        log(
            "geeps: there is no checkpoint of step \(tick); training goes on"
                + "\(before.map { ", " + $0 } ?? "")\n")
    }

    private func manifest(_ tick: UInt64, _ sum: [Double]) -> Manifest {
        var manifest = template
        manifest.tick = tick
        manifest.files = thread.fileNames.enumerated().map { index, name in
            Manifest.File(
                name: name, bytes: UInt64(sum[Slot.files + 2 * index]),
                checksum: UInt32(sum[Slot.files + 2 * index + 1]))
        }
        return manifest
    }
}

extension Duration {
    /// Whole nanoseconds.
    fileprivate var nanosecondCount: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(max(0, seconds)) * 1_000_000_000 + UInt64(max(0, attoseconds / 1_000_000_000))
    }
}
