internal import GeePSCore

/// When the updates of the last ticks came to a keeper's thread, from whom, and what that says about a wait.
///
/// Touched by that thread only. Times are microseconds of this process in 32 bits that wrap around: only
/// differences count, and none is an hour long.
struct ArrivalTimes {
    /// Ticks that are remembered of each block at most; a notice of an older one is not told apart.
    static let depthMaximum = 8

    /// One tick of a block.
    private struct Tick {
        var number: UInt64 = 0
        // Whose update came last, when, and when the one before it did.
        var last = -1
        var lastArrival: UInt32 = 0
        var secondArrival: UInt32 = 0
        var published: UInt32 = 0
        var isPublished = false
    }

    private let workerCount: Int
    private let depth: Int
    private let isLockStep: Bool
    private var ticks: [Tick]
    // By tick and worker.
    private var arrivals: [UInt32]
    private var busy: [UInt32]

    /// Remembers nothing yet.
    init(blockCount: Int, workerCount: Int, policy: ApplyPolicy) {
        self.workerCount = workerCount
        switch policy {
        case .aggregated(let lag):
            depth = 2 + Int(min(lag, UInt64(Self.depthMaximum - 2)))
            isLockStep = lag == 0
        case .onArrival:
            // Nobody waits for anybody.
            depth = 0
            isLockStep = false
        }
        ticks = Array(repeating: Tick(), count: blockCount * depth)
        arrivals = Array(repeating: 0, count: ticks.count * workerCount)
        busy = arrivals
    }

    /// The update of `worker` came at `nanoseconds`; it had been busy for that long since its last.
    mutating func note(
        block: Int, worker: Int, tick: UInt64, at nanoseconds: UInt64, busyMicroseconds: UInt32
    ) {
        guard depth > 0 else { return }
        let slot = slot(block, tick)
        let now = microseconds(nanoseconds)
        if ticks[slot].number != tick {
            ticks[slot] = Tick(number: tick)
        }
        arrivals[slot * workerCount + worker] = now
        busy[slot * workerCount + worker] = busyMicroseconds
        if ticks[slot].last < 0 {
            ticks[slot].secondArrival = now
        } else if Int32(bitPattern: now &- ticks[slot].lastArrival) < 0 {
            // Handed over by another reader a little later than it came.
            return
        } else {
            ticks[slot].secondArrival = ticks[slot].lastArrival
        }
        ticks[slot].last = worker
        ticks[slot].lastArrival = now
    }

    /// All updates of `tick` are applied.
    mutating func notePublished(block: Int, tick: UInt64, at nanoseconds: UInt64) {
        guard depth > 0 else { return }
        let slot = slot(block, tick)
        guard ticks[slot].number == tick else { return }
        ticks[slot].published = microseconds(nanoseconds)
        ticks[slot].isPublished = true
    }

    /// What the wait of `worker` for `tick` of `block` was for; nil where that is not remembered.
    func split(block: Int, worker: Int, tick: UInt64, _ notice: WaitNotice) -> WaitSplit? {
        guard depth > 0 else { return nil }
        let slot = slot(block, tick)
        let times = ticks[slot]
        guard times.number == tick, times.isPublished, times.last >= 0 else { return nil }
        let own = arrivals[slot * workerCount + worker]
        let late =
            Int(busy[slot * workerCount + times.last])
            - Int(busy[slot * workerCount + worker])
        return WaitSplit(
            wait: notice.waitMicroseconds, roundTrip: notice.roundTripMicroseconds,
            atKeeper: span(from: own, to: times.published),
            update: span(from: times.lastArrival, to: times.published),
            lateness: span(from: own, to: times.lastArrival),
            lastAlone: min(
                span(from: own, to: times.lastArrival),
                span(from: times.secondArrival, to: times.lastArrival)),
            busyLonger: UInt32(clamping: late), last: times.last, isLockStep: isLockStep)
    }

    private func slot(_ block: Int, _ tick: UInt64) -> Int {
        block * depth + Int(tick % UInt64(depth))
    }

    private func microseconds(_ nanoseconds: UInt64) -> UInt32 {
        UInt32(truncatingIfNeeded: nanoseconds / 1000)
    }

    /// Zero where `end` is not after `start`.
    private func span(from start: UInt32, to end: UInt32) -> UInt32 {
        UInt32(max(0, Int32(bitPattern: end &- start)))
    }
}

/// What a wait for rows was for, in microseconds; what is left is the network's, both ways.
///
/// A wait ends with the rows, so it is laid out from its end: the way of the rows, the update, the time in which
/// the last worker's push was not there, the way of the own push. Which part of a lateness is the late worker's
/// and not its link's, workers tell: it was busy for longer than the one that waited.
struct WaitSplit: Hashable {
    /// The keeper added up and stepped.
    var update: UInt32
    /// `last` computed for longer.
    var worker: UInt32
    /// What of `worker` would be gone without `last`: until the one before it came.
    var recoverable: UInt32
    /// Whose push came last.
    var last: Int

    /// - Parameters:
    ///   - roundTrip: at the worker, from its push to the rows.
    ///   - atKeeper: of that, at the keeper, until it published.
    ///   - update: of that, since the last push was there.
    ///   - lateness: of that, from its own push to the last one.
    ///   - lastAlone: of that, when only the last one was missing.
    ///   - busyLonger: how much longer the last worker was busy.
    init(
        wait: UInt32, roundTrip: UInt32, atKeeper: UInt32, update: UInt32, lateness: UInt32,
        lastAlone: UInt32, busyLonger: UInt32, last: Int, isLockStep: Bool
    ) {
        let oneWay = (roundTrip - min(roundTrip, atKeeper)) / 2
        var left = wait - min(wait, oneWay)
        self.update = min(left, update)
        left -= self.update
        let inLateness = min(left, lateness)
        let theirs = min(busyLonger, lateness)
        if isLockStep {
            // Which part of it the application did not wait for is not known: the same share of both.
            worker =
                lateness == 0 ? 0 : UInt32(UInt64(inLateness) * UInt64(theirs) / UInt64(lateness))
        } else {
            // Most of the lateness is the lead that the staleness allows.
            worker = min(inLateness, theirs)
        }
        recoverable = min(worker, lastAlone)
        self.last = last
    }
}
