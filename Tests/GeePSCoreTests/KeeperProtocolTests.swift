import GeePSCore
import Testing

@Suite struct KeeperProtocolTests {
    private func initialised(
        workers: Int, blocks: Int = 1, policy: ApplyPolicy = .aggregated(staleness: 0)
    ) -> KeeperProtocol {
        var keeper = KeeperProtocol(workerCount: workers, blockCount: blocks, policy: policy)
        for block in 0..<blocks { #expect(keeper.initialise(block: block) == true) }
        return keeper
    }

    /// Offers a push and collects what the keeper does: ranks added, and ticks applied.
    private func drive(
        _ keeper: inout KeeperProtocol, worker: Int, tick: UInt64, folds: inout [Int],
        applied: inout [UInt64]
    ) {
        if keeper.offer(worker: worker, block: 0, tick: tick) == .fold { folds.append(worker) }
        while let step = keeper.next(block: 0) {
            switch step {
            case .foldHeld(let worker, _): folds.append(worker)
            case .apply(let tick): applied.append(tick)
            case .applyAlone(_, let tick, _): applied.append(tick)
            }
        }
    }

    @Test(arguments: [
        (Staleness.clocks(0), ApplyPolicy.aggregated(staleness: 0)),
        (.clocks(3), .aggregated(staleness: 3)), (.unbounded, .onArrival),
    ])
    func policyServesTheStaleness(_ staleness: Staleness, _ policy: ApplyPolicy) {
        #expect(ApplyPolicy(staleness) == policy)
    }

    @Test func onlyTheFirstInitialValuesCount() {
        var keeper = KeeperProtocol(
            workerCount: 2, blockCount: 2, policy: .aggregated(staleness: 0))
        #expect(keeper.age(block: 1) == nil)
        #expect(keeper.initialise(block: 1) == true)
        #expect(keeper.initialise(block: 1) == false)
        #expect(keeper.age(block: 1) == 0)
        #expect(keeper.age(block: 0) == nil)
        #expect(keeper.initialise(block: 2) == false)
        #expect(keeper.initialise(block: -1) == false)
    }

    @Test func pushWaitsForInitialValues() {
        var keeper = KeeperProtocol(
            workerCount: 1, blockCount: 1, policy: .aggregated(staleness: 0))
        #expect(keeper.offer(worker: 0, block: 0, tick: 1) == .refused(.notInitialised))
        #expect(keeper.next(block: 0) == nil)
        #expect(keeper.missing(block: 0).isEmpty)
        #expect(keeper.initialise(block: 0) == true)
        #expect(keeper.offer(worker: 0, block: 0, tick: 1) == .fold)
    }

    @Test(arguments: [(-1, 0), (2, 0), (0, -1), (0, 3)])
    func unknownWorkerOrBlockIsRefused(_ worker: Int, _ block: Int) {
        var keeper = initialised(workers: 2, blocks: 3)
        #expect(keeper.offer(worker: worker, block: block, tick: 1) == .refused(.unknownBlock))
    }

    @Test func lastWorkerAndLastBlockAreKnown() {
        var keeper = initialised(workers: 2, blocks: 3)
        #expect(keeper.offer(worker: 1, block: 2, tick: 1) == .hold)
        #expect(keeper.received(block: 2, from: 1) == 1)
        #expect(keeper.received(block: 1, from: 1) == 0)
    }

    /// All orders in which three workers can come.
    static let arrivals = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]

    @Test(arguments: arrivals)
    func contributionsAreAddedInRankOrder(_ arrival: [Int]) {
        var keeper = initialised(workers: 3)
        var folds: [Int] = []
        var applied: [UInt64] = []
        for tick in UInt64(1)...2 {
            for (count, worker) in arrival.enumerated() {
                #expect(applied.count == Int(tick) - 1, "applied before worker \(count)")
                drive(&keeper, worker: worker, tick: tick, folds: &folds, applied: &applied)
            }
        }
        #expect(folds == [0, 1, 2, 0, 1, 2])
        #expect(applied == [1, 2])
        #expect(keeper.age(block: 0) == 2)
        #expect(keeper.foldedCount(block: 0) == 0)
    }

    @Test(arguments: arrivals)
    func fastWorkersAreHeldUntilTheSlowestComes(_ arrival: [Int]) {
        var keeper = initialised(workers: 3, policy: .aggregated(staleness: 1))
        var folds: [Int] = []
        var applied: [UInt64] = []
        for worker in arrival {
            for tick in UInt64(1)...2 {
                drive(&keeper, worker: worker, tick: tick, folds: &folds, applied: &applied)
            }
        }
        #expect(folds == [0, 1, 2, 0, 1, 2])
        #expect(applied == [1, 2])
    }

    @Test func stepsOfHeldPushesNameWorkerAndTick() {
        var keeper = initialised(workers: 2, policy: .aggregated(staleness: 1))
        #expect(keeper.offer(worker: 1, block: 0, tick: 1) == .hold)
        #expect(keeper.offer(worker: 1, block: 0, tick: 2) == .hold)
        #expect(keeper.next(block: 0) == nil)
        #expect(keeper.missing(block: 0) == [0])
        #expect(keeper.offer(worker: 0, block: 0, tick: 1) == .fold)
        #expect(keeper.foldedCount(block: 0) == 1)
        #expect(keeper.next(block: 0) == .foldHeld(worker: 1, tick: 1))
        #expect(keeper.next(block: 0) == .apply(tick: 1))
        #expect(keeper.next(block: 0) == nil)
        #expect(keeper.missing(block: 0) == [0])
        #expect(keeper.age(block: 0) == 1)
    }

    @Test(arguments: UInt64(0)...3)
    func workerMayBeStalenessTicksAheadAndNoMore(_ staleness: UInt64) {
        var keeper = initialised(workers: 2, policy: .aggregated(staleness: staleness))
        for tick in 1...(staleness + 1) {
            #expect(keeper.offer(worker: 1, block: 0, tick: tick) == .hold)
        }
        #expect(
            keeper.offer(worker: 1, block: 0, tick: staleness + 2)
                == .refused(.tooFarAhead(limit: staleness + 1)))
        #expect(keeper.received(block: 0, from: 1) == staleness + 1)
        #expect(keeper.offer(worker: 0, block: 0, tick: 1) == .fold)
        while keeper.next(block: 0) != nil {}
        #expect(keeper.offer(worker: 1, block: 0, tick: staleness + 2) == .hold)
    }

    @Test(arguments: [ApplyPolicy.aggregated(staleness: 3), .onArrival])
    func ticksComeWithoutGaps(_ policy: ApplyPolicy) {
        var keeper = initialised(workers: 2, policy: policy)
        #expect(keeper.offer(worker: 0, block: 0, tick: 2) == .refused(.gap(expected: 1)))
        #expect(keeper.offer(worker: 0, block: 0, tick: 1) == .fold)
        while keeper.next(block: 0) != nil {}
        #expect(keeper.offer(worker: 0, block: 0, tick: 3) == .refused(.gap(expected: 2)))
        #expect(keeper.offer(worker: 0, block: 0, tick: .max) == .refused(.gap(expected: 2)))
    }

    @Test(arguments: [ApplyPolicy.aggregated(staleness: 1), .onArrival])
    func replayIsADuplicateUpToTheLastTick(_ policy: ApplyPolicy) {
        var keeper = initialised(workers: 1, policy: policy)
        for tick in UInt64(1)...3 {
            #expect(keeper.offer(worker: 0, block: 0, tick: tick) == .fold)
            while keeper.next(block: 0) != nil {}
        }
        for tick in UInt64(0)...3 {
            #expect(keeper.offer(worker: 0, block: 0, tick: tick) == .duplicate)
            #expect(keeper.next(block: 0) == nil)
        }
        #expect(keeper.offer(worker: 0, block: 0, tick: 4) == .fold)
    }

    @Test func replayOfAHeldPushIsADuplicate() {
        var keeper = initialised(workers: 2)
        #expect(keeper.offer(worker: 1, block: 0, tick: 1) == .hold)
        #expect(keeper.offer(worker: 1, block: 0, tick: 1) == .duplicate)
        #expect(keeper.offer(worker: 0, block: 0, tick: 1) == .fold)
        #expect(keeper.next(block: 0) == .foldHeld(worker: 1, tick: 1))
        #expect(keeper.next(block: 0) == .apply(tick: 1))
    }

    @Test func onArrivalEveryUpdateIsAppliedAlone() {
        var keeper = initialised(workers: 2, blocks: 2, policy: .onArrival)
        for tick in UInt64(1)...5 {
            #expect(keeper.offer(worker: 1, block: 1, tick: tick) == .fold)
            #expect(keeper.next(block: 0) == nil)
            #expect(keeper.next(block: 1) == .applyAlone(worker: 1, tick: tick, raisesAge: false))
            #expect(keeper.next(block: 1) == nil)
        }
        #expect(keeper.age(block: 1) == 0)
        #expect(keeper.missing(block: 1) == [0])
        #expect(keeper.offer(worker: 0, block: 1, tick: 1) == .fold)
        #expect(keeper.next(block: 1) == .applyAlone(worker: 0, tick: 1, raisesAge: true))
        #expect(keeper.age(block: 1) == 1)
        #expect(keeper.received(block: 1, from: 1) == 5)
    }

    @Test(arguments: [ApplyPolicy.aggregated(staleness: 0), .onArrival])
    func restoredKeeperGoesOnFromItsTick(_ policy: ApplyPolicy) {
        var keeper = KeeperProtocol(
            workerCount: 1, blockCount: 1, policy: policy, restoredAt: 7)
        #expect(keeper.age(block: 0) == 7)
        #expect(keeper.received(block: 0, from: 0) == 7)
        #expect(keeper.initialise(block: 0) == false)
        #expect(keeper.offer(worker: 0, block: 0, tick: 7) == .duplicate)
        #expect(keeper.offer(worker: 0, block: 0, tick: 9) == .refused(.gap(expected: 8)))
        #expect(keeper.offer(worker: 0, block: 0, tick: 8) == .fold)
        #expect(keeper.next(block: 0) != nil)
        #expect(keeper.age(block: 0) == 8)
    }

    @Test func aWorkerIsOwedTheRowsThatItLacks() {
        var keeper = initialised(workers: 2, blocks: 1, policy: .aggregated(staleness: 0))
        for worker in 0..<2 { _ = keeper.offer(worker: worker, block: 0, tick: 1) }
        while keeper.next(block: 0) != nil {}
        #expect(keeper.offer(worker: 0, block: 0, tick: 2) == .fold)
        #expect(keeper.resumePoint(block: 0, worker: 0) == ResumePoint(age: 1, tick: 2))
        #expect(keeper.resumePoint(block: 0, worker: 1) == ResumePoint(age: 1, tick: 1))
        for (age, isOwed): (UInt64?, Bool) in [(nil, true), (0, true), (1, false)] {
            let point = ResumePoint(age: age, tick: 1)
            #expect(keeper.owesRows(block: 0, to: 0, having: point) == isOwed)
        }
    }

    @Test func asynchronousWorkersAreOwedRowsWithTheirOwnUpdates() {
        var keeper = initialised(workers: 2, blocks: 1, policy: .onArrival)
        #expect(keeper.offer(worker: 1, block: 0, tick: 1) == .fold)
        #expect(keeper.next(block: 0) != nil)
        #expect(keeper.owesRows(block: 0, to: 1, having: ResumePoint(age: 0, tick: 0)))
        #expect(!keeper.owesRows(block: 0, to: 1, having: ResumePoint(age: 0, tick: 1)))
        #expect(!keeper.owesRows(block: 0, to: 0, having: ResumePoint(age: 0, tick: 0)))
    }

    @Test func nobodyIsOwedRowsBeforeTheInitialValues() {
        let keeper = KeeperProtocol(
            workerCount: 1, blockCount: 1, policy: .aggregated(staleness: 0))
        #expect(keeper.resumePoint(block: 0, worker: 0) == ResumePoint(age: nil, tick: 0))
        #expect(!keeper.owesRows(block: 0, to: 0, having: ResumePoint(age: nil, tick: 0)))
    }

    @Test func keeperNeedsAWorker() async {
        await #expect(processExitsWith: .failure) {
            _ = KeeperProtocol(workerCount: 0, blockCount: 1, policy: .onArrival)
        }
    }
}
