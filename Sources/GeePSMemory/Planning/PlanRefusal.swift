/// Why no placement exists, and what would do.
public struct PlanRefusal: Error, Hashable, Sendable, CustomStringConvertible {
    /// Kinds of refusal.
    public enum Code: String, Hashable, Sendable {
        /// The budget is below the least one.
        case budgetTooSmall
        /// The accesses are not an iteration: acquires and releases do not pair up.
        case malformed
    }

    /// Which kind.
    public var code: Code
    /// The whole reason in a sentence.
    public var message: String
    /// The step that needs most; nil for `.malformed`.
    public var phaseName: String?
    /// Bytes that step needs at the same time.
    public var phaseBytes = 0
    /// What was given.
    public var budgetBytes = 0
    /// The least budget that is accepted.
    public var leastBytes = 0
    /// Largest batch that would fit; nil where unknown or none would.
    public var fittingBatchSize: Int?

    /// The message a person reads.
    public var description: String { message }

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    static func malformed(_ message: String) -> PlanRefusal {
        PlanRefusal(.malformed, "the iteration cannot be planned: \(message)")
    }
}
