public import CGeePS
internal import GeePS

/// Waits for all.
@c @implementation
public func geeps_barrier(
    _ job: OpaquePointer!, _ label: UnsafePointer<CChar>!, _ timeout_s: Double
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let membership = try job.joined(for: "geeps_barrier").membership
        let (label, bound) = (try string(label, "label"), try duration(timeout_s))
        try launching { () throws(LaunchError) in
            try membership.barrier(label: label, deadline: .after(bound))
        }
    }
}

/// Gives all rank 0's bytes.
@c @implementation
public func geeps_broadcast(
    _ job: OpaquePointer!, _ label: UnsafePointer<CChar>!, _ bytes: UnsafeMutableRawPointer!,
    _ byte_count: UInt64, _ timeout_s: Double
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let membership = try job.joined(for: "geeps_broadcast").membership
        let (label, bound) = (try string(label, "label"), try duration(timeout_s))
        guard byte_count <= UInt64(1 << 20) else {
            throw .argument("\(byte_count) bytes, at most \(1 << 20) fit one broadcast")
        }
        let target = UnsafeMutableRawBufferPointer(
            start: try required(bytes, "bytes"), count: Int(byte_count))
        let answer = try launching { () throws(LaunchError) in
            try membership.broadcast(Array(target), label: label, deadline: .after(bound))
        }
        guard answer.count == target.count else {
            throw ABIError(
                GEEPS_MISMATCH,
                "rank 0 gave \(answer.count) bytes of \(label), this rank expects \(byte_count)")
        }
        target.copyBytes(from: answer)
    }
}

/// Adds up over all.
@c @implementation
public func geeps_sum(
    _ job: OpaquePointer!, _ label: UnsafePointer<CChar>!, _ values: UnsafeMutablePointer<Double>!,
    _ count: UInt64, _ timeout_s: Double
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let membership = try job.joined(for: "geeps_sum").membership
        let (label, bound) = (try string(label, "label"), try duration(timeout_s))
        guard count <= 131_072 else {
            throw .argument("\(count) values, at most 131072 fit one sum")
        }
        let target = UnsafeMutableBufferPointer(
            start: try required(values, "values"), count: Int(count))
        let sum = try launching { () throws(LaunchError) in
            try membership.sum(Array(target), label: label, deadline: .after(bound))
        }
        _ = target.update(from: sum)
    }
}

/// Counts.
@c @implementation
public func geeps_count(
    _ job: OpaquePointer!, _ out: UnsafeMutablePointer<geeps_counters>!, _ byte_count: Int
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let client = try job.joined(for: "geeps_count").client
        let out = try required(out, "out")
        guard byte_count >= 0 else { throw .argument("\(byte_count) bytes of counters") }
        let counters = client.counters
        var all = geeps_counters()
        all.ticks = client.tick.count
        all.bytes_sent = counters.bytesSent
        all.bytes_received = counters.bytesReceived
        all.stall_nanoseconds = counters.stallNanoseconds
        all.reads_in_place = counters.access.readsInPlace
        all.reads_copied = counters.access.readsCopied
        all.updates = counters.access.updates
        all.plan_deviations = counters.access.planDeviations
        all.replans = counters.access.replans
        all.reconnects = counters.repairs.reconnects
        copyFirst(byte_count, of: all, to: out)
    }
}

/// Copies a structure, or as much of it as the caller knows.
func copyFirst<T>(_ byteCount: Int, of value: T, to target: UnsafeMutablePointer<T>) {
    withUnsafeBytes(of: value) { bytes in
        UnsafeMutableRawBufferPointer(start: target, count: min(byteCount, bytes.count))
            .copyBytes(from: bytes.prefix(byteCount))
    }
}
