import CGeePSShims
import GeePSCore
import Glibc

/// A UCX worker and its one endpoint: the calls of one lane.
///
/// Its owner's lock is held in every call but `init`; UCX does nothing outside of them.
final class UCXWorker {
    /// What UCX was asked to send or receive and has not done yet.
    typealias Request = UnsafeMutableRawPointer

    /// A message id of ours.
    enum Message: UInt32 {
        case frame = 0
        case credit = 1
    }

    /// Readable when there may be something to do, after `arm`.
    let eventDescriptor: Int32
    /// What UCX said about the endpoint, once it has failed.
    private(set) var failure: String?

    private let library: UCXLibrary
    private let worker: OpaquePointer
    private var endpoint: OpaquePointer?
    private var endsByPeer = true
    /// Whom UCX calls back; it must outlive the worker.
    private var receiver: AnyObject?
    /// How long an endpoint may take to let go of what it was sending.
    private static let patience = Duration.seconds(5)
    /// The same where it first finishes what it was sending, which nobody may be there to take.
    private static let patienceInMemory = Duration.milliseconds(100)

    /// Makes a worker that nobody can reach yet.
    ///
    /// - Throws: `.system` when UCX has no transport or no memory.
    init(_ library: UCXLibrary) throws(TransportError) {
        self.library = library
        var params = geeps_ucx_worker_params()
        params.field_mask = mask(GEEPS_UCX_WORKER_THREAD_MODE)
        params.thread_mode = UInt32(GEEPS_UCX_THREADS_SERIALIZED)
        var made: OpaquePointer?
        let status = library.functions.ucp_worker_create(library.context, &params, &made)
        guard Int(status) == GEEPS_UCX_OK, let made else {
            throw Self.error(library, "make a worker", status)
        }
        var descriptor: Int32 = -1
        let answer = library.functions.ucp_worker_get_efd(made, &descriptor)
        guard Int(answer) == GEEPS_UCX_OK else {
            library.functions.ucp_worker_destroy(made)
            throw Self.error(library, "get a worker's event descriptor", answer)
        }
        worker = made
        eventDescriptor = descriptor
    }

    deinit {
        closeEndpoint()
        library.functions.ucp_worker_destroy(worker)
    }

    private static func error(
        _ library: UCXLibrary, _ action: String, _ status: geeps_ucx_status
    ) -> TransportError {
        TransportError(
            .system, "UCX: \(action): \(UCXLibrary.describe(status, library.functions))")
    }

    /// Whether there is an endpoint.
    var isOpen: Bool { endpoint != nil }

    /// UCX's words for a failed `status`.
    func describe(_ status: geeps_ucx_status) -> String {
        UCXLibrary.describe(status, library.functions)
    }

    // MARK: Connecting

    /// What the other side needs to reach this worker.
    func address() throws(TransportError) -> [UInt8] {
        var address: OpaquePointer?
        var count = 0
        let status = library.functions.ucp_worker_get_address(worker, &address, &count)
        guard Int(status) == GEEPS_UCX_OK, let address else {
            throw Self.error(library, "get a worker's address", status)
        }
        defer { library.functions.ucp_worker_release_address(worker, address) }
        return Array(UnsafeRawBufferPointer(start: UnsafeRawPointer(address), count: count))
    }

    /// Has messages of `id` given to `callback` with a pointer to `receiver`.
    func handle(
        _ id: Message, by receiver: AnyObject, _ callback: @escaping geeps_ucx_message_callback
    ) throws(TransportError) {
        self.receiver = receiver
        var params = geeps_ucx_handler_params()
        params.field_mask = mask(
            GEEPS_UCX_HANDLER_ID, GEEPS_UCX_HANDLER_CALLBACK, GEEPS_UCX_HANDLER_ARGUMENT)
        params.id = id.rawValue
        params.cb = callback
        params.arg = Unmanaged.passUnretained(receiver).toOpaque()
        let status = library.functions.ucp_worker_set_am_recv_handler(worker, &params)
        guard Int(status) == GEEPS_UCX_OK else {
            throw Self.error(library, "set a handler of messages", status)
        }
    }

    /// Makes the endpoint to the worker at `address`, which must come from a member of the job: UCX believes it.
    ///
    /// Where a failing peer ends its requests, which shared memory does not have in UCX; a TCP connection beside it says
    /// there that the peer is gone.
    func connect(to address: [UInt8]) throws(TransportError) {
        var status = makeEndpoint(to: address, endsByPeer: true)
        if Int(status) == GEEPS_UCX_UNREACHABLE {
            endsByPeer = false
            status = makeEndpoint(to: address, endsByPeer: false)
        }
        guard Int(status) == GEEPS_UCX_OK else {
            throw Self.error(library, "reach the other side's worker", status)
        }
    }

    private func makeEndpoint(to address: [UInt8], endsByPeer: Bool) -> geeps_ucx_status {
        let status = address.withUnsafeBytes { bytes in
            var params = geeps_ucx_endpoint_params()
            params.field_mask = mask(
                GEEPS_UCX_ENDPOINT_ADDRESS, GEEPS_UCX_ENDPOINT_ERROR_MODE,
                GEEPS_UCX_ENDPOINT_ERROR_HANDLER)
            params.address = bytes.baseAddress.map { OpaquePointer($0) }
            params.err_mode = UInt32(
                endsByPeer ? GEEPS_UCX_ERRORS_OF_PEER : GEEPS_UCX_ERRORS_UNSEEN)
            params.err_handler.arg = Unmanaged.passUnretained(self).toOpaque()
            params.err_handler.cb = { user, _, status in
                guard let user else { return }
                // Called within `progress`, with the lock held, by this worker alone.
                let worker = Unmanaged<UCXWorker>.fromOpaque(user).takeUnretainedValue()
                worker.failure = worker.failure ?? worker.describe(status)
            }
            return library.functions.ucp_ep_create(worker, &params, &endpoint)
        }
        if Int(status) != GEEPS_UCX_OK { endpoint = nil }
        return status
    }

    /// Ends the endpoint: requests end as cancelled, and UCX reads and writes no memory of theirs any more.
    ///
    /// Idempotent; waits for it, `patience` at most.
    func closeEndpoint() {
        guard let endpoint else { return }
        self.endpoint = nil
        failure = failure ?? "the endpoint is closed"
        var params = geeps_ucx_request_params()
        params.op_attr_mask = UInt32(mask(GEEPS_UCX_OPERATION_FLAGS))
        params.flags = endsByPeer ? UInt32(GEEPS_UCX_CLOSE_FORCE) : 0
        guard
            case .pending(let request) = outcome(
                of: library.functions.ucp_ep_close_nbx(endpoint, &params))
        else { return }
        let end = Deadline.after(endsByPeer ? Self.patience : Self.patienceInMemory)
        while isPending(request), !end.hasPassed { _ = progress() }
        library.functions.ucp_request_free(request)
    }

    // MARK: Messages

    /// What became of a call.
    enum Outcome {
        case done
        case pending(Request)
        case failed(geeps_ucx_status)
    }

    /// Sends a message; `header` and `payload` stay as they are until it is done.
    ///
    /// - Parameter waits: whether it is not done before the other side has asked for the payload.
    func send(
        _ id: Message, header: UnsafeRawBufferPointer, payload: UnsafeRawBufferPointer, waits: Bool
    ) -> Outcome {
        guard let endpoint else { return .failed(geeps_ucx_status(GEEPS_UCX_CANCELED)) }
        var params = geeps_ucx_request_params()
        params.op_attr_mask = UInt32(
            mask(GEEPS_UCX_OPERATION_FLAGS, GEEPS_UCX_OPERATION_MEMORY))
        params.memory_type = UInt32(GEEPS_UCX_MEMORY_HOST)
        params.flags = UInt32(
            waits ? GEEPS_UCX_SEND_RENDEZVOUS : GEEPS_UCX_SEND_EAGER)
        return outcome(
            of: library.functions.ucp_am_send_nbx(
                endpoint, id.rawValue, header.baseAddress, header.count, payload.baseAddress,
                payload.count, &params))
    }

    /// Is done when all that was sent has left this process.
    func flush() -> Outcome {
        guard let endpoint else { return .failed(geeps_ucx_status(GEEPS_UCX_CANCELED)) }
        var params = geeps_ucx_request_params()
        return outcome(of: library.functions.ucp_ep_flush_nbx(endpoint, &params))
    }

    /// Fetches the payload that `descriptor` announced into `target`.
    func receive(
        _ descriptor: UnsafeMutableRawPointer, into target: UnsafeMutableRawBufferPointer
    ) -> Outcome {
        var params = geeps_ucx_request_params()
        params.op_attr_mask = UInt32(mask(GEEPS_UCX_OPERATION_MEMORY))
        params.memory_type = UInt32(GEEPS_UCX_MEMORY_HOST)
        return outcome(
            of: library.functions.ucp_am_recv_data_nbx(
                worker, descriptor, target.baseAddress, target.count, &params))
    }

    /// Gives back an announcement whose payload is not wanted.
    func release(_ descriptor: UnsafeMutableRawPointer) {
        library.functions.ucp_am_data_release(worker, descriptor)
    }

    /// Whether a request is not done yet.
    func isPending(_ request: Request) -> Bool {
        Int(library.functions.ucp_request_check_status(request)) == GEEPS_UCX_IN_PROGRESS
    }

    /// What became of a request; one that is not pending is given back.
    func outcome(ofPending request: Request) -> Outcome {
        let status = library.functions.ucp_request_check_status(request)
        if Int(status) == GEEPS_UCX_IN_PROGRESS { return .pending(request) }
        library.functions.ucp_request_free(request)
        return Int(status) == GEEPS_UCX_OK ? .done : .failed(status)
    }

    /// Whether what was begun is over; then `outcome` says how, and its request is given back.
    func isOver(_ outcome: inout Outcome) -> Bool {
        guard case .pending(let request) = outcome else { return true }
        outcome = self.outcome(ofPending: request)
        if case .pending = outcome { return false }
        return true
    }

    /// What UCX returns in place of a request: nothing when done, a small negative number for a failure.
    private func outcome(of pointer: UnsafeMutableRawPointer?) -> Outcome {
        guard let pointer else { return .done }
        let number = Int(bitPattern: pointer)
        if number < 0 && number >= Int(GEEPS_UCX_LAST_FAILURE) {
            return .failed(geeps_ucx_status(number))
        }
        return .pending(pointer)
    }

    // MARK: Progress

    /// Has UCX do what there is to do, callbacks included.
    ///
    /// - Returns: whether there was something.
    func progress() -> Bool { library.functions.ucp_worker_progress(worker) != 0 }

    /// Before waiting for `eventDescriptor`.
    ///
    /// - Returns: false when there is something to do at once.
    func arm() -> Bool { Int(library.functions.ucp_worker_arm(worker)) == GEEPS_UCX_OK }
}
