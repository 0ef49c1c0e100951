internal import GeePS

/// Memory that is lent to C; what `geeps_lease` points to.
final class Lease: @unchecked Sendable {
    // Sendable: made by one thread and given back by one; handed over through the job's lock.
    private var rows: ReadBuffer?
    private var local: LocalBuffer?
    private var job: Job?

    init(_ rows: consuming ReadBuffer, of job: Job) {
        self.rows = consume rows
        local = nil
        self.job = job
    }

    init(_ local: consuming LocalBuffer, of job: Job) {
        rows = nil
        self.local = consume local
        self.job = job
    }

    /// Local data is lent to be read once.
    deinit { local.take()?.release(keep: false) }

    /// Gives it back to its job, once.
    func release() {
        let job = self.job
        self.job = nil
        job?.takeBack(self)
    }

    /// A reference for C to hold.
    var handle: OpaquePointer { OpaquePointer(Unmanaged.passRetained(self).toOpaque()) }

    /// The lease of a handle that C gives up.
    static func taken(_ handle: OpaquePointer) -> Lease {
        Unmanaged<Lease>.fromOpaque(UnsafeRawPointer(handle)).takeRetainedValue()
    }
}
