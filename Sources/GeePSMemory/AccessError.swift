/// Why the parameter server could not lend a buffer.
public struct AccessError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is.
    public enum Code: String, Sendable {
        /// A process of the job is gone.
        case peerLost
        /// A wait reached its deadline.
        case deadline
        /// No placement fits the budget for device memory.
        case budgetTooSmall
        /// The device has no room.
        case outOfMemory
        /// Copies or kernels failed on the device.
        case deviceFailed
        /// Content that was to survive is gone, because the plan said that nobody would fetch it.
        case contentLost
        /// The client was closed.
        case closed
        /// A peer sent what the protocol forbids.
        case protocolViolation
    }

    /// What kind of failure.
    public var code: Code
    /// What was being done, to whom, and what answered.
    public var message: String

    /// A failure of kind `code`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message a person reads.
    public var description: String { message }
}
