import GeePSNN
import Testing

@Suite struct EmulatedPaceTests {
    @Test func oneWorkerIsSlowInAllItsClocks() {
        let pace = EmulatedPace(
            clockNanoseconds: 20, delayNanoseconds: 7, delayed: .worker(1))
        for tick in 0..<4 as Range<UInt64> {
            let clocks = (0..<3).map { pace.nanoseconds(tick: tick, rank: $0, workerCount: 3) }
            #expect(clocks == [20, 27, 20])
        }
    }

    @Test func inTurnEveryClockIsLongForOne() {
        let pace = EmulatedPace(clockNanoseconds: 20, delayNanoseconds: 7)
        for tick in 0..<7 as Range<UInt64> {
            let clocks = (0..<3).map { pace.nanoseconds(tick: tick, rank: $0, workerCount: 3) }
            #expect(clocks.firstIndex(of: 27) == Int(tick % 3))
            #expect(clocks.sorted() == [20, 20, 27])
        }
    }
}
