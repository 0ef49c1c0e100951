internal import GeePSCore
internal import GeePSDevice

/// Lending memory, where the placement has it or by itself.
extension ManagedMemory {
    /// Memory that was lent.
    struct Loan: Sendable {
        /// Index of a stay, or of a piece where `generation` is nil.
        var index: Int
        /// The placement a stay belongs to.
        var generation: Int?
    }

    /// The stay that holds what the access at `position` needs; nil where it is served otherwise.
    func stay(at position: Int?) -> Int? {
        guard let run, let position else { return nil }
        return run.placement.stayOfAccess[position]
    }

    /// Whether the stay has a place in the arena.
    func hasRoom(_ stay: Int) -> Bool { run?.stays[stay].plan.isLeft == false }

    /// Lends the memory of a stay.
    func acquire(stay index: Int, at position: Int) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan
    ) {
        guard let run else { preconditionFailure("no placement is followed") }
        try run.acquire(position, stay: index)
        heldStays[index] += 1
        let stay = run.stays[index]
        noteUse(of: stay.plan)
        return (stay.address, Loan(index: index, generation: generation))
    }

    func noteUse(of stay: Placement.Stay) {
        counted.highWaterBytes = max(counted.highWaterBytes, stay.offset + stay.byteCount)
    }

    /// Lends memory outside a placement.
    func acquirePiece(byteCount: Int, for what: String) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan
    ) {
        counted.onDemand += 1
        if let range = pieces.room(
            byteCount, in: arena?.address, of: arena?.byteCount ?? 0)
        {
            return (range.address, Loan(index: range.index, generation: nil))
        }
        do {
            let piece = pieces.own(
                try device.allocate(byteCount: byteCount, for: .accessBuffers))
            return (piece.address, Loan(index: piece.index, generation: nil))
        } catch {
            throw AccessError(
                .outOfMemory,
                "\(what) is not where the plan has it and was to be served by itself: "
                    + error.message)
        }
    }

    /// Gives a loan back.
    ///
    /// - Returns: where it lay, if it was held outside a placement by nobody else.
    func giveBack(_ loan: Loan) -> UnsafeMutableRawPointer? {
        if let generation = loan.generation, generation == self.generation, run != nil {
            heldStays[loan.index] -= 1
            return nil
        }
        let piece = loan.generation == nil ? loan.index : pieceOfStay[loan.index]
        guard let piece else { return nil }
        return pieces.release(piece)
    }

    /// The memory of a piece that `giveBack` returned may be used again, once the application's stream is done.
    func free(_ loan: Loan) {
        // Where the stream has failed, so will what comes next.
        try? settleApplication()
        if let piece = loan.generation == nil ? loan.index : pieceOfStay[loan.index] {
            pieces.free(piece)
        }
    }

    /// Rows in memory of their own; the caller has waited for their age.
    func lendRows(_ batch: RowBatch, name: String) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan, freshness: Freshness
    ) {
        let lent = try acquirePiece(byteCount: batch.byteCount, for: "a read of \(name)")
        let rows = try reader.read(batch, into: lent.address, label: name, ready: pieceEvent)
        counted.bytesIn += UInt64(rows.bytesCopiedIn)
        try wait(for: rowStream)
        return (lent.address, lent.loan, rows.freshness)
    }

    /// Adds an update held outside a placement to `log`.
    func addPiece(
        _ batch: RowBatch, _ loan: Loan, from address: UnsafeMutableRawPointer,
        to log: UnsafeMutablePointer<Float>
    ) throws(AccessError) {
        try settleApplication()
        try addSum(batch, from: address, to: log)
        free(loan)
    }

    /// Adds what a placement left on the device, or a piece holds, to `log`; nothing is under way to it.
    func addSum(
        _ batch: RowBatch, from address: UnsafeMutableRawPointer,
        to log: UnsafeMutablePointer<Float>
    ) throws(AccessError) {
        try pieceSaver.add(batch, from: address, to: log, label: "update")
        counted.bytesOut += UInt64(batch.byteCount)
        try wait(for: outStream)
    }

    /// An update went from the caller's memory to the host without room of its own.
    func noteTaken(_ batch: RowBatch) { counted.bytesOut += UInt64(batch.byteCount) }

    /// Sets memory to zero where the application's work will find it so.
    func zero(_ address: UnsafeMutableRawPointer, count: Int) {
        if let application {
            application.zero(address, byteCount: count * MemoryLayout<Float>.stride)
        } else {
            device.zero(address.assumingMemoryBound(to: Float.self), count: count)
        }
    }

    /// Notes, on the application's stream, that rows of `table` are not in use any more.
    func markClock(of table: TableIndex) { application?.record(clockEvents[table]) }

    /// Lets the application go on when the copies to a mirror are done.
    func orderAfterMirror(of table: TableIndex) throws(AccessError) -> UnsafePointer<Float>? {
        guard let mirror = reader.mirrors[table] else { return nil }
        noteUse(of: mirror.stay)
        if let application {
            application.wait(for: mirror.lastCopy)
        } else {
            do {
                try mirror.lastCopy.wait(deadline: .after(configuration.waitTimeout))
            } catch {
                throw AccessError(.deviceFailed, error.message)
            }
        }
        return UnsafePointer(mirror.rows)
    }
}
