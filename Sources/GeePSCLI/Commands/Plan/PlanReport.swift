import GeePSMemory
import GeePSNN

/// A placement as a person and as a program read it.
struct PlanReport {
    let job: String
    let policy: PlanPolicy
    let budgetBytes: Int
    let network: Network
    let planner: PlacementPlanner
    let placement: Placement

    /// Table, bars and totals.
    var text: String {
        let layers = PlanLayer.layers(of: network, placement)
        var lines = [
            "\(job): \(layers.count) layers, \(network.steps.count) steps a clock, batch "
                + "\(network.batchSize), policy \(policy.rawValue)", "",
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
        let share = Text.percent(Double(budgetBytes) / Double(max(1, planner.fullBytes)))
        let local = placement.bytesOfLocalData
        var rows = [
            [
                "budget", memoryText(budgetBytes),
                "\(share) of what keeping everything needs",
            ],
            ["least", memoryText(planner.leastBytes), "the smallest budget that would do"],
            ["full", memoryText(planner.fullBytes), "keeps everything"],
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
        return Columns.lines(rows, right: [1])
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
