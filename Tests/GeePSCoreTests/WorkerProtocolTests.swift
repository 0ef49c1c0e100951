import GeePSCore
import Testing

@Suite struct WorkerProtocolTests {
    /// Two tables: blocks 0 and 1 are of table 0, block 2 of table 1.
    private func worker(_ staleness: Staleness = .clocks(0)) -> WorkerProtocol {
        WorkerProtocol(tableOfBlock: [0, 0, 1], tableCount: 2, staleness: staleness)
    }

    /// A worker whose blocks hold the initial values.
    private func ready(_ staleness: Staleness = .clocks(0)) -> WorkerProtocol {
        var worker = worker(staleness)
        for block in 0..<3 { store(&worker, block: block, age: 0, acknowledging: 0) }
        return worker
    }

    private func store(
        _ worker: inout WorkerProtocol, block: Int, age: UInt64, acknowledging: UInt64
    ) {
        let verdict = worker.offer(block: block, age: age, acknowledging: acknowledging)
        #expect(verdict == .store)
        worker.stored(block: block, age: age)
    }

    @Test func nothingIsPushedBeforeACommit() {
        var worker = ready()
        #expect(worker.nextPush(block: 0) == nil)
        #expect(!worker.hasUnsent(block: 0))
    }

    @Test func nothingIsPushedBeforeInitialValues() {
        var worker = worker(.unbounded)
        #expect(worker.commit(table: 0) == 1)
        #expect(worker.age(block: 0) == nil)
        #expect(worker.nextPush(block: 0) == nil)
        #expect(worker.hasUnsent(block: 0))
        store(&worker, block: 0, age: 0, acknowledging: 0)
        #expect(worker.nextPush(block: 0) == 1)
    }

    @Test func commitReleasesTheBlocksOfItsTable() {
        var worker = ready()
        #expect(worker.commit(table: 0) == 1)
        #expect(worker.committed(table: 0) == 1)
        #expect(worker.committed(table: 1) == 0)
        #expect(worker.nextPush(block: 2) == nil)
        #expect(worker.nextPush(block: 1) == 1)
        #expect(worker.nextPush(block: 1) == nil)
        #expect(!worker.hasUnsent(block: 1))
        #expect(worker.nextPush(block: 0) == 1)
    }

    @Test(arguments: UInt64(0)...3)
    func pushesRunStalenessTicksAheadOfTheRowsAndNoMore(_ staleness: UInt64) {
        var worker = ready(.clocks(staleness))
        for _ in 0..<10 { _ = worker.commit(table: 0) }
        for tick in 1...(staleness + 1) { #expect(worker.nextPush(block: 0) == tick) }
        #expect(worker.nextPush(block: 0) == nil)
        #expect(worker.hasUnsent(block: 0))
        store(&worker, block: 0, age: 1, acknowledging: 1)
        #expect(worker.nextPush(block: 0) == staleness + 2)
        #expect(worker.nextPush(block: 0) == nil)
    }

    @Test func asynchronousPushesAreNotHeldBack() {
        var worker = ready(.unbounded)
        for _ in 0..<100 { _ = worker.commit(table: 0) }
        for tick in UInt64(1)...100 { #expect(worker.nextPush(block: 0) == tick) }
        #expect(worker.nextPush(block: 0) == nil)
    }

    @Test(arguments: [-1, 3])
    func rowsOfAnUnknownBlockAreRefused(_ block: Int) {
        var worker = worker()
        #expect(worker.offer(block: block, age: 0, acknowledging: 0) == .refused(.unknownBlock))
    }

    @Test func acknowledgementOfWhatWasNotCommittedIsRefused() {
        var worker = ready()
        #expect(
            worker.offer(block: 0, age: 1, acknowledging: 1)
                == .refused(.acknowledgesUnsent(pushed: 0)))
        #expect(worker.acknowledged(block: 0) == 0)
        _ = worker.commit(table: 0)
        #expect(worker.nextPush(block: 0) == 1)
        #expect(
            worker.offer(block: 0, age: 1, acknowledging: 2)
                == .refused(.acknowledgesUnsent(pushed: 1)))
        #expect(worker.offer(block: 0, age: 1, acknowledging: 1) == .store)
        #expect(worker.acknowledged(block: 0) == 1)
    }

    @Test func onlyOlderOrEqualRowsAreStale() {
        var worker = ready(.clocks(3))
        for _ in 0..<3 { _ = worker.commit(table: 0) }
        store(&worker, block: 0, age: 2, acknowledging: 2)
        #expect(worker.offer(block: 0, age: 1, acknowledging: 2) == .stale)
        #expect(worker.offer(block: 0, age: 2, acknowledging: 2) == .stale)
        #expect(worker.offer(block: 0, age: 3, acknowledging: 3) == .store)
    }

    @Test func ageRisesWithStoredAndNotBefore() {
        var worker = ready()
        _ = worker.commit(table: 0)
        #expect(worker.offer(block: 0, age: 1, acknowledging: 1) == .store)
        #expect(worker.age(block: 0) == 0)
        worker.stored(block: 0, age: 1)
        #expect(worker.age(block: 0) == 1)
        worker.stored(block: 0, age: 0)
        #expect(worker.age(block: 0) == 1)
    }

    @Test func staleRowsStillAcknowledge() {
        var worker = ready(.clocks(1))
        _ = worker.commit(table: 0)
        #expect(worker.nextPush(block: 0) == 1)
        #expect(worker.offer(block: 0, age: 0, acknowledging: 1) == .stale)
        #expect(worker.acknowledged(block: 0) == 1)
        #expect(worker.offer(block: 0, age: 0, acknowledging: 0) == .stale)
        #expect(worker.acknowledged(block: 0) == 1)
    }

    @Test func asynchronousRowsAreNewsWhenTheyHoldMoreOwnUpdates() {
        var worker = ready(.unbounded)
        for _ in 0..<2 { _ = worker.commit(table: 0) }
        store(&worker, block: 0, age: 0, acknowledging: 1)
        #expect(worker.offer(block: 0, age: 0, acknowledging: 1) == .stale)
        store(&worker, block: 0, age: 0, acknowledging: 2)
        store(&worker, block: 0, age: 1, acknowledging: 2)
        #expect(worker.offer(block: 0, age: 0, acknowledging: 2) == .stale)
    }

    @Test func lostPushesAreSentAgainInOrderBeforeNewOnes() {
        var worker = ready(.clocks(3))
        for _ in 0..<3 { _ = worker.commit(table: 0) }
        for tick in UInt64(1)...3 { #expect(worker.nextPush(block: 0) == tick) }
        #expect(worker.offer(block: 0, age: 0, acknowledging: 1) == .stale)
        #expect(worker.resume(block: 0, keeper: ResumePoint(age: 0, tick: 1)) == nil)
        #expect(worker.hasUnsent(block: 0))
        _ = worker.commit(table: 0)
        for tick in UInt64(2)...4 { #expect(worker.nextPush(block: 0) == tick) }
        #expect(worker.nextPush(block: 0) == nil)
    }

    @Test func whatTheKeeperHasReceivedIsNotSentAgain() {
        var worker = ready(.clocks(3))
        for _ in 0..<3 { _ = worker.commit(table: 0) }
        for tick in UInt64(1)...3 { #expect(worker.nextPush(block: 0) == tick) }
        #expect(worker.resumePoint(block: 0) == ResumePoint(age: 0, tick: 0))
        #expect(worker.resume(block: 0, keeper: ResumePoint(age: 0, tick: 2)) == nil)
        #expect(worker.nextPush(block: 0) == 3)
        // It is acknowledged when rows say so.
        #expect(worker.acknowledged(block: 0) == 0)
        #expect(worker.resumePoint(block: 0) == ResumePoint(age: 0, tick: 0))
    }

    @Test func asynchronousRowsWithWhatWasReceivedBeforeALossAreNews() {
        var worker = ready(.unbounded)
        _ = worker.commit(table: 0)
        #expect(worker.nextPush(block: 0) == 1)
        #expect(worker.resume(block: 0, keeper: ResumePoint(age: 0, tick: 1)) == nil)
        #expect(worker.nextPush(block: 0) == nil)
        #expect(worker.offer(block: 0, age: 0, acknowledging: 1) == .store)
    }

    @Test func lossWithoutUnacknowledgedPushesChangesNothing() {
        var worker = ready()
        #expect(worker.resume(block: 0, keeper: ResumePoint(age: 0, tick: 0)) == nil)
        #expect(worker.nextPush(block: 0) == nil)
        #expect(worker.age(block: 0) == 0)
    }

    @Test func aKeeperThatHasLessThanBeforeIsRefused() {
        var worker = ready(.clocks(1))
        for _ in 0..<2 { _ = worker.commit(table: 0) }
        store(&worker, block: 0, age: 1, acknowledging: 1)
        let own = ResumePoint(age: 1, tick: 1)
        #expect(worker.resumePoint(block: 0) == own)
        for (age, tick, refusal): (UInt64?, UInt64, WorkerProtocol.Refusal?) in [
            (1, 1, nil), (2, 2, nil), (0, 1, .wentBack(from: own)), (nil, 1, .wentBack(from: own)),
            (1, 0, .wentBack(from: own)), (1, 3, .acknowledgesUnsent(pushed: 2)),
        ] {
            var worker = worker
            #expect(
                worker.resume(block: 0, keeper: ResumePoint(age: age, tick: tick)) == refusal,
                "age \(String(describing: age)), tick \(tick)")
        }
        #expect(worker.resume(block: 99, keeper: own) == .unknownBlock)
    }

    @Test func restoredWorkerGoesOnFromItsTick() {
        var worker = WorkerProtocol(
            tableOfBlock: [0], tableCount: 1, staleness: .clocks(0), restoredAt: 7)
        #expect(worker.committed(table: 0) == 7)
        #expect(worker.acknowledged(block: 0) == 7)
        #expect(worker.age(block: 0) == nil)
        #expect(!worker.hasUnsent(block: 0))
        #expect(worker.commit(table: 0) == 8)
        #expect(worker.nextPush(block: 0) == nil)
        store(&worker, block: 0, age: 7, acknowledging: 7)
        #expect(worker.nextPush(block: 0) == 8)
        #expect(worker.resume(block: 0, keeper: ResumePoint(age: 7, tick: 7)) == nil)
        #expect(worker.nextPush(block: 0) == 8)
    }
}
