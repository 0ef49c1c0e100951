import CGeePSShims
import GeePSCore
import Glibc

/// Shows how far a run is: a bar on a terminal, a line now and then in a log.
///
/// Rank 0's application thread uses it; on other ranks it is silent.
final class ProgressReporter {
    /// How progress is shown.
    enum Style: Hashable, Sendable {
        case silent
        /// A line every few seconds.
        case lines
        /// A bar that is redrawn in place.
        case bar(isColored: Bool)
    }

    /// Redrawn at most ten times a second.
    private static let barInterval: UInt64 = 100_000_000
    private static let lineInterval: UInt64 = 3_000_000_000

    private let style: Style
    private let columns: () -> Int
    private let now: () -> UInt64
    private let output: (String) -> Void
    private var line = ProgressLine(description: "", completed: 0, total: 0, elapsed: 0)
    private var begun: UInt64 = 0
    private var shown: UInt64?
    private var isBarDrawn = false

    /// A reporter.
    ///
    /// - Parameters:
    ///   - columns: width of the terminal, asked at each redraw.
    ///   - now: nanoseconds of a clock that never goes back.
    ///   - output: takes what is to be written.
    init(
        style: Style, columns: @escaping () -> Int = { 80 },
        now: @escaping () -> UInt64 = monotonicNanoseconds, output: @escaping (String) -> Void
    ) {
        self.style = style
        self.columns = columns
        self.now = now
        self.output = output
    }

    /// The reporter of this process on standard error.
    static func standard(rank: Int, isQuiet: Bool, environment: [String: String])
        -> ProgressReporter
    {
        let columns = { () -> Int in
            let columns = Int(geeps_terminal_columns(STDERR_FILENO))
            return columns > 0 ? columns : 80
        }
        return ProgressReporter(
            style: style(
                rank: rank, isQuiet: isQuiet, isTerminal: isatty(STDERR_FILENO) == 1,
                environment: environment),
            columns: columns, output: writeError)
    }

    /// How progress is shown: colours only where NO_COLOR is unset or empty (no-color.org).
    static func style(
        rank: Int, isQuiet: Bool, isTerminal: Bool, environment: [String: String]
    ) -> Style {
        if isQuiet || rank > 0 { return .silent }
        guard isTerminal, environment["TERM"] != "dumb" else { return .lines }
        return .bar(isColored: environment["NO_COLOR", default: ""].isEmpty)
    }

    /// Starts a stretch of `total` units; the clock of rate and remaining time starts here.
    func begin(_ description: String, total: Int) {
        line = ProgressLine(description: description, completed: 0, total: total, elapsed: 0)
        begun = now()
        // The first line of a log waits until there is something to say.
        shown = style == .lines ? begun : nil
        showIfDue()
    }

    /// Notes that `completed` units are done; draws only when it is time.
    func update(completed: Int, values: [ProgressValue] = []) {
        line.completed = completed
        if !values.isEmpty { line.values = values }
        showIfDue()
    }

    /// Another text before the bar, such as the epoch.
    func describe(_ description: String) { line.description = description }

    /// Shows the last state and leaves it on the screen.
    func finish() {
        guard line.total > 0, style != .silent else { return }
        show()
        if isBarDrawn { output("\n") }
        isBarDrawn = false
        line.total = 0
    }

    /// A line of its own, above the bar.
    func message(_ text: String) {
        guard style != .silent else { return }
        output((isBarDrawn ? "\r\u{1B}[K" : "") + text + "\n")
        if isBarDrawn { show() }
    }

    private func showIfDue() {
        guard style != .silent else { return }
        let interval = style == .lines ? Self.lineInterval : Self.barInterval
        if let shown, now() - shown < interval { return }
        show()
    }

    private func show() {
        shown = now()
        line.elapsed = Double((shown ?? begun) - begun) / 1e9
        switch style {
        case .silent: break
        case .lines: output(line.plain + "\n")
        case .bar(let isColored):
            let text = line.bar(columns: columns())
            output("\r" + (isColored ? Self.colored(text) : text) + "\u{1B}[K")
            isBarDrawn = true
        }
    }

    /// The bar in green; the text around it as it is.
    private static func colored(_ text: String) -> String {
        guard let first = text.firstIndex(of: "|"), let last = text.lastIndex(of: "|"), first < last
        else { return text }
        return text[...first] + "\u{1B}[32m" + text[text.index(after: first)..<last] + "\u{1B}[0m"
            + text[last...]
    }
}
