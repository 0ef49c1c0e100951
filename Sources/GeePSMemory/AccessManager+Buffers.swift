import GeePSCore

/// Buffers that come back when they are dropped.
extension AccessManager {
    func endRead(_ lease: Lease) {
        guard !isClosed else { return }
        let position = lease.isTraced ? note(Access(.endRead, batch: lease.batch)) : nil
        switch lease.memory {
        case .pooled(let memory): return pool.giveBack(memory)
        case .managed(let loan, _): return endManagedRead(loan, at: position)
        case .none: break
        }
        let table = batches[lease.batch].table
        let (mustRaise, mustTake) = signal.withLock {
            state.inPlaceReads[table] -= 1
            guard state.inPlaceReads[table] == 0 else { return (false, false) }
            defer { (state.clockWaits[table], state.isSentAhead[table]) = (false, false) }
            return (state.clockWaits[table], state.isSentAhead[table])
        }
        if mustTake { store.takeRows(of: table) }
        if mustRaise { raiseClock(of: table) }
    }

    func endUpdate(_ lease: Lease, isComplete: Bool) {
        guard !isClosed else { return }
        let batch = batches[lease.batch]
        let position = note(Access(.endUpdate, batch: batch.id))
        if case .managed(let loan, let address) = lease.memory {
            endManagedUpdate(
                lease, loan, address, of: batch, at: position, isComplete: isComplete)
        } else if isComplete {
            signal.withLock { state.counters.updates += 1 }
            managed?.noteTaken(batch)
            if case .pooled(let memory) = lease.memory {
                // The clock may have been raised while the buffer was out.
                let tick = hasRaised(batch.table) ? self.tick.next.next : lease.tick
                reclaimer?.send(.absorb(batch, memory, tick: tick))
            }
        } else {
            discardUpdate(lease, of: batch)
        }
        if position != nil, position == lastUpdates[batch.table], !hasRaised(batch.table) {
            requestClock(of: batch.table)
        }
    }

    func endLocal(_ lease: Lease, keep: Bool) {
        guard !isClosed else { return }
        let position = note(Access(.endLocal, batch: lease.batch, matters: keep))
        if case .managed(let loan, _) = lease.memory {
            endManagedLocal(lease.batch, loan, at: position, keep: keep)
        } else {
            managed?.endLeft(lease.batch, keep: keep)
        }
    }
}
