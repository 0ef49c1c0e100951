/// What went wrong in a network, a data set or a kernel.
public struct NNError: Error, Sendable, Hashable, CustomStringConvertible {
    /// What kind of failure it is; callers switch over this, people read the message.
    public enum Code: String, Sendable {
        /// The model cannot be built: a shape that does not fit, a name twice, a number out of range.
        case model
        /// The kernel library refused or failed.
        case kernel
        /// A data file is missing or cannot be read.
        case file
        /// A data file's bytes are not what its format says.
        case format
        /// The data does not suit the job: too few samples, a label the model has no output for.
        case data
        /// A library that computes layers is not on this machine.
        case unavailable
    }

    /// What kind of failure.
    public var code: Code
    /// What was being done, to what, what was found and what was expected.
    public var message: String

    /// A failure of kind `code`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
