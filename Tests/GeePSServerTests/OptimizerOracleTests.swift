import GeePSTestSupport
import Foundation
import GeePSCore
import Testing

@testable import GeePSServer

@Suite("Optimizer Oracle", .enabled(if: OraclePython.withTorch != nil, "needs Python with torch"))
struct OptimizerOracleTests {
    // One launch of Python for all cases: importing torch takes seconds.
    private static let torch = Result { try Torch() }

    @Test(arguments: OptimizerCase.all)
    func everyStepHasTheBitsOfTorch(_ test: OptimizerCase) throws {
        let expected = try Self.torch.get().history(test.name)
        let history = OptimizerRun.history(Optimizer(test.configuration))
        for step in 0..<OptimizerRun.stepCount {
            let differences = zip(history[step].bits, expected[step].bits).count { $0 != $1 }
            #expect(differences == 0, "step \(step + 1)")
        }
    }

    // torch's own roots may be one unit in the last place off, by processor.
    @Test(arguments: OptimizerCase.all)
    func theLastStepIsNearTorchWithItsOwnRoots(_ test: OptimizerCase) throws {
        let expected = try Self.torch.get().history(test.name + ".stock").last ?? []
        let values = OptimizerRun.history(Optimizer(test.configuration)).last ?? []
        #expect(values.count == expected.count)
        if case .sgd = test.rule { #expect(values.bits == expected.bits) }
        for (value, reference) in zip(values, expected) {
            #expect(abs(value - reference) <= 1e-5 * max(1, abs(reference)))
        }
    }
}

/// What torch makes of the cases.
private struct Torch {
    private let directory: URL

    init() throws {
        directory = FileManager.default.temporaryDirectory.appending(
            path: "geeps-oracle-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: directory, withIntermediateDirectories: true)
        let inputs = OptimizerRun.inputs.flatMap(\.self)
        try inputs.withUnsafeBytes { Data($0) }.write(to: directory.appending(path: "inputs.f32"))
        let cases = OptimizerCase.all.map { test in
            "{\"name\":\"\(test.name)\",\"rule\":\"\(test.torchRule)\","
                + "\"options\":{\(test.torchOptions)},\"count\":\(OptimizerRun.count),"
                + "\"learning_rates\":\(OptimizerRun.learningRates)}"
        }
        try "[\(cases.joined(separator: ","))]".write(
            to: directory.appending(path: "cases.json"), atomically: false, encoding: .utf8)
        _ = try OraclePython.run("optimizer_steps.py", [directory.path()])
    }

    /// Values after each step.
    func history(_ name: String) throws -> [[Float]] {
        let data = try Data(contentsOf: directory.appending(path: "\(name).f32"))
        let floats = data.withUnsafeBytes { Array($0.bindMemory(to: Float.self)) }
        return (0..<OptimizerRun.stepCount).map {
            Array(floats[($0 * OptimizerRun.count)..<(($0 + 1) * OptimizerRun.count)])
        }
    }
}
