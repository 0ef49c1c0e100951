/// Device memory as a person gives it: bytes, or a share of what keeping everything needs.
enum MemoryBudget: Hashable, Sendable {
    case bytes(Int)
    /// Between 0 and 1, or more.
    case share(Double)

    /// "512MiB", "1.5GB", "4096", "35%"; nil for anything else.
    init?(_ text: String) {
        let letters = text.drop { "0123456789.".contains($0) }
        let digits = text.dropLast(letters.count)
        guard let number = Double(digits), number.isFinite else { return nil }
        let unit = letters.drop { $0 == " " }.lowercased()
        if unit == "%" {
            self = .share(number / 100)
            return
        }
        guard let factor = Self.units.first(where: { $0.name == unit })?.bytes else { return nil }
        let bytes = number * factor
        guard bytes < 0x1p60 else { return nil }
        self = .bytes(Int(bytes.rounded()))
    }

    /// Whether it is more than nothing.
    var isPositive: Bool {
        switch self {
        case .bytes(let count): count > 0
        case .share(let share): share > 0
        }
    }

    /// The text that `init` reads back.
    var text: String {
        switch self {
        case .bytes(let count): "\(count)"
        case .share(let share): "\(share * 100)%"
        }
    }

    /// What it is where keeping everything needs `fullBytes`.
    func byteCount(ofFull fullBytes: Int) -> Int {
        switch self {
        case .bytes(let count): count
        case .share(let share): Int((Double(fullBytes) * share).rounded(.up))
        }
    }

    private static let units: [(name: String, bytes: Double)] = [
        ("", 1), ("b", 1), ("kb", 1e3), ("mb", 1e6), ("gb", 1e9), ("tb", 1e12), ("kib", 0x1p10),
        ("mib", 0x1p20), ("gib", 0x1p30), ("tib", 0x1p40),
    ]
}
