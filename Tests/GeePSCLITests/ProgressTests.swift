import Testing

@testable import GeePSCLI

@Suite struct ProgressLineTests {
    private let line = ProgressLine(
        description: "train", completed: 47, total: 100, elapsed: 1.5,
        values: [ProgressValue(key: "loss", value: 0.31234)])

    @Test func theFieldsAreInTheOrderOfTqdm() {
        #expect(
            line.bar(columns: 78)
                == "train:  47%|█████████▍          | 47/100 [00:01<00:01, 31.33it/s, loss=0.312]"
        )
    }

    @Test func aFullBarHasNoGap() {
        var line = line
        line.completed = 100
        line.elapsed = 3725
        line.values = []
        #expect(
            line.bar(columns: 70)
                == "train: 100%|█████████████████████| 100/100 [1:02:05<00:00, 37.25s/it]")
    }

    @Test func nothingDoneYetHasNoRate() {
        let line = ProgressLine(description: "a", completed: 0, total: 10, elapsed: 0)
        #expect(line.plain == "a:   0% 0/10 [00:00<?, ?it/s]")
    }

    @Test func valuesGiveWayToTheBarTheFirstOnesFirst() {
        let line = ProgressLine(
            description: "training", completed: 2358, total: 6600, elapsed: 2.42,
            values: [
                ProgressValue(key: "epoch", value: 54), ProgressValue(key: "loss", value: 0.00142),
            ])
        #expect(
            line.bar(columns: 80)
                == "training:  35%|█████▋          | 2358/6600 [00:02<00:04, 974it/s, loss=0.00142]"
        )
        #expect(line.bar(columns: 90).contains("974it/s, epoch=54, loss=0.00142]"))
        #expect(line.bar(columns: 60).contains("974it/s]"))
    }

    @Test(arguments: 0...120)
    func aBarNeverReachesTheLastColumn(columns: Int) {
        #expect(line.bar(columns: columns).count <= max(0, columns - 1))
    }
}

@Suite struct ProgressReporterTests {
    private final class Screen {
        var text: [String] = []
        var time: UInt64 = 0
    }

    private func reporter(_ style: ProgressReporter.Style, _ screen: Screen) -> ProgressReporter {
        ProgressReporter(
            style: style, columns: { 60 }, now: { screen.time }, output: { screen.text.append($0) })
    }

    @Test func aBarIsRedrawnAtMostTenTimesASecond() {
        let screen = Screen()
        let progress = reporter(.bar(isColored: false), screen)
        progress.begin("train", total: 1000)
        for step in 1...1000 {
            screen.time += 1_000_000
            progress.update(completed: step)
        }
        progress.finish()
        // One at the start, ten in the second, one at the end and its newline.
        #expect(screen.text.count == 13)
        #expect(screen.text.dropLast().allSatisfy { $0.hasPrefix("\r") })
        #expect(
            screen.text.dropLast().last?.contains("1000/1000 [00:01<00:00, 1000it/s") == true)
        #expect(screen.text.last == "\n")
    }

    @Test func aLogGetsALineEveryThreeSecondsAndTheLast() {
        let screen = Screen()
        let progress = reporter(.lines, screen)
        progress.begin("train", total: 70)
        for step in 1...70 {
            screen.time += 100_000_000
            progress.update(completed: step)
        }
        progress.finish()
        #expect(
            screen.text.map { $0.prefix(16) } == [
                "train:  42% 30/7", "train:  85% 60/7", "train: 100% 70/7",
            ])
        #expect(
            screen.text.allSatisfy {
                $0.hasSuffix("\n") && !$0.contains("\u{1B}") && !$0.contains("█")
            })
    }

    @Test func aSilentReporterWritesNothing() {
        let screen = Screen()
        let progress = reporter(.silent, screen)
        progress.begin("train", total: 1)
        progress.update(completed: 1)
        progress.message("hello")
        progress.finish()
        #expect(screen.text.isEmpty)
    }

    @Test func aMessageWipesTheBarAndDrawsItAgain() {
        let screen = Screen()
        let progress = reporter(.bar(isColored: true), screen)
        progress.begin("train", total: 2)
        progress.message("epoch 1")
        #expect(screen.text.count == 3)
        #expect(screen.text[1] == "\r\u{1B}[Kepoch 1\n")
        #expect(screen.text[2].contains("|\u{1B}[32m"))
    }

    @Test(arguments: [
        (0, false, true, [:], ProgressReporter.Style.bar(isColored: true)),
        (0, false, true, ["NO_COLOR": "1"], .bar(isColored: false)),
        (0, false, true, ["NO_COLOR": ""], .bar(isColored: true)),
        (0, false, true, ["TERM": "dumb"], .lines), (0, false, false, [:], .lines),
        (0, true, true, [:], .silent), (1, false, true, [:], .silent),
    ])
    func theStyleFollowsTerminalAndEnvironment(
        rank: Int, isQuiet: Bool, isTerminal: Bool, environment: [String: String],
        style: ProgressReporter.Style
    ) {
        #expect(
            ProgressReporter.style(
                rank: rank, isQuiet: isQuiet, isTerminal: isTerminal, environment: environment)
                == style)
    }
}

@Suite struct TextTests {
    @Test(arguments: [
        (UInt64(0), "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_949, "999.9 kB"),
        (999_950, "1.0 MB"), (12_400_000, "12.4 MB"), (UInt64.max, "18446.7 PB"),
    ])
    func bytesHaveAUnit(count: UInt64, expected: String) { #expect(Text.bytes(count) == expected) }

    @Test(arguments: [(0, "0"), (999, "999"), (1000, "1,000"), (-1_234_567, "-1,234,567")])
    func thousandsAreGrouped(value: Int, expected: String) {
        #expect(Text.grouped(value) == expected)
    }

    @Test(arguments: [
        (0.0, "00:00"), (59.9, "00:59"), (65, "01:05"), (3723, "1:02:03"), (.infinity, "?"),
        (.nan, "?"),
    ])
    func timesAreWrittenAsTqdmDoes(seconds: Double, expected: String) {
        #expect(Text.clock(seconds) == expected)
    }

    @Test(arguments: [
        (0, "0 µs"), (470, "0.47 µs"), (16_540, "16.5 µs"), (999_499, "999 µs"),
        (999_500, "1 ms"), (2_512_000, "2.51 ms"), (999_600_000, "1 s"), (3_200_000_000, "3.2 s"),
    ])
    func durationsHaveThreeDigits(nanoseconds: UInt64, expected: String) {
        #expect(Text.duration(nanoseconds) == expected)
    }

    @Test(arguments: [
        (0, "0"), (0.0712, "0.0712"), (0.99951, "1.00"), (7.5, "7.50"), (9.996, "10.0"),
        (81.34, "81.3"), (99.96, "100"), (813, "813"), (999.6, "1,000"), (51_200.4, "51,200"),
        (Double.infinity, "inf"),
    ])
    func ratesHaveThreeDigits(perSecond: Double, expected: String) {
        #expect(Text.rate(perSecond) == expected)
    }

    @Test(arguments: [
        ([], ""), ([1.0], "▁"), ([3, 3], "▁▁"), ([0, 7], "▁█"), ([2, .nan, 1], "█ ▁"),
        ([0, 1, 2, 3, 4, 5, 6, 7], "▁▂▃▄▅▆▇█"),
    ])
    func aSparklineSpansItsValues(values: [Double], expected: String) {
        #expect(Text.sparkline(values) == expected)
    }

    @Test func aLongSparklineIsAveragedToItsWidth() {
        #expect(Text.sparkline([0, 0, 7, 7, 3, 4], width: 3) == "▁█▅")
        #expect(Text.sparkline([Double](repeating: 1, count: 1000)).count == 40)
    }
}

@Suite struct TrainingSummaryTests {
    /// Worker 0 waits for a second of its four, most of it for worker 1.
    private static let sums =
        [3, 0, 0, 1, 4, 0, 4, 0, 0, 0, 4, 0] + [0, 0] + [0.8, 0] + [0, 0.8] + [0, 0.8]

    private let summary = TrainingSummary(
        steps: 1350, epochs: 15, trainLoss: 0.0123, testLoss: .nan, testAccuracy: 0.9805,
        samplesPerSecond: 41234.6, stallRatio: 0.031, bytesSent: 12_400_000,
        bytesReceived: 12_500_000, workers: 2, outputDirectory: "/r\"x", seconds: 3.21,
        epochLosses: [2, 1, 0.0123],
        stepReport: StepReport(sums: Self.sums),
        steady: .init(steps: 1347, samplesPerSecond: 42000, stallRatio: 0.03))

    @Test func theObjectHasStableKeysAndNoNumberJSONCannotSay() {
        #expect(
            summary.json.text == """
                {"schema":"geeps.train/1","steps":1350,"epochs":15.0,"train_loss":0.0123,\
                "test_loss":null,"test_accuracy":0.9805,"samples_per_second":41234.6,\
                "stall_ratio":0.031,\
                "steady":{"steps":1347,"samples_per_second":42000.0,"stall_ratio":0.03},"bytes_sent":12400000,"bytes_received":12500000,"workers":2,\
                "output":"/r\\"x","step_time":\(StepReport(sums: Self.sums).json.text),"memory":null}
                """)
    }

    @Test func reconnectsAreToldWhenThereWereAny() {
        var stormy = summary
        stormy.reconnects = 12
        stormy.outageSeconds = 0.5
        let end = ",\"memory\":null,\"reconnects\":12,\"reconnect_seconds\":0.5}"
        #expect(stormy.json.text.hasSuffix(end), "\(stormy.json.text)")
        let title = "digits.yaml, 2 workers"
        #expect(
            stormy.table(title: title, isColored: false)
                .contains("reconnects     12, without a connection for 0.5"))
        #expect(!summary.table(title: title, isColored: false).contains("reconnects"))
        #expect(!summary.json.text.contains("reconnect"))
    }

    @Test func theTableSaysWhatAPersonWantsToKnow() {
        let table = summary.table(title: "digits.yaml, 2 workers", isColored: false)
        for part in [
            "digits.yaml, 2 workers", "98.05 %", "█▄▁  2 → 0.0123",
            "15 epochs, 1,350 steps in 3.21 s",
            "41,235 samples/s", "3.1 %", "12.4 MB sent, 12.5 MB received",
            "compute 88 %, waiting for worker 1 10 %, network 2 %",
            "waiting for worker 1 takes 20 % of the others' step; without that 1.25x",
        ] {
            #expect(table.contains(part), "\(part) is missing in\n\(table)")
        }
        #expect(!table.contains("\u{1B}"))
    }
}
