import ArgumentParser
import Foundation
import GeePSMemory
import GeePSNN
import Testing

@testable import GeePSCLI

@Suite struct PlanTests {
    private func network() throws -> Network {
        try Network(.lenet(), input: Shape(channels: 1, height: 28, width: 28), batchSize: 32)
    }

    private func report(share: Double) throws -> PlanReport {
        try report(share: share, NetworkPlanOptions())
    }

    /// - Parameter share: 0 is the least budget, 1 the full.
    private func report(share: Double, _ options: NetworkPlanOptions) throws -> PlanReport {
        let network = try network()
        let full = try network.plan(options)
        let span = full.fullBytes - full.leastBytes
        var options = options
        options.budget = .bytes(full.leastBytes + Int(Double(span) * share))
        return PlanReport(
            file: "some/job.yaml", network: network, batchesPerClock: options.batchesPerClock,
            plan: try network.plan(options))
    }

    /// Every step takes a millisecond, a link is slow.
    private func measured(_ network: Network) -> NetworkPlanOptions {
        var options = NetworkPlanOptions()
        options.stepNanoseconds = network.steps.map { _ in 1_000_000 }
        options.link = PlanLink(bytesPerSecondIn: 1e8, bytesPerSecondOut: 1e8)
        return options
    }

    @Test(arguments: [
        ("4096", 4096), ("512MiB", 512 << 20), ("1.5GB", 1_500_000_000), ("2 kib", 2048),
        ("0.5GiB", 1 << 29), ("12b", 12),
    ])
    func budgetsAreReadWithTheirUnit(text: String, bytes: Int) {
        #expect(MemoryBudget(text)?.byteCount(ofFull: 1) == bytes)
    }

    @Test func aShareIsOfWhatKeepingEverythingNeeds() {
        #expect(MemoryBudget("35%")?.byteCount(ofFull: 1000) == 350)
        #expect(MemoryBudget("12.5 %")?.byteCount(ofFull: 1000) == 125)
    }

    @Test(arguments: ["", "MiB", "12 parsecs", "-4", "1e400", "nan", "1.2.3MB", "9999999TiB"])
    func otherBudgetsAreRefused(text: String) {
        #expect(MemoryBudget(text) == nil)
    }

    @Test func everyStepOfANetworkIsAPhase() throws {
        let network = try network()
        let planner = try PlacementPlanner(network.planProblem())
        #expect(planner.phaseCount == network.steps.count)
    }

    @Test(arguments: [0, 0.4, 1])
    func layersAddUpToThePlacement(share: Double) throws {
        let report = try report(share: share)
        let layers = PlanLayer.layers(of: report.network, report.placement)
        #expect(layers.reduce(0) { $0 + $1.bytesIn } == report.placement.bytesIn)
        #expect(layers.reduce(0) { $0 + $1.bytesOut } == report.placement.bytesOut)
        let tensors = report.network.tensors.reduce(0) { $0 + $1.byteCount }
        #expect(layers.reduce(0) { $0 + $1.localBytes } == tensors)
        for layer in layers where layer.name != "scratch" && layer.name != "batch" {
            #expect(report.network.layerNames.contains(layer.name))
        }
    }

    @Test func theTableShowsEveryLayerAndWhatItMoves() throws {
        let text = try report(share: 0).text
        for name in ["conv1", "pool2", "fc3"] { #expect(text.contains("  \(name) ")) }
        #expect(text.contains("▒"))
        #expect(!(try report(share: 1).text.contains("▒▒")))
    }

    @Test func theObjectNamesItsSchemaAndItsStays() throws {
        let text = try report(share: 0.5).json.text
        #expect(text.hasPrefix("{\"schema\":\"geeps.plan/1\""))
        #expect(text.contains("\"kind\":\"update\",\"name\":\"fc3\""))
    }

    @Test func aSweepNeverRises() throws {
        let sweep = try PlanSweep(try network(), NetworkPlanOptions(), count: 9)
        #expect(sweep.points.count == 9)
        for (one, next) in zip(sweep.points, sweep.points.dropFirst()) {
            #expect(next.bytesMoved <= one.bytesMoved)
            #expect(next.bytesMoved <= next.paperBytes)
        }
        #expect(sweep.points[0].bytesMoved > sweep.points[8].bytesMoved)
        let drawing = PlanSweepDrawing(sweep, title: "a<b>.yaml").svg
        #expect(drawing.contains("a&lt;b&gt;.yaml"))
        #expect(drawing.hasSuffix("</svg>\n"))
    }

    @Test func withoutTimesAndLinkThereIsNoForecastButAHint() throws {
        let report = try self.report(share: 0.3)
        #expect(report.json.text.contains("\"forecast\":null"))
        #expect(report.text.contains("geeps bench layers some/job.yaml"))
        #expect(report.text.contains("--link 12GB/s"))
        #expect(
            !(try self.report(share: 0.3, measured(try network())).text.contains("A forecast takes"))
        )
    }

    @Test func withoutABudgetThereIsRoomForAllThatIsPlanned() throws {
        let network = try network()
        for options in [NetworkPlanOptions(), measured(network)] {
            let report = PlanReport(
                file: "some/job.yaml", network: network, batchesPerClock: 1,
                plan: try network.plan(options))
            #expect(report.budgetBytes >= report.placement.deviceBytes)
            #expect(report.text.contains("as much as is of use"))
        }
    }

    @Test func aForecastIsOfTheWholeClock() throws {
        var options = measured(try network())
        options.batchesPerClock = 3
        let report = try self.report(share: 0, options)
        let forecast = try #require(report.placement.forecast)
        #expect(report.samplesPerClock == 96)
        let data = Data(report.json.text.utf8)
        let root = try JSONSerialization.jsonObject(with: data) as? [String: Any]
        let object = try #require(root?["forecast"] as? [String: Any])
        let nanoseconds = try #require(object["iteration_nanoseconds"] as? Double)
        #expect(nanoseconds == Double(forecast.iterationNanoseconds))
        #expect(object["samples_per_second"] as? Double == 96 / (nanoseconds / 1e9))
        let efficiency = try #require(object["efficiency"] as? Double)
        #expect(abs(efficiency - forecast.efficiency) < 1e-12)
        #expect(object["stall_nanoseconds"] as? Double == Double(forecast.stallNanoseconds))
        #expect(root?["recomputed"] as? [String] == report.plan.recomputedLayers)
        #expect(report.text.contains("batch 3 x 32"))
        #expect(report.text.contains("samples/s of one worker"))
    }

    @Test func theCommandPlansAsTrainingDoes() throws {
        let network = try network()
        let job = try JobLoader(
            file: "job.yaml", assignments: [], workers: nil, defaultWorkers: 1, checksPaths: false
        ).parse(
            """
            model: {name: lenet}
            data: {format: synthetic, samples: 64, shape: [1, 28, 28], classes: 10, batch_size: 32}
            optimizer: {name: sgd, lr: 0.1}
            train: {epochs: 1, batches_per_clock: 2}
            consistency: {staleness: 1}
            memory: {budget: 60%, policy: paper, link: 1GB/s}
            """, in: JobDirectory(path: "/"))
        let times = LayerTimes(
            fingerprint: LayerTimes.fingerprint(of: network), batchSize: 32, threads: 1, cpu: "",
            steps: network.steps.map { .init(name: network.name(of: $0), nanoseconds: 7) })
        let options = try #require(job.memory).planOptions(network, of: job, times: times)
        #expect(options.budget == .share(0.6))
        #expect(options.policy == .paper)
        #expect(options.link == PlanLink(bytesPerSecondIn: 1e9, bytesPerSecondOut: 1e9))
        #expect(options.batchesPerClock == 2)
        #expect(!options.readsInPlace)
        #expect(options.stepNanoseconds == network.steps.map { _ in 7 })
    }

    @Test func withAForecastASweepIsOfSpeed() throws {
        let network = try network()
        let sweep = try PlanSweep(network, measured(network), count: 5)
        #expect(sweep.isOfSpeed)
        for point in sweep.points {
            let (ours, paper) = sweep.values(point)
            #expect(ours >= paper * 0.999)
            #expect(ours <= 32 / (Double(network.steps.count) * 1e-3) * 1.001)
        }
        #expect(sweep.text(title: "a").contains("samples/s"))
        let drawing = PlanSweepDrawing(sweep, title: "a").svg
        #expect(drawing.contains("samples/s"))
        #expect(!drawing.contains("nan") && !drawing.contains("inf"))
        #expect(sweep.json(job: "a").text.contains("\"samples_per_second\":"))
    }

    @Test func aBudgetThatIsTooSmallIsBadData() throws {
        let planner = try PlacementPlanner(try network().planProblem())
        do {
            _ = try planner.placement(budgetBytes: 1000)
            Issue.record("1000 bytes were accepted")
        } catch {
            #expect(ErrorReport.make(error)?.code == 65)
            #expect(ErrorReport.make(error)?.message == error.message)
        }
    }

    @Test(arguments: [
        ["plan", "a", "--budget", "lots"], ["plan", "a", "--svg", "x"],
        ["plan", "a", "--sweep", "--budget", "1GB"], ["plan", "a", "--policy", "best"],
        ["plan", "a", "--link", "12GB"], ["plan", "a", "--link", "0B/s"],
        ["bench", "layers", "a", "--runs", "0"],
    ])
    func wrongOptionsAreRefused(arguments: [String]) {
        #expect(throws: (any Error).self) { _ = try GeepsCommand.parseAsRoot(arguments) }
    }
}
