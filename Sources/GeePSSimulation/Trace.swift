/// What a line of a trace is about.
enum Mark: UInt8 {
    case connect, welcomed, lost, late, oldGeneration, workerNotices, keeperNotices
    case hello, initialise, push, rows
    case read, waitsToRead, waitsForLog, commit, completed
    case fold, hold, apply, publish
    case fault, dies, rollsBack
}

/// One thing that happened; what the numbers mean depends on the mark.
struct TraceLine {
    var time: UInt64
    var mark: Mark
    var worker: Int
    var keeper: Int
    var block: Int
    var tick: UInt64

    /// Whether `block` is the index of a table.
    private var isOfTable: Bool {
        mark == .commit || mark == .waitsToRead || mark == .waitsForLog
    }

    /// One line, absent numbers left out.
    var text: String {
        var text = "\(time) µs  \(mark)"
        if worker >= 0 { text += " worker \(worker)" }
        if keeper >= 0 { text += " keeper \(keeper)" }
        if mark == .fault, let fault = Fault(rawValue: Int(tick)) { return text + " \(fault)" }
        if block >= 0 { text += isOfTable ? " table \(block)" : " block \(block)" }
        if tick != .max { text += " tick \(tick)" }
        return text
    }
}

/// The hash of everything that happened and the last few lines of it.
struct Trace {
    /// FNV-1a with 64 bits, taken over words instead of bytes.
    private(set) var hash = FNV1a()
    private var lines: [TraceLine] = []
    private let keptCount: Int
    private var lineCount = 0

    init(keeping keptCount: Int) { self.keptCount = keptCount }

    mutating func add(
        _ mark: Mark, at time: UInt64, worker: Int, keeper: Int, block: Int, tick: UInt64
    ) {
        hash.add(time)
        let places = UInt64(UInt16(truncatingIfNeeded: block)) << 16 | UInt64(mark.rawValue) << 8
        let ranks = UInt64(truncatingIfNeeded: (worker + 1) << 4 | (keeper + 1))
        hash.add(tick << 32 | places | ranks)
        guard keptCount > 0 else { return }
        let line = TraceLine(
            time: time, mark: mark, worker: worker, keeper: keeper, block: block, tick: tick)
        if lines.count < keptCount {
            lines.append(line)
        } else {
            lines[lineCount % keptCount] = line
        }
        lineCount += 1
    }

    /// The last lines, oldest first.
    var lastLines: [String] {
        guard lines.count == keptCount, keptCount > 0 else { return lines.map(\.text) }
        let start = lineCount % keptCount
        return (lines[start...] + lines[..<start]).map(\.text)
    }
}

/// Fowler, Noll and Vo's hash 1a with 64 bits, a word at a time; the shift lets high bits reach low ones.
struct FNV1a {
    private(set) var value: UInt64 = 0xcbf2_9ce4_8422_2325

    mutating func add(_ word: UInt64) {
        value = (value ^ word) &* 0x100_0000_01b3
        value ^= value >> 32
    }
}
