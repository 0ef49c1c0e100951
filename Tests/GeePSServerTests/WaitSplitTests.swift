import GeePSCore
import Testing

@testable import GeePSServer

@Suite struct WaitSplitTests {
    private static let block = 1

    /// Three workers under BSP: worker 1 came at 2 ms, worker 0 at 3, worker 2 at 13; published at 13.5.
    private func times(
        busy: [UInt32] = [5000, 4000, 15_000], policy: ApplyPolicy = .aggregated(staleness: 0)
    ) -> ArrivalTimes {
        var times = ArrivalTimes(blockCount: 2, workerCount: 3, policy: policy)
        for (worker, milliseconds) in [(1, 2), (0, 3), (2, 13)] as [(Int, UInt64)] {
            times.note(
                block: Self.block, worker: worker, tick: 7, at: milliseconds * 1_000_000,
                busyMicroseconds: busy[worker])
        }
        times.notePublished(block: Self.block, tick: 7, at: 13_500_000)
        return times
    }

    private func split(
        _ times: ArrivalTimes, worker: Int, wait: UInt32, roundTrip: UInt32
    ) -> WaitSplit? {
        times.split(
            block: Self.block, worker: worker, tick: 7,
            WaitNotice(waitMicroseconds: wait, roundTripMicroseconds: roundTrip))
    }

    @Test func aWholeWaitIsWayUpdateAndLateness() throws {
        // 10.5 ms at the keeper, 0.2 ms each way.
        let split = try #require(
            self.split(times(), worker: 0, wait: 10_900, roundTrip: 10_900))
        #expect(split.update == 500 && split.worker == 10_000 && split.last == 2)
        #expect(split.recoverable == 10_000)
    }

    @Test func aShortWaitHasTheEndOfIt() throws {
        let times = self.times()
        let way = try #require(self.split(times, worker: 0, wait: 150, roundTrip: 10_900))
        #expect(way.update == 0 && way.worker == 0)
        let update = try #require(self.split(times, worker: 0, wait: 400, roundTrip: 10_900))
        #expect(update.update == 200 && update.worker == 0)
        let half = try #require(self.split(times, worker: 0, wait: 5700, roundTrip: 10_900))
        #expect(half.update == 500 && half.worker == 5000)
    }

    @Test func whatTheLastWorkerWasNotBusyForLongerIsItsLinks() throws {
        // As busy as worker 0 but for 4 ms of the 10 that it came later.
        let split = try #require(
            self.split(times(busy: [5000, 4000, 9000]), worker: 0, wait: 10_700, roundTrip: 10_900))
        #expect(split.worker == 4000)
        let none = try #require(
            self.split(times(busy: [5000, 4000, 4500]), worker: 0, wait: 10_700, roundTrip: 10_900))
        #expect(none.worker == 0)
    }

    @Test func withoutTheLastOneTheSecondWouldBeWaitedFor() throws {
        let split = try #require(self.split(times(), worker: 1, wait: 11_900, roundTrip: 11_900))
        #expect(split.worker == 11_000 && split.recoverable == 10_000)
    }

    @Test func theLastOneWaitsForNobody() throws {
        let split = try #require(self.split(times(), worker: 2, wait: 900, roundTrip: 900))
        #expect(split.worker == 0 && split.update == 500)
    }

    @Test func aLeadThatStalenessAllowsIsNoLateness() throws {
        let times = self.times(busy: [5000, 4000, 9000], policy: .aggregated(staleness: 1))
        let split = try #require(self.split(times, worker: 0, wait: 4200, roundTrip: 10_900))
        #expect(split.worker == 3500)
    }

    @Test func whatIsNotRememberedIsNotTold() {
        var times = self.times()
        #expect(
            times.split(
                block: 0, worker: 0, tick: 7,
                WaitNotice(waitMicroseconds: 9, roundTripMicroseconds: 9)) == nil)
        #expect(
            times.split(
                block: Self.block, worker: 0, tick: 5,
                WaitNotice(waitMicroseconds: 9, roundTripMicroseconds: 9)) == nil)
        times.note(block: Self.block, worker: 0, tick: 9, at: 20_000_000, busyMicroseconds: 1)
        #expect(self.split(times, worker: 0, wait: 10, roundTrip: 10) == nil)
        #expect(
            self.split(self.times(policy: .onArrival), worker: 0, wait: 10, roundTrip: 10) == nil)
    }

    @Test func theClockMayWrapAround() throws {
        var times = ArrivalTimes(
            blockCount: 1, workerCount: 2, policy: .aggregated(staleness: 0))
        let end = UInt64(UInt32.max) * 1000
        times.note(block: 0, worker: 0, tick: 1, at: end - 1_000_000, busyMicroseconds: 0)
        times.note(block: 0, worker: 1, tick: 1, at: end + 4_000_000, busyMicroseconds: 9000)
        times.notePublished(block: 0, tick: 1, at: end + 5_000_000)
        let split = try #require(
            times.split(
                block: 0, worker: 0, tick: 1,
                WaitNotice(waitMicroseconds: 6000, roundTripMicroseconds: 6000)))
        #expect(split.update == 1000 && split.worker == 5000)
    }
}
