internal import GeePSCore
import Synchronization

// What others ask a lane, and what it tells its keeper of waits.
extension Lane {
    /// Tells the keeper of a wait for rows of this lane.
    ///
    /// Behind nothing but the frame that is being sent; before the block's next push, so that the keeper still knows
    /// when the pushes of `tick` came.
    func tell(ofWaitFor block: Block, tick: UInt64, _ times: WaitNotice) {
        let local = (block.indexInKeeper - laneIndex) / laneCount
        signal.withLock {
            state.notices.append(Notice(block: local, tick: tick, times: times))
            signal.wakeAll()
        }
    }

    /// The push that is being sent, if one is; no lock is taken.
    func sending(now: UInt64) -> WorkerStanding.Sending? {
        let since = sendingSince.load(ordering: .relaxed)
        let local = sendingBlock.load(ordering: .relaxed)
        guard since > 0, blocks.indices.contains(local) else { return nil }
        return WorkerStanding.Sending(
            keeper: keeper, table: blocks[local].table, rows: blocks[local].rows,
            tick: sendingTick.load(ordering: .relaxed), nanoseconds: now - min(now, since))
    }

    /// Whether a block of the keeper is this lane's.
    func carries(_ block: Block) -> Bool {
        block.keeper == keeper && block.indexInKeeper % laneCount == laneIndex
    }

    /// Whether frames leave the process.
    var isOutside: Bool { first.carrier != .inProcess }
    var bytesSent: UInt64 {
        signal.withLock { state.bytesSentBefore + state.connection.bytesSent }
    }
    var bytesReceived: UInt64 {
        signal.withLock { state.bytesReceivedBefore + state.connection.bytesReceived }
    }
    var peer: String { signal.withLock { state.connection }.peer }
    var repairs: RepairCounters { signal.withLock { state.repairs } }
}
