import ArgumentParser
import GeePSMemory
import GeePSNN
import Testing

@testable import GeePSCLI

@Suite struct PlanTests {
    private func network() throws -> Network {
        try Network(.lenet(), input: Shape(channels: 1, height: 28, width: 28), batchSize: 32)
    }

    private func report(share: Double) throws -> PlanReport {
        let network = try network()
        let planner = try PlacementPlanner(network.planProblem())
        let span = planner.fullBytes - planner.leastBytes
        let budget = planner.leastBytes + Int(Double(span) * share)
        return PlanReport(
            job: "job.yaml", policy: .benefit, budgetBytes: budget, network: network,
            planner: planner, placement: try planner.placement(budgetBytes: budget))
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
        let sweep = try PlanSweep(PlacementPlanner(try network().planProblem()), count: 9)
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
    ])
    func wrongOptionsAreRefused(arguments: [String]) {
        #expect(throws: (any Error).self) { _ = try GeepsCommand.parseAsRoot(arguments) }
    }
}
