/// What went wrong on a device.
public struct DeviceError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Code: String, Sendable {
        /// The memory limit, or the memory itself, is used up.
        case outOfMemory
        /// A wait gave up at its deadline; what was waited for goes on.
        case deadline
        /// Work on a stream failed.
        case failed
        /// There is no such device here, or no driver or compiler for it that this program can use.
        case unavailable
        /// What was asked for names no device.
        case invalid
    }

    /// What kind of failure.
    public var code: Code
    /// What was being done and what answered, with the numbers.
    public var message: String

    /// A failure of kind `code`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message.
    public var description: String { message }
}
