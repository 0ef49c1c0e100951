import GeePSCore
import GeePSMemory
import Testing

@testable import GeePSCLI
@testable import GeePSClient
@testable import GeePSNN

@Suite struct StepReportTests {
    /// Ten seconds of three workers: two wait for worker 2, all for the network.
    private static let late = StepReport(
        sums: [4, 1, 0.5, 4, 10, 0] + [4, 1, 0.5, 4, 10, 0] + [8, 1, 0.5, 0.5, 10, 0]
            + [0.2, 0.2, 0.2] + [3, 3, 0] + [0, 0, 6] + [0, 0, 5])

    @Test func theSharesOfEveryWorkerAddUpToItsTime() {
        for worker in Self.late.workers {
            let sum =
                worker.compute + worker.batches + worker.copy + worker.network + worker.update
                + worker.waiting + worker.other
            #expect(abs(sum - worker.total) < 1e-9)
        }
        #expect(abs(Self.late.workers[0].network - 0.8) < 1e-9)
        #expect(abs(Self.late.shares.reduce(0) { $0 + $1.seconds } - 10) < 1e-9)
    }

    @Test func theLateWorkerIsNamedWithWhatItsAbsenceWouldGain() throws {
        let largest = try #require(Self.late.largest)
        #expect(largest.worker == 2)
        #expect(abs(largest.share - 0.3) < 1e-9)
        // Half a second of the three would be left for the second slowest.
        #expect(abs(largest.gain - 10 / 7.5) < 1e-9)
        #expect(
            Self.late.sentence
                == "waiting for worker 2 takes 30 % of the others' step; without that 1.33x")
    }

    @Test func theNetworkIsNamedWhereItIsTheLargest() throws {
        let report = StepReport(
            sums: [4, 0, 0, 6, 10, 0, 4, 0, 0, 6, 10, 0] + [1, 1] + [0, 0] + [0, 0] + [0, 0])
        #expect(report.sentence == "network takes 50 % of the step; without that 2.00x")
    }

    @Test func nothingIsNamedWhereNothingIsToGain() {
        let report = StepReport(sums: [9.95, 0, 0, 0.05, 10, 0] + [0] + [0] + [0] + [0])
        #expect(report.largest == nil && report.sentence == nil)
        #expect(StepReport(sums: [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]).largest == nil)
    }

    @Test func aRanksPartIsItsStallLessWhatItWaitedForRows() {
        var shares = WaitShares(workerCount: 2)
        shares.causedBy[0] = 500_000_000
        let counters = ClientCounters(
            access: AccessCounters(), memory: nil, waits: [], stallNanoseconds: 9_000_000_000,
            rowWaitNanoseconds: 2_000_000_000, startWaitNanoseconds: 1_000_000_000,
            repairs: RepairCounters(), bytesSent: 0, bytesReceived: 0, bytesSentOutside: 0,
            bytesReceivedOutside: 0)
        var times = TrainingTimes()
        times.compute = 4_000_000_000
        times.stall = 5_000_000_000
        times.total = 10_000_000_000
        let part = StepReport.part(rank: 1, times: times, counters: counters, shares: shares)
        #expect(part[6..<12] == [4, 0, 2, 2, 10, 0])
        #expect(part[0..<6].allSatisfy { $0 == 0 })
        #expect(Array(part[12...]) == [0, 0, 0, 0, 0.5, 0, 0, 0])
    }
}
