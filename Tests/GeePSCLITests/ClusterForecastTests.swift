import GeePSMemory
import Testing

@testable import GeePSCLI

@Suite struct ClusterForecastTests {
    private func forecast(
        _ workload: Workload, layers: Int? = 1, workers: Int = 8, gigabits: Double = 12,
        link: Double? = 6e9, lag: Int? = 0, isForeground: Bool = false
    ) -> ClusterForecast {
        var setting = ClusterSetting(
            workers: workers, networkBytesPerSecond: gigabits * 1e9 / 8)
        setting.linkBytesPerSecond = link
        setting.lag = lag
        setting.isForeground = isForeground
        return ClusterForecast(workload, layersPerTable: layers, setting)
    }

    /// One layer of a megabyte that computes 1 ms up and 2 ms down.
    private var oneLayer: Workload {
        Workload(
            name: "one", source: "a test", samplesPerClock: 1,
            parameters: [.init(name: "fc", byteCount: 1 << 20)], locals: [],
            phases: [
                .init(name: "up", nanoseconds: 1_000_000),
                .init(name: "down", nanoseconds: 2_000_000),
            ],
            accesses: [
                Access(.read), Access(.endRead), Access(.read), Access(.update),
                Access(.endUpdate), Access(.endRead), Access(.clock),
            ])
    }

    @Test func whatCannotOverlapIsWaitedFor() {
        // Pushes and rows of seven eighths cross the link one after the other: nothing hides them.
        let stall = forecast(oneLayer, link: nil).stallNanoseconds
        let wire = 2 * Double(1 << 20) * 7 / 8 / 1.5e9 * 1e9
        #expect((wire..<wire * 1.15 + 300_000).contains(stall))
    }

    @Test func aClockOfSlackHidesIt() {
        #expect(forecast(oneLayer, link: nil, lag: 1).stall < 0.001)
        #expect(forecast(oneLayer, link: nil, lag: nil).stall < 0.001)
    }

    @Test func slackHidesNoMoreThanTheLinkCarries() {
        // 12 MB/s: pushes and rows take 153 ms where compute takes 3.
        let clock = forecast(oneLayer, gigabits: 0.096, link: nil, lag: nil).clockNanoseconds
        let wire = 2 * Double(1 << 20) * 7 / 8 / 12e6 * 1e9
        #expect(abs(clock / wire - 1) < 0.05)
    }

    @Test func foregroundCopiesAreWaitedFor() {
        let copy = 3 * Double(1 << 20) / 6e9 * 1e9
        let alone = forecast(oneLayer, workers: 1, isForeground: true).stallNanoseconds
        #expect((copy..<copy + 400_000).contains(alone))
    }

    @Test(arguments: [1.0, 4, 12, 40, 100])
    func tablesOfALayerAreNoSlowerThanOneOfAll(gigabits: Double) throws {
        let workload = try WorkloadTests.paper("adamlike")
        let apart = forecast(workload, gigabits: gigabits)
        let together = forecast(workload, layers: nil, gigabits: gigabits)
        #expect(apart.clockNanoseconds <= together.clockNanoseconds * 1.001)
    }

    @Test func aFasterNetworkIsNeverSlower() throws {
        let workload = try WorkloadTests.paper("googlenet")
        let clocks = [0.5, 1, 2, 5, 12, 25, 100].map {
            forecast(workload, gigabits: $0).clockNanoseconds
        }
        #expect(zip(clocks, clocks.dropFirst()).allSatisfy { $1 <= $0 * 1.0001 })
    }

    @Test func theBestGroupingIsTheFastest() throws {
        var setting = ClusterSetting(workers: 16, networkBytesPerSecond: 1.5e9)
        setting.linkBytesPerSecond = 6e9
        let report = ForecastReport(try WorkloadTests.paper("adamlike"), setting)
        let least = report.choices.map(\.forecast.clockNanoseconds).min() ?? 0
        #expect(report.best.forecast.clockNanoseconds <= least * 1.001)
        #expect(report.best.layersPerTable != nil)
        #expect(report.text.contains("<- best"))
    }
}
