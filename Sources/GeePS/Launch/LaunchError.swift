/// What kept a job from starting, or its control plane from answering.
public struct LaunchError: Error, Hashable, Sendable, CustomStringConvertible {
    /// What kind of failure it is; callers switch over this, people read the message.
    ///
    /// Numbers travel in refusals (docs/formats/control.md).
    public enum Code: UInt8, Sendable, CaseIterable {
        /// Somebody was not there in time.
        case timeout = 1
        /// Two processes claim one rank, or a rank is not in the job.
        case rank = 2
        /// Processes were started for jobs of different size.
        case worldSize = 3
        /// Layouts, optimiser or the like differ between processes.
        case disagreement = 4
        /// The address cannot be understood, listened on or reached.
        case address = 5
        /// A process of the job is gone, silent or has given up.
        case peerLost = 6
        /// Ranks called different collectives, or one with an argument the others cannot match.
        case mismatch = 7
        /// The membership has ended, here or at a rank that was waited for.
        case left = 8
        /// An argument is outside its limits.
        case argument = 9
        /// The operating system said no.
        case system = 10
        /// There is no job secret, or another one than the peer's.
        case secret = 11
        /// A certificate, this process's or a peer's, will not do, or only one side has TLS.
        case certificate = 12
    }

    /// What kind of failure.
    public var code: Code
    /// What was being done, by whom, and what would do.
    public var message: String

    /// A failure of kind `code`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}

/// "rank 3", "ranks 2 and 5", "ranks 1, 2 and 5"; a long list is cut.
func rankList(_ ranks: [Int]) -> String {
    let shown = ranks.prefix(16).map(String.init)
    let hidden = ranks.count - shown.count
    guard let last = shown.last else { return "no rank" }
    if shown.count == 1 { return "rank \(last)" }
    if hidden > 0 { return "ranks \(shown.joined(separator: ", ")) and \(hidden) more" }
    return "ranks \(shown.dropLast().joined(separator: ", ")) and \(last)"
}

/// "5.0 s", "60 s": one decimal below ten seconds.
func secondsText(nanoseconds: UInt64) -> String {
    let tenths = (nanoseconds + 50_000_000) / 100_000_000
    return tenths < 100 ? "\(tenths / 10).\(tenths % 10) s" : "\((tenths + 5) / 10) s"
}

extension Duration {
    /// Whole nanoseconds, zero for what is negative.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        guard seconds >= 0, attoseconds >= 0 else { return 0 }
        return UInt64(seconds) * 1_000_000_000 + UInt64(attoseconds / 1_000_000_000)
    }
}
