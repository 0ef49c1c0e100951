import Glibc

/// Numbers as people read them, in no locale: a point, and commas between thousands.
enum Text {
    /// `value` with `places` digits after the point.
    static func fixed(_ value: Double, _ places: Int) -> String { printf("%.\(places)f", value) }

    /// `value` with `digits` significant digits, as printf's %g.
    static func significant(_ value: Double, _ digits: Int) -> String {
        printf("%.\(digits)g", value)
    }

    /// "98.1 %" of a ratio.
    static func percent(_ ratio: Double, _ places: Int = 1) -> String {
        fixed(ratio * 100, places) + " %"
    }

    /// "1,234,567".
    static func grouped(_ value: Int) -> String {
        let digits = Array("\(value.magnitude)")
        var result = value < 0 ? "-" : ""
        for (index, digit) in digits.enumerated() {
            if index > 0 && (digits.count - index) % 3 == 0 { result.append(",") }
            result.append(digit)
        }
        return result
    }

    /// "12.4 MB"; thousands, as networks count.
    static func bytes(_ count: UInt64) -> String {
        let units = ["kB", "MB", "GB", "TB", "PB"]
        guard count >= 1000 else { return "\(count) B" }
        var value = Double(count) / 1000
        var unit = 0
        // 999.95 would be printed as 1000.0.
        while value >= 999.95 && unit + 1 < units.count {
            value /= 1000
            unit += 1
        }
        return fixed(value, 1) + " " + units[unit]
    }

    /// "01:05" or "1:02:03", as tqdm writes a time.
    static func clock(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 0, seconds < 1e9 else { return "?" }
        let whole = Int(seconds)
        let pair = { (value: Int) in value < 10 ? "0\(value)" : "\(value)" }
        let tail = "\(pair(whole / 60 % 60)):\(pair(whole % 60))"
        return whole >= 3600 ? "\(whole / 3600):\(tail)" : tail
    }

    /// "3.2 s", "1 min 5 s".
    static func seconds(_ seconds: Double) -> String {
        guard seconds.isFinite, seconds >= 60, seconds < 1e9 else {
            return significant(seconds, 3) + " s"
        }
        let whole = Int(seconds.rounded())
        return whole < 3600
            ? "\(whole / 60) min \(whole % 60) s" : "\(whole / 3600) h \(whole / 60 % 60) min"
    }

    /// "41.3 µs", "2.51 ms", "3.2 s".
    static func duration(_ nanoseconds: UInt64) -> String {
        let value = Double(nanoseconds)
        // 999.5 would be printed as 1e+03.
        if value < 999.5e3 { return significant(value / 1e3, 3) + " µs" }
        return value < 999.5e6 ? significant(value / 1e6, 3) + " ms" : seconds(value / 1e9)
    }

    /// "0.0712", "7.50", "81.3", "51,200": three digits, or all that are before the point.
    static func rate(_ perSecond: Double) -> String {
        switch abs(perSecond) {
        case 0.9995..<9.995: fixed(perSecond, 2)
        case 9.995..<99.95: fixed(perSecond, 1)
        case 999.5..<1e15: grouped(Int(perSecond.rounded()))
        default: significant(perSecond, 3)
        }
    }

    /// A bar for each value, scaled between the least and the largest.
    ///
    /// At most `width` bars, each the mean of its share; one that is not finite is a gap.
    static func sparkline(_ values: [Double], width: Int = 40) -> String {
        let bars = Array("▁▂▃▄▅▆▇█")
        let count = min(values.count, max(1, width))
        let means = (0..<count).map { index in
            let share = values[
                (index * values.count / count)..<((index + 1) * values.count / count)]
            return share.reduce(0, +) / Double(share.count)
        }
        let finite = means.filter(\.isFinite)
        guard let least = finite.min(), let most = finite.max() else {
            return String(repeating: " ", count: means.count)
        }
        return String(
            means.map { mean in
                guard mean.isFinite else { return " " }
                guard most > least else { return bars[0] }
                return bars[Int(((mean - least) / (most - least) * 7).rounded())]
            })
    }

    private static func printf(_ format: String, _ value: Double) -> String {
        // Without the sign that C may print.
        if value.isNaN { return "nan" }
        var buffer = [CChar](repeating: 0, count: 400)
        let count = withVaList([value]) { vsnprintf(&buffer, buffer.count, format, $0) }
        return String(
            decoding: buffer.prefix(Int(count)).map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }
}
