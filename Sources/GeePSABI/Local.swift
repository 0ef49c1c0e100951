public import CGeePS
internal import GeePS

/// Names a place for local data.
@c @implementation
public func geeps_local_create(
    _ job: OpaquePointer!, _ name: UnsafePointer<CChar>!, _ byte_count: UInt64,
    _ local: UnsafeMutablePointer<UInt32>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let client = try job.joined(for: "geeps_local_create").client
        let (name, local) = (try string(name, "name"), try required(local, "local"))
        guard byte_count > 0, byte_count <= UInt64(Int32.max) << 16 else {
            throw .argument("local data \(name) of \(byte_count) bytes")
        }
        let batch = try accessing { () throws(AccessError) in
            try client.localBatch(name: name, byteCount: Int(byte_count))
        }
        job.locals.append(batch)
        local.pointee = UInt32(job.locals.count - 1)
    }
}

/// Keeps a copy of bytes.
@c @implementation
public func geeps_local_put(
    _ job: OpaquePointer!, _ local: UInt32, _ bytes: UnsafeRawPointer!,
    _ stays: UnsafeMutablePointer<Int32>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let client = try job.joined(for: "geeps_local_put").client
        let batch = try job.local(local)
        let bytes = try required(bytes, "bytes")
        let isLeft = try accessing { () throws(AccessError) in
            // A GPU's pool is all of the budget from the start: what stays elsewhere would come on top.
            let mayStay = stays != nil && job.device.isHost
            return try client.put(
                batch, left: mayStay ? UnsafeMutableRawPointer(mutating: bytes) : nil
            ) { room in
                job.device.copy(bytes, to: room, byteCount: batch.byteCount)
            }
        }
        stays?.pointee = isLeft ? 1 : 0
    }
}

/// Lets content stay with the caller from the next plan on.
@c @implementation
public func geeps_local_let_stay(_ job: OpaquePointer!, _ local: UInt32) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let client = try job.joined(for: "geeps_local_let_stay").client
        let batch = try job.local(local)
        if job.device.isHost { client.letStay(batch) }
    }
}

/// Lends what was put last.
@c @implementation
public func geeps_local_get(
    _ job: OpaquePointer!, _ local: UInt32, _ lease: UnsafeMutablePointer<OpaquePointer?>!,
    _ bytes: UnsafeMutablePointer<UnsafeRawPointer?>!
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let client = try job.joined(for: "geeps_local_get").client
        let batch = try job.local(local)
        let (lease, bytes) = (try required(lease, "lease"), try required(bytes, "bytes"))
        let buffer = try accessing { () throws(AccessError) in
            try client.local(batch, fetch: true)
        }
        bytes.pointee = UnsafeRawPointer(buffer.address)
        lease.pointee = Lease(buffer, of: job).handle
    }
}

/// Counts of managed memory.
@c @implementation
public func geeps_memory_count(
    _ job: OpaquePointer!, _ out: UnsafeMutablePointer<geeps_memory>!, _ byte_count: Int
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let client = try job.joined(for: "geeps_memory_count").client
        let out = try required(out, "out")
        client.drain()
        guard let counters = client.counters.memory else {
            throw .argument("geeps_memory_count: memory is resident in this job")
        }
        var all = geeps_memory()
        all.bytes_in = counters.bytesIn
        all.bytes_out = counters.bytesOut
        all.served_on_demand = counters.onDemand
        all.plans_abandoned = counters.abandoned
        all.plans_followed = counters.placements
        all.wait_nanoseconds = counters.bufferWaitNanoseconds + counters.copyWaitNanoseconds
        all.budget_bytes = UInt64(client.configuration.memory?.budgetBytes ?? 0)
        if let placement = client.placement {
            all.plan_device_bytes = UInt64(placement.deviceBytes)
            all.plan_bytes_in = UInt64(placement.bytesIn)
            all.plan_bytes_out = UInt64(placement.bytesOut)
            all.plan_left_bytes = UInt64(placement.leftBytes)
        }
        copyFirst(byte_count, of: all, to: out)
    }
}

extension Job {
    fileprivate func local(_ index: UInt32) throws(ABIError) -> LocalBatch {
        guard locals.indices.contains(Int(index)) else {
            throw .argument("local data \(index): the job has \(locals.count)")
        }
        return locals[Int(index)]
    }
}
