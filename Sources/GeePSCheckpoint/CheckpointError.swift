import Glibc

/// Why a checkpoint could not be written or read.
public struct CheckpointError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The kind of a failure.
    public enum Code: Hashable, Sendable {
        /// The system refused.
        case inputOutput
        /// Not what was once written: incomplete, or changed since.
        case damaged
        /// Whole, but of another job.
        case mismatch
    }

    /// What went wrong.
    public let code: Code
    /// What was being done and what was found.
    public let message: String

    /// An error of kind `code` that reads `message`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }

    /// The error of the system call that has just failed.
    static func system(_ action: String) -> CheckpointError {
        CheckpointError(.inputOutput, "\(action): \(String(cString: strerror(errno)))")
    }
}
