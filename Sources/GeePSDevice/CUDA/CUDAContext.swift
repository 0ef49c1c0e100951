import CGeePSShims
import Glibc
import Synchronization

/// What a process has on a GPU: memory, streams, kernels; the primary context, shared with the libraries.
///
/// A context is current for a thread, and the driver's functions work on the current one.
final class CUDAContext: @unchecked Sendable {
    // Sendable: constant after init, except `leftovers`, a mutex.
    let driver: CUDADriver
    let ordinal: Int
    let handle: geeps_cu_context
    private let device: Int32
    // Never used again, as an address of a context is.
    private let identity: UInt
    private let leftovers = Mutex<[Leftover]>([])
    private static let identities = Atomic<UInt>(1)

    /// What could not be freed where it was dropped.
    enum Leftover: @unchecked Sendable {
        // Sendable: handles are values; nobody else has them any more.
        case pinned(UnsafeMutableRawPointer)
        case event(geeps_cu_event)
    }

    init(driver: CUDADriver, ordinal: Int) throws(DeviceError) {
        let device = try driver.device(ordinal: ordinal)
        var context: geeps_cu_context?
        try driver.check(
            driver.functions.cuDevicePrimaryCtxRetain(&context, device),
            "cuDevicePrimaryCtxRetain", "cuda:\(ordinal): make a context")
        guard let context else {
            throw DeviceError(.failed, "cuda:\(ordinal): cuDevicePrimaryCtxRetain gave no context")
        }
        self.driver = driver
        self.ordinal = ordinal
        self.device = device
        handle = context
        // Relaxed: only that numbers differ matters.
        identity = Self.identities.wrappingAdd(1, ordering: .relaxed).newValue
    }

    deinit {
        freeLeftovers()
        // Nobody is left to be told.
        _ = driver.functions.cuDevicePrimaryCtxRelease_v2(device)
        if CUDAThread.currentContext == identity { CUDAThread.currentContext = 0 }
    }

    var name: String { "cuda:\(ordinal)" }

    /// Makes this the calling thread's context; two nanoseconds when it is.
    func makeCurrent() throws(DeviceError) {
        guard CUDAThread.currentContext != identity else { return }
        try driver.check(
            driver.functions.cuCtxSetCurrent(handle), "cuCtxSetCurrent",
            "\(name): make its context current for a thread")
        CUDAThread.currentContext = identity
    }

    /// Runs `body` on a thread of other code's that may change its current context at any time, and leaves it as it was.
    func onForeignThread<R, E: Error>(
        _ body: () throws(E) -> R
    ) throws(E) -> R {
        var current: geeps_cu_context?
        // One who cannot say has none; what `body` calls then says what is wrong.
        _ = driver.functions.cuCtxGetCurrent(&current)
        if current == handle {
            CUDAThread.currentContext = identity
        } else {
            CUDAThread.currentContext = 0
            try? makeCurrent()
        }
        defer {
            CUDAThread.currentContext = 0
            if current != handle { _ = driver.functions.cuCtxSetCurrent(current) }
        }
        return try body()
    }

    func check(
        _ status: Int32, _ function: StaticString, _ doing: @autoclosure () -> String
    ) throws(DeviceError) {
        guard status != 0 else { return }
        throw driver.error(status, function, "\(name): \(doing())")
    }

    /// Frees `leftover`, now or, where the driver forbids its functions, before the next allocation.
    func free(_ leftover: Leftover) {
        if CUDAThread.isInHostFunction {
            leftovers.withLock { $0.append(leftover) }
        } else {
            freeNow(leftover)
        }
    }

    /// Frees what was dropped inside host functions.
    func freeLeftovers() {
        let found = leftovers.withLock { leftovers in
            defer { leftovers = [] }
            return leftovers
        }
        for leftover in found { freeNow(leftover) }
    }

    private func freeNow(_ leftover: Leftover) {
        // A context that broke has freed everything itself; there is nobody to tell.
        guard (try? makeCurrent()) != nil else { return }
        switch leftover {
        case .pinned(let address): _ = driver.functions.cuMemFreeHost(address)
        case .event(let event): _ = driver.functions.cuEventDestroy_v2(event)
        }
    }
}

extension CUDADriver {
    /// Runs `body` on a thread of other code's, and leaves that thread's current context as it was.
    public func preservingContext<R, E: Error>(_ body: () throws(E) -> R) throws(E) -> R {
        var current: geeps_cu_context?
        // One who cannot say has none; what `body` calls then says what is wrong.
        _ = functions.cuCtxGetCurrent(&current)
        CUDAThread.currentContext = 0
        defer {
            CUDAThread.currentContext = 0
            _ = functions.cuCtxSetCurrent(current)
        }
        return try body()
    }
}

/// What a thread remembers of CUDA.
enum CUDAThread {
    private static let contextKey = makeKey()
    private static let hostFunctionKey = makeKey()

    /// The identity of the context that is current; zero: none, or not one of ours.
    static var currentContext: UInt {
        get { UInt(bitPattern: pthread_getspecific(contextKey)) }
        set { pthread_setspecific(contextKey, UnsafeRawPointer(bitPattern: newValue)) }
    }

    /// Whether the thread runs a host function of a stream, where the driver's functions are forbidden.
    static var isInHostFunction: Bool {
        get { pthread_getspecific(hostFunctionKey) != nil }
        set { pthread_setspecific(hostFunctionKey, UnsafeRawPointer(bitPattern: newValue ? 1 : 0)) }
    }

    private static func makeKey() -> pthread_key_t {
        var key = pthread_key_t()
        let status = pthread_key_create(&key, nil)
        precondition(status == 0, "no key for a thread's own value is left: status \(status)")
        return key
    }
}
