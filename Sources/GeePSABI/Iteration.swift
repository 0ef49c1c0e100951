public import CGeePS
internal import GeePS

/// Gives initial values.
@c @implementation
public func geeps_initialise(
    _ job: OpaquePointer!, _ table: UInt32, _ values: UnsafePointer<Float>!, _ count: UInt64
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: "geeps_initialise")
        let given = try whole(try job.table(table), values, count)
        guard node.membership.rank == 0 else { return }
        try accessing { () throws(AccessError) in
            try node.client.initialise(Int(table), values: given)
        }
    }
}

/// Changes the stream of the caller's kernels.
@c @implementation
public func geeps_set_stream(_ job: OpaquePointer!, _ stream: UnsafeMutableRawPointer!) -> Int32 {
    call(job) { (job) throws(ABIError) in
        _ = try job.joined(for: "geeps_set_stream")
        try job.setStream(OpaquePointer(stream))
    }
}

/// Waits for fresh values.
@c @implementation
public func geeps_wait(_ job: OpaquePointer!, _ table: UInt32, _ timeout_s: Double) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: "geeps_wait")
        let name = try job.table(table).name
        let bound = try duration(timeout_s)
        let isFresh = try accessing { () throws(AccessError) in
            try node.client.waitUntilFresh(Int(table), within: bound)
        }
        guard isFresh else {
            throw ABIError(
                GEEPS_NOT_YET, "table \(name) is not fresh enough after \(timeout_s) s")
        }
    }
}

/// Lends values.
@c @implementation
public func geeps_read(
    _ job: OpaquePointer!, _ table: UInt32, _ lease: UnsafeMutablePointer<OpaquePointer?>!,
    _ values: UnsafeMutablePointer<UnsafePointer<Float>?>!, _ age: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    lend(job, table, lease, values, age, isPlanned: true)
}

/// Lends values outside the repeated iteration.
@c @implementation
public func geeps_peek(
    _ job: OpaquePointer!, _ table: UInt32, _ lease: UnsafeMutablePointer<OpaquePointer?>!,
    _ values: UnsafeMutablePointer<UnsafePointer<Float>?>!, _ age: UnsafeMutablePointer<UInt64>!
) -> Int32 {
    lend(job, table, lease, values, age, isPlanned: false)
}

private func lend(
    _ job: OpaquePointer?, _ table: UInt32, _ lease: UnsafeMutablePointer<OpaquePointer?>?,
    _ values: UnsafeMutablePointer<UnsafePointer<Float>?>?, _ age: UnsafeMutablePointer<UInt64>?,
    isPlanned: Bool
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: isPlanned ? "geeps_read" : "geeps_peek")
        let batch = try batch(try job.table(table))
        let (lease, values) = (try required(lease, "lease"), try required(values, "values"))
        let rows = try accessing { () throws(AccessError) in
            try node.client.read(batch, isPlanned: isPlanned)
        }
        values.pointee = rows.values
        age?.pointee = rows.age.count
        lease.pointee = Lease(rows, of: job).handle
    }
}

/// Takes a gradient.
@c @implementation
public func geeps_update(
    _ job: OpaquePointer!, _ table: UInt32, _ pieces: UnsafePointer<geeps_piece>!, _ count: Int
) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: "geeps_update")
        let table = try job.table(table)
        let batch = try batch(table)
        let gradient = try Gradient(
            UnsafeBufferPointer(start: pieces, count: count), of: table.name,
            valueCount: table.valueCount)
        try accessing { () throws(AccessError) in
            try node.client.update(batch, from: gradient.pieces) { room in
                gradient.copy(to: room, on: job.device)
            }
        }
    }
}

/// Lets updates leave beside the rest of the iteration.
@c @implementation
public func geeps_send_ahead(_ job: OpaquePointer!, _ table: UInt32) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let node = try job.joined(for: "geeps_send_ahead")
        _ = try job.table(table)
        node.client.sendAhead(Int(table))
    }
}

/// Ends an iteration.
@c @implementation
public func geeps_clock(_ job: OpaquePointer!, _ tick: UnsafeMutablePointer<UInt64>!) -> Int32 {
    call(job) { (job) throws(ABIError) in
        let count = try job.joined(for: "geeps_clock").client.clock().count
        tick?.pointee = count
    }
}

/// Takes lent memory back.
@c @implementation
public func geeps_release(_ lease: OpaquePointer!) {
    guard let lease else { return }
    Lease.taken(lease).release()
}

/// The pieces of a gradient, in order.
private struct Gradient {
    let pieces: [GradientPiece]

    /// - Throws: where pieces overlap or do not fit the table.
    init(_ given: UnsafeBufferPointer<geeps_piece>, of name: String, valueCount: Int)
        throws(ABIError)
    {
        guard given.count > 0, given.baseAddress != nil else {
            throw .argument(
                "an update of table \(name) has no pieces; a table without an update is left out")
        }
        var pieces: [GradientPiece] = []
        pieces.reserveCapacity(given.count)
        var end: UInt64 = 0
        for piece in given.sorted(by: { $0.offset < $1.offset }) {
            let (next, overflow) = piece.offset.addingReportingOverflow(piece.count)
            guard let values = piece.values, piece.offset >= end, !overflow, next <= valueCount
            else {
                throw .argument(
                    "a piece of \(piece.count) values at \(piece.offset) of table \(name), which has "
                        + "\(valueCount), with \(end) values before it")
            }
            pieces.append(GradientPiece(values: values, range: Int(piece.offset)..<Int(next)))
            end = next
        }
        self.pieces = pieces
    }

    /// Writes all of `target`, memory of `device`; zeros where there is no piece.
    func copy(to target: UnsafeMutableBufferPointer<Float>, on device: JobDevice) {
        guard let start = target.baseAddress else { return }
        let bytes = MemoryLayout<Float>.stride
        var end = 0
        for piece in pieces {
            let (first, next) = (piece.range.lowerBound, piece.range.upperBound)
            device.zero(start + end, byteCount: (first - end) * bytes)
            device.copy(piece.values, to: start + first, byteCount: (next - first) * bytes)
            end = next
        }
        device.zero(start + end, byteCount: (target.count - end) * bytes)
    }
}

/// All values of a table, as C gives them.
func whole(_ table: Job.Table, _ values: UnsafePointer<Float>?, _ count: UInt64)
    throws(ABIError) -> UnsafeBufferPointer<Float>
{
    guard count == table.valueCount else {
        throw .argument("\(count) values for table \(table.name), which has \(table.valueCount)")
    }
    return UnsafeBufferPointer(start: try required(values, "values"), count: table.valueCount)
}

private func batch(_ table: Job.Table) throws(ABIError) -> RowBatch {
    try required(table.batch, "batch")
}
