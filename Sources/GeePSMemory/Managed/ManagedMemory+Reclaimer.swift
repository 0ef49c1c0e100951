internal import GeePSCore
internal import GeePSDevice

/// What the reclaimer's thread puts on the stream to the host.
extension ManagedMemory {
    /// Copies a stay out, or adds it to the one it adds to; its memory is free behind that.
    ///
    /// - Parameter isAdded: the log has something already, so that even a whole update is added to it.
    func save(
        stay index: Int, of run: PlacementRun, log: UnsafeMutablePointer<Float>?, isAdded: Bool
    ) throws(AccessError) {
        let stay = run.stays[index]
        if let done = stay.done { outStream.wait(for: done) }
        if let target = stay.plan.addsInto {
            let other = run.stays[target]
            outStream.add(
                UnsafePointer(stay.address.assumingMemoryBound(to: Float.self)),
                count: stay.plan.byteCount / MemoryLayout<Float>.stride,
                into: other.address.assumingMemoryBound(to: Float.self), label: stay.label)
        } else if let batch = stay.batch, let log {
            if stay.isWholeUpdate && !isAdded {
                saver.save(batch, from: stay.address, over: log, label: stay.label)
            } else {
                try saver.add(batch, from: stay.address, to: log, label: stay.label)
            }
            run.noteCopiedOut(stay.plan.byteCount)
        } else if let home = stay.home {
            outStream.copy(
                from: stay.address, to: home, byteCount: stay.plan.byteCount,
                direction: .deviceToHost, label: stay.label)
            run.noteCopiedOut(stay.plan.byteCount)
        }
        if let saved = stay.saved { outStream.record(saved) }
        run.noteVacated(index)
    }

    /// Raises a table's clock when the copies before are done.
    func raiseClock(of table: TableIndex) {
        if application != nil { outStream.wait(for: clockEvents[table]) }
        outStream.run(label: "clock") { [store] in store.raiseClock(of: table) }
    }
}
