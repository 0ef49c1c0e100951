/// A number shown behind the bar: "loss=0.312".
struct ProgressValue: Hashable, Sendable {
    var key: String
    var value: Double
}

/// One state of a progress display, in the order of tqdm's fields:
/// `desc: 100%|bar| n/total [elapsed<remaining, rate, key=val]`.
struct ProgressLine: Hashable, Sendable {
    var description: String
    var completed: Int
    var total: Int
    /// Seconds since the first unit began.
    var elapsed: Double
    var values: [ProgressValue] = []

    /// The line for a terminal of `columns`: the bar takes what the numbers leave, at most 40.
    ///
    /// Where that is less than ten, values are left out, the first ones first; a terminal too narrow for a
    /// bar gets the numbers, cut to its width.
    func bar(columns: Int) -> String {
        let left = "\(description): \(padded(percent))%|"
        for dropped in 0...values.count {
            let right = "| \(numbers(values.dropFirst(dropped)))"
            let room = min(40, columns - left.count - right.count - 1)
            guard room >= (dropped < values.count ? 10 : 3) else { continue }
            return left + Self.blocks(fraction: fraction, width: room) + right
        }
        return String(plain.prefix(max(0, columns - 1)))
    }

    /// The line without a bar, for logs.
    var plain: String { "\(description): \(padded(percent))% \(numbers(values[...]))" }

    private var fraction: Double {
        total > 0 ? min(1, max(0, Double(completed) / Double(total))) : 0
    }

    private var percent: Int { Int(fraction * 100) }

    private func padded(_ percent: Int) -> String {
        String(repeating: " ", count: 3 - "\(percent)".count) + "\(percent)"
    }

    private func numbers(_ values: ArraySlice<ProgressValue>) -> String {
        let rate = elapsed > 0 ? Double(completed) / elapsed : 0
        let remaining = rate > 0 ? Text.clock(Double(max(0, total - completed)) / rate) : "?"
        let fields =
            ["\(Text.clock(elapsed))<\(remaining)", Self.rate(rate)]
            + values.map { "\($0.key)=\(Text.significant($0.value, 3))" }
        return "\(completed)/\(total) [\(fields.joined(separator: ", "))]"
    }

    private static func rate(_ rate: Double) -> String {
        if rate <= 0 { return "?it/s" }
        if rate < 1 { return Text.fixed(1 / rate, 2) + "s/it" }
        return Text.fixed(rate, rate < 100 ? 2 : 0) + "it/s"
    }

    /// A bar of `width` cells, exact to an eighth.
    private static func blocks(fraction: Double, width: Int) -> String {
        let eighths = Int(fraction * Double(width * 8))
        let full = String(repeating: "█", count: eighths / 8)
        guard eighths / 8 < width else { return full }
        let part = Array(" ▏▎▍▌▋▊▉")[eighths % 8]
        return full + String(part) + String(repeating: " ", count: width - eighths / 8 - 1)
    }
}
