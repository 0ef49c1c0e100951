import GeePSCore
import CGeePSShims

/// Statuses by the names that `CUresult` gives them.
enum Status {
    static let success = Int32(GEEPS_CU_SUCCESS)
    static let invalidValue = Int32(GEEPS_CU_INVALID_VALUE)
    static let outOfMemory = Int32(GEEPS_CU_OUT_OF_MEMORY)
    static let notInitialized = Int32(GEEPS_CU_NOT_INITIALIZED)
    static let invalidDevice = Int32(GEEPS_CU_INVALID_DEVICE)
    static let invalidImage = Int32(GEEPS_CU_INVALID_IMAGE)
    static let invalidContext = Int32(GEEPS_CU_INVALID_CONTEXT)
    static let noBinaryForGPU: Int32 = 209
    static let invalidHandle = Int32(GEEPS_CU_INVALID_HANDLE)
    static let notFound = Int32(GEEPS_CU_NOT_FOUND)
    static let notReady = Int32(GEEPS_CU_NOT_READY)
    static let illegalAddress = Int32(GEEPS_CU_ILLEGAL_ADDRESS)
    static let notPermitted: Int32 = 800
}

/// A call that does not succeed.
struct Refusal: Error {
    var status: Int32
}

/// A call of a driver's function that is going on, under the emulator's lock.
struct DriverCall {
    /// What must have been done before a function may be called.
    enum Need { case nothing, initialisation, context }

    let emulator: CUDAEmulator
    let function: String
    /// The calling thread's current context.
    let context: ContextObject?

    var state: EmulatorState { emulator.state }

    /// A refusal without a finding: a program must expect it.
    func fail(_ status: Int32) -> Refusal { Refusal(status: status) }

    /// A refusal that a correct program does not meet.
    func refuse(_ status: Int32, _ why: String) -> Refusal {
        state.findings.append("\(function): \(why)")
        return Refusal(status: status)
    }

    /// The current context, which the function needs.
    func currentContext() throws(Refusal) -> ContextObject {
        guard let context else { throw refuse(Status.invalidContext, "no context is current") }
        return context
    }

    /// The stream of that handle, which must belong to the current context.
    func stream(_ handle: OpaquePointer?) throws(Refusal) -> StreamObject {
        guard let handle else {
            guard emulator.configuration.hasForeignCode else {
                throw refuse(Status.invalidHandle, "the default stream is not to be used")
            }
            return try defaultStream()
        }
        guard let stream = state.streams[handle] else {
            throw refuse(Status.invalidHandle, "\(handle) is no living stream")
        }
        guard stream.context == context?.handle else {
            throw refuse(
                Status.invalidContext, "\(stream.name) belongs to another context than the current")
        }
        return stream
    }

    /// The event of that handle.
    func living(_ handle: OpaquePointer?) throws(Refusal) -> EventObject {
        guard let handle, let event = state.events[handle] else {
            throw refuse(Status.invalidHandle, "\(name(handle)) is no living event")
        }
        return event
    }

    func name(_ handle: OpaquePointer?) -> String { handle.map { "\($0)" } ?? "null" }

    func out<T>(_ pointer: UnsafeMutablePointer<T>?) throws(Refusal) -> UnsafeMutablePointer<T> {
        guard let pointer else {
            throw refuse(Status.invalidValue, "there is no place for the result: null")
        }
        return pointer
    }
}

extension CUDAEmulator {
    /// Waits outside the lock for what a call started; returns the call's status.
    typealias Wait = () -> Int32

    /// One call of a driver's function, from C.
    static func call(
        _ function: String, needs need: DriverCall.Need = .context,
        _ body: (DriverCall) throws(Refusal) -> Void
    ) -> Int32 {
        callAndWait(function, needs: need) { call throws(Refusal) in
            try body(call)
            return nil
        }
    }

    /// One call of a driver's function that may wait, from C.
    static func callAndWait(
        _ function: String, needs need: DriverCall.Need = .context,
        _ body: (DriverCall) throws(Refusal) -> Wait?
    ) -> Int32 {
        guard let emulator = current else { return Status.notInitialized }
        return emulator.call(function, needs: need, counts: true, body)
    }

    func call(
        _ function: String, needs need: DriverCall.Need, counts: Bool,
        _ body: (DriverCall) throws(Refusal) -> Wait?
    ) -> Int32 {
        if counts, let failure = begin(function) { return failure }
        let (status, wait) = lock.withLock { () -> (Int32, Wait?) in
            do throws(Refusal) {
                let call = try prepare(function, needs: need)
                return (Status.success, try body(call))
            } catch {
                return (error.status, nil)
            }
        }
        return wait?() ?? status
    }

    private func prepare(
        _ function: String, needs need: DriverCall.Need
    ) throws(Refusal) -> DriverCall {
        let handle = ThreadState.context
        let context = handle.flatMap { state.contexts[$0] }
        let call = DriverCall(emulator: self, function: function, context: context)
        if let running = ThreadState.operation {
            throw call.refuse(
                Status.notPermitted, "called by a host function, \(running.description)")
        }
        guard need != .nothing else { return call }
        guard state.isInitialised else {
            throw call.refuse(Status.notInitialized, "called before cuInit")
        }
        if let breakdown = state.breakdown { throw call.fail(breakdown) }
        if need == .context && context == nil {
            throw call.refuse(
                Status.invalidContext,
                handle == nil
                    ? "no context is current on this thread"
                    : "the context current on this thread is not alive")
        }
        return call
    }
}
