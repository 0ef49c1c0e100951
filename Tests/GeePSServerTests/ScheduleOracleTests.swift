import GeePSTestSupport
import Foundation
import GeePSCore
import Testing

@Suite("Schedule Oracle", .enabled(if: OraclePython.withTorch != nil, "needs Python with torch"))
struct ScheduleOracleTests {
    private static let shapes: [(shape: Schedule.Shape, json: String)] = [
        (.constant, "\"shape\":\"constant\""),
        (.step(stepSize: 3, gamma: 0.4), "\"shape\":\"step\",\"step_size\":3,\"gamma\":0.4"),
        (
            .multistep(milestones: [2, 5, 5, 11], gamma: 0.3),
            "\"shape\":\"multistep\",\"milestones\":[2,5,5,11],\"gamma\":0.3"
        ),
        (.exponential(gamma: 0.93), "\"shape\":\"exponential\",\"gamma\":0.93"),
        (
            .polynomial(total: 9, power: 1.7),
            "\"shape\":\"polynomial\",\"total\":9,\"power\":1.7"
        ),
        (
            .cosine(period: 20, minimumFactor: 0.05),
            "\"shape\":\"cosine\",\"period\":20,\"minimum\":0.05"
        ),
    ]

    // torch's cosine rises again after its period and ours stays down: the steps end with the period.
    @Test func factorsAreTorchs() throws {
        let cases = Self.shapes.flatMap { shape, json in
            [0, 1, 4].map { warmup in
                (
                    schedule: Schedule(shape, warmup: UInt64(warmup)), steps: 20 + warmup,
                    json: "{\(json),\"warmup\":\(warmup),\"steps\":\(20 + warmup)}"
                )
            }
        }
        let output = try OraclePython.run(
            "optimizer_schedules.py", ["[\(cases.map(\.json).joined(separator: ","))]"])
        let lines = output.split(separator: "\n")
        #expect(lines.count == cases.count)
        for (test, line) in zip(cases, lines) {
            let expected = try JSONDecoder().decode([Double].self, from: Data(line.utf8))
            #expect(expected.count == test.steps)
            for (step, factor) in expected.enumerated() {
                let ours = test.schedule.factor(step: UInt64(step))
                #expect(abs(ours - factor) <= 1e-12, "\(test.json) at step \(step)")
            }
        }
    }

    @Test func cosineStaysAtItsMinimumAfterThePeriod() {
        let schedule = Schedule(.cosine(period: 4, minimumFactor: 0.25), warmup: 2)
        #expect(schedule.factor(step: 5) > 0.25)
        #expect(schedule.factor(step: 6) == 0.25)
        #expect(schedule.factor(step: 60) == 0.25)
    }
}
