/// Bytes in use by phase; phases wrap round, since the iteration repeats.
///
/// Plain loops: with some hundred phases they beat a tree of maxima.
struct PhaseLoad {
    private(set) var bytes: [Int]

    init(phaseCount: Int) { bytes = Array(repeating: 0, count: phaseCount) }

    /// Largest load.
    var peak: Int { bytes.max() ?? 0 }

    /// Adds `amount` over `count` phases from `first`.
    mutating func add(_ amount: Int, first: Int, count: Int) {
        let (head, tail) = split(first, count)
        for phase in head { bytes[phase] += amount }
        for phase in tail { bytes[phase] += amount }
    }

    /// Largest load over `count` phases from `first`; zero for none.
    func peak(first: Int, count: Int) -> Int {
        let (head, tail) = split(first, count)
        var peak = 0
        for phase in head { peak = max(peak, bytes[phase]) }
        for phase in tail { peak = max(peak, bytes[phase]) }
        return peak
    }

    private func split(_ first: Int, _ count: Int) -> (Range<Int>, Range<Int>) {
        let phases = bytes.count
        let start = first < 0 ? first + phases : (first >= phases ? first - phases : first)
        let end = start + count
        return end <= phases ? (start..<end, 0..<0) : (start..<phases, 0..<(end - phases))
    }
}
