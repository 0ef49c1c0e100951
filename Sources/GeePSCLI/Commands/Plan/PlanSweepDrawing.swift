import GeePSMemory
import Glibc

/// The curve of a sweep as SVG; colours that print in grey and differ for every eye.
struct PlanSweepDrawing {
    private let sweep: PlanSweep
    private let title: String
    private let width = 720.0
    private let height = 420.0
    private let left = 96.0
    private let right = 24.0
    private let top = 56.0
    private let bottom = 64.0

    init(_ sweep: PlanSweep, title: String) {
        self.sweep = sweep
        self.title = title
        most = sweep.isOfSpeed ? 4 * Self.roundNumber(above: sweep.most / 4) : sweep.most
    }

    /// The document.
    var svg: String {
        var lines = [
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 720 420\" width=\"720\" "
                + "height=\"420\" font-family=\"sans-serif\" font-size=\"13\" fill=\"#24292f\">",
            "<rect width=\"720\" height=\"420\" fill=\"#ffffff\"/>",
            text(
                left, 26, "\(Self.escaped(title)): \(sweep.quantity), by device memory",
                size: 15),
        ]
        lines += axes
        lines += curve(sweep.points.map { sweep.values($0).paper }, color: "#8c6d1f", dash: "6 4")
        lines += curve(sweep.points.map { sweep.values($0).ours }, color: "#0b5fa5", dash: nil)
        lines += legend
        lines.append("</svg>")
        return lines.joined(separator: "\n") + "\n"
    }

    /// Where the upper axis ends: of speeds, four steps of a round number.
    private let most: Double

    private func x(_ budget: Double) -> Double {
        let span = Double(max(1, sweep.fullBytes - sweep.leastBytes))
        return left + (budget - Double(sweep.leastBytes)) / span * (width - left - right)
    }

    private func y(_ value: Double) -> Double {
        height - bottom - value / most * (height - top - bottom)
    }

    private var axes: [String] {
        var lines: [String] = []
        for tick in 0...4 {
            let value = most * Double(tick) / 4
            let level = y(value)
            lines.append(line(left, level, width - right, level, "#d0d7de"))
            lines.append(text(left - 8, level + 4, sweep.label(value), anchor: "end"))
            let share = Double(tick) / 4
            let budget =
                Double(sweep.leastBytes) + share * Double(sweep.fullBytes - sweep.leastBytes)
            lines.append(
                line(x(budget), height - bottom, x(budget), height - bottom + 5, "#57606a"))
            let anchor = tick == 4 ? "end" : "middle"
            lines.append(
                text(x(budget), height - bottom + 20, memoryText(Int(budget)), anchor: anchor))
        }
        lines.append(
            text((left + width - right) / 2, height - 16, "device memory", anchor: "middle"))
        return lines
    }

    private func curve(_ values: [Double], color: String, dash: String?) -> [String] {
        let places = zip(sweep.points, values).map { point, value in
            (x(Double(point.budgetBytes)), y(value))
        }
        let path = places.map { "\(Text.fixed($0.0, 1)),\(Text.fixed($0.1, 1))" }
            .joined(separator: " ")
        let dashes = dash.map { " stroke-dasharray=\"\($0)\"" } ?? ""
        return [
            "<polyline points=\"\(path)\" fill=\"none\" stroke=\"\(color)\" stroke-width=\"2.5\"\(dashes)/>"
        ]
    }

    private var legend: [String] {
        [
            line(width - 250, 46, width - 222, 46, "#0b5fa5", 2.5),
            text(width - 216, 50, "benefit"),
            line(width - 150, 46, width - 122, 46, "#8c6d1f", 2.5, dash: "6 4"),
            text(width - 116, 50, "paper's policy"),
        ]
    }

    private func line(
        _ x1: Double, _ y1: Double, _ x2: Double, _ y2: Double, _ color: String,
        _ thickness: Double = 1, dash: String? = nil
    ) -> String {
        let places = [("x1", x1), ("y1", y1), ("x2", x2), ("y2", y2)]
            .map { "\($0.0)=\"\(Text.fixed($0.1, 1))\"" }.joined(separator: " ")
        let dashes = dash.map { " stroke-dasharray=\"\($0)\"" } ?? ""
        return "<line \(places) stroke=\"\(color)\" stroke-width=\"\(thickness)\"\(dashes)/>"
    }

    private func text(
        _ x: Double, _ y: Double, _ value: String, anchor: String = "start", size: Int = 13
    ) -> String {
        "<text x=\"\(Text.fixed(x, 1))\" y=\"\(Text.fixed(y, 1))\" text-anchor=\"\(anchor)\" "
            + "font-size=\"\(size)\">\(value)</text>"
    }

    /// The least of 1, 2, 2.5 and 5 times a power of ten that is not below `value`.
    private static func roundNumber(above value: Double) -> Double {
        let power = pow(10, floor(log10(value)))
        return [1, 2, 2.5, 5].map { $0 * power }.first { $0 >= value } ?? 10 * power
    }

    private static func escaped(_ text: String) -> String {
        var result = ""
        for character in text {
            switch character {
            case "&": result += "&amp;"
            case "<": result += "&lt;"
            case ">": result += "&gt;"
            default: result.append(character)
            }
        }
        return result
    }
}
