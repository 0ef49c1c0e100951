import GeePSMemory
import GeePSNN

/// A placement as a person and as a program read it.
struct PlanReport {
    /// The job file, as given.
    let file: String
    let network: Network
    /// Mini-batches in a clock.
    let batchesPerClock: Int
    let plan: NetworkPlan

    var job: String { file.split(separator: "/").last.map(String.init) ?? file }
    var placement: Placement { plan.placement }
    /// Without a budget what is taken: beside all that stays, buffers that let copies overlap.
    var budgetBytes: Int {
        plan.problem.budgetBytes ?? max(plan.fullBytes, placement.deviceBytes)
    }
    var samplesPerClock: Int { network.batchSize * batchesPerClock }

    /// Table, bars and totals.
    var text: String {
        let layers = PlanLayer.layers(of: network, placement)
        let batches = batchesPerClock > 1 ? "\(batchesPerClock) x \(network.batchSize)" : nil
        var lines = [
            "\(job): \(layers.count) layers, \(plan.steps.count) steps a clock, batch "
                + "\(batches ?? "\(network.batchSize)"), policy \(plan.problem.policy.rawValue)",
            "",
        ]
        lines += table(layers)
        lines += [
            "", "  █ stays on the device   ▒ copied in and out   ░ parameters on the host", "",
        ]
        lines += totals
        return lines.joined(separator: "\n") + "\n"
    }

    private func table(_ layers: [PlanLayer]) -> [String] {
        var rows = [
            ["layer", "parameters", "live on", "local data", "", "in/clock", "out/clock", ""]
        ]
        let most = layers.map(\.byteCount).max() ?? 1
        for layer in layers {
            rows.append([
                layer.name, Self.size(layer.parameterBytes), layer.cacheHome?.rawValue ?? "",
                Self.size(layer.localBytes), layer.localHome, Self.size(layer.bytesIn),
                Self.size(layer.bytesOut), Self.bar(layer, most: most),
            ])
        }
        return Columns.lines(rows, right: [1, 3, 5, 6])
    }

    private var totals: [String] {
        let share = Text.percent(Double(budgetBytes) / Double(max(1, plan.fullBytes)))
        let isLimited = plan.problem.budgetBytes != nil
        let local = placement.bytesOfLocalData
        var rows = [
            [
                "budget", isLimited ? memoryText(budgetBytes) : "none",
                isLimited
                    ? "\(share) of what keeping everything needs" : "as much as is of use",
            ],
            ["least", memoryText(plan.leastBytes), "the smallest budget that would do"],
            ["full", memoryText(plan.fullBytes), "keeps everything"],
            [
                "arena", memoryText(placement.arenaBytes),
                "of which \(memoryText(placement.peakBytes)) are in use at the peak",
            ],
            [
                "in", memoryText(placement.bytesIn),
                "a clock, fresh parameters included",
            ],
            ["out", memoryText(placement.bytesOut), "a clock, updates included"],
            ["swapping", memoryText(local), "of it, local data that does not stay"],
        ]
        if placement.singleBufferedCount > 0 {
            rows.append([
                "single", "\(placement.singleBufferedCount)",
                "of \(placement.stays.count) buffers have no room to be copied while others compute",
            ])
        }
        return Columns.lines(rows + speed, right: [1]) + hint
    }

    /// What the forecast says, and what runs twice for it.
    private var speed: [[String]] {
        guard let forecast = placement.forecast, let link = plan.problem.link else { return [] }
        let speed = Text.bytes(UInt64(link.bytesPerSecondIn))
        let again = plan.recomputedLayers
        var rows = [
            [
                "step", Text.duration(forecast.iterationNanoseconds),
                "predicted; \(Text.percent(1 - forecast.efficiency)) of it waits for copies at \(speed)/s",
            ],
            [
                "speed", Text.rate(forecast.samplesPerSecond(samplesPerClock)),
                "samples/s of one worker, predicted",
            ],
        ]
        if !again.isEmpty {
            rows.append([
                "again", "\(again.count)",
                "layers compute forward twice instead of copying: \(Self.list(again))",
            ])
        }
        return rows
    }

    /// What a forecast takes that is not there.
    private var hint: [String] {
        var missing: [String] = []
        if plan.problem.phaseNanoseconds.isEmpty {
            missing.append("the times of the layers (geeps bench layers \(file))")
        }
        if plan.problem.link == nil { missing.append("a link (--link 12GB/s)") }
        return missing.isEmpty
            ? [] : ["", "  A forecast takes " + missing.joined(separator: " and ") + "."]
    }

    /// The first few of `names`.
    private static func list(_ names: [String]) -> String {
        let rest = names.count - 8
        return names.prefix(rest > 1 ? 8 : 9).joined(separator: ", ")
            + (rest > 1 ? " and \(rest) more" : "")
    }

    /// As Figure 11 of GeePS: one bar a layer, its length what the layer needs.
    private static func bar(_ layer: PlanLayer, most: Int) -> String {
        let width = 28.0
        let cells = { (bytes: Int) in Int((Double(bytes) / Double(max(1, most)) * width).rounded())
        }
        let all = max(1, cells(layer.byteCount))
        let moving = min(all, cells(layer.movingBytes))
        let host = min(
            all - moving, layer.cacheHome == .host ? cells(layer.parameterBytes) : 0)
        return String(repeating: "█", count: all - moving - host)
            + String(repeating: "▒", count: moving) + String(repeating: "░", count: host)
    }

    private static func size(_ bytes: Int) -> String {
        bytes == 0 ? "-" : memoryText(bytes)
    }
}

/// Lays out a table.
enum Columns {
    /// Two spaces between columns; those in `right` end flush.
    static func lines(_ rows: [[String]], right: Set<Int>) -> [String] {
        let count = rows.map(\.count).max() ?? 0
        let widths = (0..<count).map { column in
            rows.map { column < $0.count ? $0[column].count : 0 }.max() ?? 0
        }
        return rows.map { row in
            var line = ""
            for (column, cell) in row.enumerated() {
                let padding = String(repeating: " ", count: widths[column] - cell.count)
                line += "  " + (right.contains(column) ? padding + cell : cell + padding)
            }
            while line.last == " " { line.removeLast() }
            return line
        }
    }
}
