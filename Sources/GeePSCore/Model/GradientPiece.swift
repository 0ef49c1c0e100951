/// Some values of a table's gradient, in memory of the caller's.
///
/// What no piece of an update covers is zero.
public struct GradientPiece: @unchecked Sendable {
    // Sendable: the memory is the caller's until the call that it is given to returns.

    /// The first value.
    public let values: UnsafePointer<Float>
    /// Where in the table they go.
    public let range: Range<Int>

    /// Values that go to `range` of the table.
    public init(values: UnsafePointer<Float>, range: Range<Int>) {
        self.values = values
        self.range = range
    }
}
