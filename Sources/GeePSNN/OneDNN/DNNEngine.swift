import CDNNL
import Glibc

/// oneDNN's CPU engine with one in-order stream.
///
/// Every network has its own.
final class DNNEngine {
    // Constant after init; destroyed in deinit.
    let engine: dnnl_engine_t
    let stream: dnnl_stream_t

    init() throws(NNError) {
        var engine: dnnl_engine_t?
        try DNNCall("oneDNN", "create engine").check(dnnl_engine_create(&engine, dnnl_cpu, 0))
        var stream: dnnl_stream_t?
        let flags = UInt32(dnnl_stream_default_flags.rawValue)
        let status = dnnl_stream_create(&stream, engine, flags)
        guard status == dnnl_success, let engine, let stream else {
            dnnl_engine_destroy(engine)
            throw DNNCall("oneDNN", "create stream").error(status)
        }
        self.engine = engine
        self.stream = stream
    }

    deinit {
        dnnl_stream_destroy(stream)
        dnnl_engine_destroy(engine)
    }
}

/// Which layer calls oneDNN and for what: the words of an error.
struct DNNCall: Sendable {
    let layer: String
    let operation: String

    init(_ layer: String, _ operation: String) {
        self.layer = layer
        self.operation = operation
    }

    /// - Throws: `.kernel`, unless `status` is success.
    @inline(__always) func check(_ status: dnnl_status_t) throws(NNError) {
        if status != dnnl_success { throw error(status) }
    }

    func error(_ status: dnnl_status_t) -> NNError {
        NNError(.kernel, "layer \(layer): oneDNN could not \(operation): \(Self.name(status))")
    }

    private static func name(_ status: dnnl_status_t) -> String {
        switch status {
        case dnnl_out_of_memory: return "out of memory (status 1)"
        case dnnl_invalid_arguments: return "invalid arguments (status 2)"
        case dnnl_unimplemented: return "unimplemented (status 3)"
        case dnnl_runtime_error: return "runtime error (status 5)"
        default: return "status \(status.rawValue)"
        }
    }
}

/// Threads that kernels use.
public enum ComputeThreads {
    private typealias Setter = @convention(c) (Int32) -> Void
    private typealias Getter = @convention(c) () -> Int32

    /// Sets how many threads kernels called from the current thread use.
    ///
    /// OpenMP keeps the number, and a pool of threads, for each calling thread: call it on the thread that
    /// computes. Without it the number is `OMP_NUM_THREADS`, or the cores of the machine.
    ///
    /// - Returns: the number in force afterwards; nil where the OpenMP runtime is not to be found.
    @discardableResult public static func set(_ count: Int) -> Int? {
        precondition(count > 0, "kernels need at least one thread, got \(count)")
        guard let symbol = dlsym(nil, "omp_set_num_threads") else { return nil }
        unsafeBitCast(symbol, to: Setter.self)(Int32(clamping: count))
        return current
    }

    /// How many threads kernels called from the current thread use; nil where the OpenMP runtime is not
    /// to be found.
    public static var current: Int? {
        guard let symbol = dlsym(nil, "omp_get_max_threads") else { return nil }
        return Int(unsafeBitCast(symbol, to: Getter.self)())
    }
}
