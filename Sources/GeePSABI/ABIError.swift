internal import CGeePS
internal import GeePS

/// What a call answers when it fails: a number of `geeps_status`, and the message for `geeps_last_error`.
struct ABIError: Error {
    let status: geeps_status
    let message: String

    init(_ status: geeps_status, _ message: String) {
        self.status = status
        self.message = message
    }

    /// The caller's mistake.
    static func argument(_ message: String) -> ABIError { ABIError(GEEPS_ARGUMENT, message) }

    init(_ error: AccessError) {
        let status =
            switch error.code {
            case .peerLost: GEEPS_PEER_LOST
            case .deadline: GEEPS_DEADLINE
            case .budgetTooSmall: GEEPS_BUDGET_TOO_SMALL
            case .outOfMemory: GEEPS_OUT_OF_MEMORY
            case .deviceFailed: GEEPS_DEVICE_FAILED
            case .contentLost: GEEPS_CONTENT_LOST
            case .closed: GEEPS_CLOSED
            case .protocolViolation: GEEPS_PROTOCOL
            }
        self.init(status, error.message)
    }

    init(_ error: LaunchError) {
        let status =
            switch error.code {
            case .timeout: GEEPS_JOIN_TIMEOUT
            case .rank: GEEPS_RANK
            case .worldSize: GEEPS_WORLD_SIZE
            case .disagreement: GEEPS_DISAGREEMENT
            case .address: GEEPS_ADDRESS
            case .peerLost: GEEPS_PEER_LOST
            case .mismatch: GEEPS_MISMATCH
            case .left: GEEPS_LEFT
            case .argument: GEEPS_ARGUMENT
            case .system: GEEPS_SYSTEM
            case .secret: GEEPS_SECRET
            case .certificate: GEEPS_CERTIFICATE
            }
        self.init(status, error.message)
    }
}

extension geeps_status {
    /// As functions return it.
    var code: Int32 { Int32(bitPattern: rawValue) }
}

/// Runs `body` and keeps its error for this thread's `geeps_last_error`.
func answering(_ body: () throws(ABIError) -> Void) -> Int32 {
    do throws(ABIError) {
        try body()
        return GEEPS_OK.code
    } catch {
        geeps_keep_error(error.message)
        return error.status.code
    }
}

/// What `body` returns; its error as one of this interface.
func accessing<R: ~Copyable>(_ body: () throws(AccessError) -> R) throws(ABIError) -> R {
    do throws(AccessError) { return try body() } catch { throw ABIError(error) }
}

/// What `body` returns; its error as one of this interface.
func launching<R>(_ body: () throws(LaunchError) -> R) throws(ABIError) -> R {
    do throws(LaunchError) { return try body() } catch { throw ABIError(error) }
}

/// What a pointer points to.
func required<T>(_ pointer: T?, _ name: String) throws(ABIError) -> T {
    guard let pointer else { throw .argument("\(name) is null") }
    return pointer
}
