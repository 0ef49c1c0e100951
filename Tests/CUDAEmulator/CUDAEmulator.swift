public import CGeePSShims
import GeePSCore
public import GeePSDevice

/// CUDA's driver and NVRTC on the host: the functions of `geeps_cuda.h` over the host's memory, watched.
///
/// A test runs what it tests inside `run`, hands `driver` and `nvrtc` to it in place of the libraries, and
/// expects `findings` to be empty afterwards:
///
///     let findings = CUDAEmulator.findings { emulator in
///         let device = try! CUDADevice(driver: CUDADriver(functions: emulator.driver), …)
///         …
///     }
///     #expect(findings == [])
///
/// - Device memory is host memory: an address is the host's, and may be read by a test. New memory is
///   filled with 0xFF, which is NaN.
/// - Streams are asynchronous, each with a thread of its own, delayed at random with
///   `Configuration.jitter`.
/// - Beside doing the work it checks, by vector clocks, that conflicting accesses are ordered by streams,
///   events and waits of the host; that handles and memory are alive and of the right kind; that nothing
///   is left over. What it finds is a line of `findings`, and mostly an error code for the caller, too.
///
/// Threads: everything may be called from any thread.
public final class CUDAEmulator: @unchecked Sendable {
    // Sendable: everything mutable is guarded by `lock`; the order of locks is `Turn`, `lock`, streams.

    /// What the emulated machine has.
    public struct Configuration: Sendable {
        /// GPUs, all alike.
        public var deviceCount = 1
        /// Memory of each.
        public var memoryBytes = 1 << 30
        /// Pinned host memory of the machine.
        public var pinnedBytes = 1 << 30
        /// Compute capability, major and minor.
        public var capability: (major: Int32, minor: Int32) = (9, 0)
        /// As `cuDriverGetVersion` tells it.
        public var driverVersion: Int32 = 13000
        /// As `nvrtcVersion` tells it.
        public var compilerVersion: (major: Int32, minor: Int32) = (13, 0)
        /// Random waits in front of every operation of a stream; nil: none.
        public var jitter: Jitter?
        /// Other code uses the GPU, too: there is a default stream, and device memory that nobody here allocated.
        public var hasForeignCode = false
        /// What runs kernels; nil: `CUDAKernelRunner.standard`.
        public var kernelRunner: CUDAKernelRunner?

        /// One GPU of capability 9.0 with 1 GiB of memory.
        public init(jitter: Jitter? = nil) { self.jitter = jitter }
    }

    /// Constant after init.
    public let configuration: Configuration
    let lock = Signal()
    /// What does the work of streams.
    let host: HostDevice

    // What is inside is guarded by `lock`.
    let state = EmulatorState()

    init(_ configuration: Configuration) {
        self.configuration = configuration
        // Work is put on a stream under `lock`, which the stream's thread takes, too: who waited for room in a
        // queue would wait for ever. More than any program puts there before it waits for something.
        host = HostDevice(jitter: configuration.jitter, streamCapacity: 1 << 16)
    }

    // MARK: Running

    /// Runs `body` with an emulator; one at a time in a process, others wait.
    ///
    /// C's function pointers carry no context, so there is one current emulator. When `body` is over the
    /// emulator waits for its streams and adds what is left over to `findings`, which may still be read.
    /// `body` must not wait for other tests, nor call `run`.
    public static func run<R>(
        _ configuration: Configuration = .init(), _ body: (CUDAEmulator) throws -> R
    ) rethrows -> R {
        let emulator = CUDAEmulator(configuration)
        Turn.begin(emulator)
        defer {
            emulator.close()
            Turn.end()
        }
        return try body(emulator)
    }

    /// An emulator for the rest of the process; nothing is checked at its end.
    public static func beginForProcess(_ configuration: Configuration) -> CUDAEmulator {
        let emulator = CUDAEmulator(configuration)
        Turn.begin(emulator)
        return emulator
    }

    /// Runs `body` as `run` does and returns all findings, those about what is left over included.
    public static func findings(
        _ configuration: Configuration = .init(), _ body: (CUDAEmulator) throws -> Void
    ) rethrows -> [String] {
        let emulator = try run(configuration) { emulator in
            try body(emulator)
            return emulator
        }
        return emulator.findings
    }

    /// The emulator whose `run` is going on, for C functions.
    public static var current: CUDAEmulator? { Turn.current }

    // MARK: What was seen

    /// Violations in the order they were found: races, dead memory and handles, bad arguments, leaks.
    public var findings: [String] { lock.withLock { state.findings } }

    /// Names of the functions called, in order, of all libraries.
    public var calls: [String] { lock.withLock { state.calls } }

    /// How often `function` was called; failed calls count.
    public func callCount(of function: String) -> Int {
        lock.withLock { state.callCounts[function] ?? 0 }
    }

    /// Adds a violation.
    public func report(_ finding: String) { lock.withLock { state.findings.append(finding) } }

    // MARK: Failures

    /// Lets call number `number` of `function` from now, counted from one, return `status` and do nothing.
    public func fail(_ function: String, onCall number: Int = 1, with status: Int32) {
        precondition(number > 0, "calls are counted from one, got \(number)")
        lock.withLock {
            let call = (state.callCounts[function] ?? 0) + number
            state.failures[function, default: [:]][call] = status
        }
    }

    /// Lets every call from now on return `status`, as after a kernel that touched memory it must not.
    public func breakDown(with status: Int32 = Int32(GEEPS_CU_ILLEGAL_ADDRESS)) {
        lock.withLock { state.breakdown = status }
    }

    // MARK: For other libraries on top

    /// Notes a call of `function`; a library's function starts with it.
    ///
    /// - Returns: the status to return at once, as asked for with `fail`; nil: go on.
    public func begin(_ function: String) -> Int32? {
        lock.withLock {
            state.calls.append(function)
            let count = (state.callCounts[function] ?? 0) + 1
            state.callCounts[function] = count
            return state.failures[function]?.removeValue(forKey: count)
        }
    }

    /// A handle unlike every other in this process; it points to no memory.
    public static func makeHandle() -> OpaquePointer { Turn.makeHandle() }

    /// What a library keeps for each emulator, made at first use; one for each type.
    public func library<State: AnyObject & Sendable>(_ make: () -> State) -> State {
        lock.withLock {
            let key = ObjectIdentifier(State.self)
            if let made = state.libraries[key] as? State { return made }
            let made = make()
            state.libraries[key] = made
            return made
        }
    }

    /// Runs `check` when `body` of `run` is over and the streams are done, before leaks are looked for.
    public func atClose(_ check: @escaping @Sendable (CUDAEmulator) -> Void) {
        lock.withLock { state.closeChecks.append(check) }
    }
}
