public import CGeePS
internal import GeePS

// The functions of geeps.h; what they promise stands there.

/// The version of the interface.
@c @implementation
public func geeps_abi_version() -> UInt32 { UInt32(GEEPS_ABI_VERSION) }

/// The version of the library.
@c @implementation
public func geeps_version() -> UnsafePointer<CChar>! { Names.version }

/// A status's name.
@c @implementation
public func geeps_status_name(_ status: Int32) -> UnsafePointer<CChar>! {
    Names.statuses[status] ?? Names.unknown
}

/// Makes a job.
@c @implementation
public func geeps_create(_ out: UnsafeMutablePointer<OpaquePointer?>!) -> Int32 {
    answering { () throws(ABIError) in
        let out = try required(out, "out")
        out.pointee = OpaquePointer(Unmanaged.passRetained(Job()).toOpaque())
    }
}

/// Sets an option.
@c @implementation
public func geeps_set(
    _ job: OpaquePointer!, _ key: UnsafePointer<CChar>!, _ value: UnsafePointer<CChar>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        try job.set(try string(key, "key"), try string(value, "value"))
    }
}

/// Adds a table.
@c @implementation
public func geeps_table_create(
    _ job: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ value_count: UInt64,
    _ rule: UnsafePointer<geeps_rule>!, _ table: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let table = try required(table, "table")
        let rule = try OptimizerConfiguration(try required(rule, "rule").pointee)
        table.pointee = try job.addTable(
            try string(name, "name"), valueCount: value_count, rule: rule)
    }
}

/// Joins the job.
@c @implementation
public func geeps_join(_ job: OpaquePointer!) -> Int32 {
    call(job) { (job) throws(ABIError) in try job.join() }
}

/// Leaves the job.
@c @implementation
public func geeps_close(_ job: OpaquePointer!, _ timeout_s: Double) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let bound = try duration(timeout_s)
        guard job.close(within: bound) else {
            throw ABIError(
                GEEPS_DEADLINE, "not every process had left the job after \(timeout_s) s")
        }
    }
}

/// Ends the job for all.
@c @implementation
public func geeps_abort(_ job: OpaquePointer!, _ reason: UnsafePointer<CChar>!) -> Int32 {
    answering { () throws(ABIError) in
        Job.of(try required(job, "job")).abort(try string(reason, "reason"))
    }
}

/// Frees a handle.
@c @implementation
public func geeps_destroy(_ job: OpaquePointer!) {
    guard let job else { return }
    // Not the device: with the last reference to it its memory goes.
    let driver = Job.of(job).device.driver
    preservingContext(of: driver) {
        let owned = Unmanaged<Job>.fromOpaque(UnsafeRawPointer(job)).takeRetainedValue()
        _ = answering { () throws(ABIError) in
            try owned.call { (job) throws(ABIError) in _ = job.close(within: .seconds(1)) }
        }
    }
}

/// Strings that stay.
private enum Names {
    // nonisolated(unsafe): never freed and never changed.
    nonisolated(unsafe) static let version = stay("0.1.0")
    nonisolated(unsafe) static let unknown = stay("GEEPS_UNKNOWN")
    nonisolated(unsafe) static let statuses: [Int32: UnsafePointer<CChar>] = Dictionary(
        uniqueKeysWithValues: statusNames.map { ($0.0.code, stay($0.1)) })

    private static func stay(_ text: String) -> UnsafePointer<CChar> {
        let bytes = text.utf8CString
        let copy = UnsafeMutablePointer<CChar>.allocate(capacity: bytes.count)
        for (offset, byte) in bytes.enumerated() { copy[offset] = byte }
        return UnsafePointer(copy)
    }
}

private let statusNames: [(geeps_status, String)] = [
    (GEEPS_OK, "GEEPS_OK"), (GEEPS_ARGUMENT, "GEEPS_ARGUMENT"), (GEEPS_NOT_YET, "GEEPS_NOT_YET"),
    (GEEPS_PEER_LOST, "GEEPS_PEER_LOST"), (GEEPS_DEADLINE, "GEEPS_DEADLINE"),
    (GEEPS_BUDGET_TOO_SMALL, "GEEPS_BUDGET_TOO_SMALL"),
    (GEEPS_OUT_OF_MEMORY, "GEEPS_OUT_OF_MEMORY"), (GEEPS_DEVICE_FAILED, "GEEPS_DEVICE_FAILED"),
    (GEEPS_CONTENT_LOST, "GEEPS_CONTENT_LOST"), (GEEPS_CLOSED, "GEEPS_CLOSED"),
    (GEEPS_PROTOCOL, "GEEPS_PROTOCOL"), (GEEPS_JOIN_TIMEOUT, "GEEPS_JOIN_TIMEOUT"),
    (GEEPS_RANK, "GEEPS_RANK"), (GEEPS_WORLD_SIZE, "GEEPS_WORLD_SIZE"),
    (GEEPS_DISAGREEMENT, "GEEPS_DISAGREEMENT"), (GEEPS_ADDRESS, "GEEPS_ADDRESS"),
    (GEEPS_MISMATCH, "GEEPS_MISMATCH"), (GEEPS_LEFT, "GEEPS_LEFT"), (GEEPS_SYSTEM, "GEEPS_SYSTEM"),
    (GEEPS_SECRET, "GEEPS_SECRET"),
]

/// Runs `body` on the job of a handle.
func call(_ handle: OpaquePointer?, _ body: (Job) throws(ABIError) -> Void) -> Int32 {
    answering { () throws(ABIError) in try Job.of(try required(handle, "job")).call(body) }
}

/// A C string; bytes that are not UTF-8 are repaired.
func string(_ text: UnsafePointer<CChar>?, _ name: String) throws(ABIError) -> String {
    String(cString: try required(text, name))
}

/// Seconds, as a bound of a wait.
func duration(_ seconds: Double) throws(ABIError) -> Duration {
    guard seconds >= 0 else { throw .argument("a timeout of \(seconds) s, expected 0 or more") }
    return .milliseconds(Int64((min(seconds, 1e9) * 1000).rounded(.up)))
}
