import ArgumentParser
import GeePS
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSNN
import Safetensors
import Glibc

/// What the process answers its caller: the codes of sysexits.h, so that schedulers and scripts can act.
enum CLIExit: Int32, Sendable, CaseIterable {
    case success = 0
    /// The command line is wrong.
    case usage = 64
    /// A job file, data set or weights file is wrong or missing.
    case badData = 65
    /// A peer, the rendezvous or a device cannot be reached, or a peer left.
    case unavailable = 69
    /// A mistake of ours.
    case internalError = 70
    /// A file or directory cannot be created or opened.
    case cannotOpen = 73
    /// Reading or writing failed.
    case inputOutput = 74
    /// Stopped in good order before the end; the same command continues.
    case preempted = 75
    /// Not allowed.
    case noPermission = 77

    /// What a code means, for messages.
    var meaning: String {
        switch self {
        case .success: "success"
        case .usage: "wrong command line"
        case .badData: "wrong job or data"
        case .unavailable: "peer, rendezvous or device unavailable"
        case .internalError: "internal error"
        case .cannotOpen: "cannot create or open a file"
        case .inputOutput: "input or output failed"
        case .preempted: "stopped early, run again to continue"
        case .noPermission: "not permitted"
        }
    }
}

/// A failure with the exit code that names its kind.
struct CLIError: Error, Hashable, Sendable, CustomStringConvertible {
    var code: CLIExit
    /// What was being done, what was found and what would do.
    var message: String

    /// A failure that ends the process with `code`.
    init(_ code: CLIExit, _ message: String) {
        self.code = code
        self.message = message
    }

    var description: String { message }
}

/// An end whose reasons have been printed already: of a supervised job, or a test.
struct SupervisedExit: Error, Hashable, Sendable {
    /// A code of ours, or 128 plus the signal that ended the job.
    var code: Int32
}

/// The one place that knows which error ends the process how.
enum ErrorReport {
    /// What to print, without prefix, and the code to exit with; nil for errors of the argument parser,
    /// which prints its own with the usage.
    static func make(_ error: any Error) -> (message: String, code: Int32)? {
        switch error {
        case let error as CLIError: (error.message, error.code.rawValue)
        case let error as JobProblems: (error.description, CLIExit.badData.rawValue)
        case let error as SupervisedExit: ("", error.code)
        case let error as TransportError: ("\(error)", exit(for: error.code).rawValue)
        case let error as NNError: (error.message, exit(for: error.code).rawValue)
        case let error as SafetensorsError: (error.message, CLIExit.badData.rawValue)
        case let error as LaunchError: (error.message, exit(for: error.code).rawValue)
        case let error as PlanRefusal: (error.message, CLIExit.badData.rawValue)
        case let error as DeviceError: (error.message, exit(for: error.code).rawValue)
        case let error as AccessError: (error.message, exit(for: error.code).rawValue)
        default: other(error)
        }
    }

    /// The kind of exit of a failed exchange with another process.
    static func exit(for code: TransportError.Code) -> CLIExit {
        switch code {
        case .closed, .lost, .deadline, .unreachable, .refused: .unavailable
        case .malformed: .internalError
        case .certificate: .noPermission
        case .system: .inputOutput
        }
    }

    /// The kind of exit of a job that could not start or go on together.
    static func exit(for code: LaunchError.Code) -> CLIExit {
        switch code {
        case .timeout, .address, .peerLost, .left: .unavailable
        case .rank, .worldSize, .disagreement: .badData
        case .mismatch, .argument, .system: .internalError
        case .secret, .certificate: .noPermission
        }
    }

    /// The kind of exit when the parameter server could not lend a buffer.
    static func exit(for code: AccessError.Code) -> CLIExit {
        switch code {
        case .peerLost, .deadline, .closed: .unavailable
        case .budgetTooSmall: .badData
        case .outOfMemory, .protocolViolation, .deviceFailed, .contentLost: .internalError
        }
    }

    /// The kind of exit of a device that is not there or does not do what it should.
    static func exit(for code: DeviceError.Code) -> CLIExit {
        switch code {
        case .unavailable, .deadline: .unavailable
        case .invalid: .badData
        case .outOfMemory, .failed: .internalError
        }
    }

    /// The kind of exit of a failure in model or data.
    static func exit(for code: NNError.Code) -> CLIExit {
        switch code {
        case .model, .format, .data, .file: .badData
        case .kernel: .internalError
        case .unavailable: .unavailable
        }
    }

    private static func other(_ error: any Error) -> (message: String, code: Int32)? {
        // The parser answers "failure" for every error that is not its own.
        if GeepsCommand.exitCode(for: error) != ExitCode.failure { return nil }
        return ("\(error)", CLIExit.internalError.rawValue)
    }

    /// Prints why and ends the process.
    static func end(with error: any Error) -> Never {
        guard let (message, code) = make(error) else { GeepsCommand.exit(withError: error) }
        if !message.isEmpty {
            let isList = error is JobProblems
            writeError(isList ? message + "\n" : "geeps: \(message)\n")
        }
        Glibc.exit(code)
    }
}
