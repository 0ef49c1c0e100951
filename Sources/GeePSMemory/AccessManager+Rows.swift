import GeePSCore
import GeePSDevice

/// Rows, updates and clocks where everything stays on the device, and what both kinds of memory share.
extension AccessManager {
    func register(table: TableIndex, rowCount: Int, selection: RowSelection) -> RowBatch {
        let layout = tables[table]
        var isWhole = false
        if case .run(let rows) = selection { isWhole = rows.count == layout.rowCount }
        let batch = RowBatch(
            id: batches.count, table: table, rowCount: rowCount, rowWidth: layout.rowWidth,
            selection: selection, isWholeTable: isWhole)
        batches.append(batch)
        return batch
    }

    func readInPlace(
        _ batch: RowBatch, rows: Range<Int>, least: Tick, isTraced: Bool
    ) throws(AccessError) -> ReadBuffer {
        // Counted before the wait, so that a clock raised meanwhile already waits for this buffer.
        signal.withLock {
            state.inPlaceReads[batch.table] += 1
            state.counters.readsInPlace += 1
        }
        do {
            try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
        } catch {
            signal.withLock { state.inPlaceReads[batch.table] -= 1 }
            throw error
        }
        let first = store.cachedRows(of: batch.table) + rows.lowerBound * batch.rowWidth
        let age = store.freshness(of: batch.table)?.age ?? least
        return ReadBuffer(
            values: first, count: batch.valueCount, age: age,
            lease: Lease(batch: batch.id, memory: .none, isTraced: isTraced),
            manager: self)
    }

    func readOnDemand(
        _ batch: RowBatch, least: Tick, isTraced: Bool
    ) throws(AccessError) -> ReadBuffer {
        try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
        let memory = try pool.take(valueCount: batch.valueCount)
        let freshness = gather(batch, into: memory)
        signal.withLock { state.counters.readsOnDemand += 1 }
        return lend(batch, memory, age: freshness.age, isTraced: isTraced)
    }

    func lend(
        _ batch: RowBatch, _ memory: PooledMemory, age: Tick, isTraced: Bool
    ) -> ReadBuffer {
        signal.withLock { state.counters.readsCopied += 1 }
        return ReadBuffer(
            values: UnsafePointer(memory.address), count: batch.valueCount, age: age,
            lease: Lease(batch: batch.id, memory: .pooled(memory), isTraced: isTraced),
            manager: self)
    }

    /// Under BSP rows cannot change before this worker's next update, so a prepared copy is the newest.
    func isOutdated(
        _ freshness: Freshness, batch: RowBatch, staleness: Staleness
    ) -> Bool {
        refreshesReads && staleness != .bulkSynchronous
            && store.freshness(of: batch.table) != freshness
    }

    func gather(_ batch: RowBatch, into memory: PooledMemory) -> Freshness {
        store.withStableRows(of: batch.table) { rows in
            switch batch.selection {
            case .run(let range) where managed != nil:
                Kernels.copy(
                    rows + range.lowerBound * batch.rowWidth, to: memory.address,
                    count: batch.valueCount)
            case .list(let index) where managed != nil:
                Kernels.gatherRows(
                    memory.address, from: rows, at: index.hostEntries, rowCount: batch.rowCount,
                    rowWidth: batch.rowWidth)
            case .run(let range):
                device.copy(
                    rows + range.lowerBound * batch.rowWidth, count: batch.valueCount,
                    into: memory.address)
            case .list(let index):
                device.gatherRows(
                    rows, indexes: index.entries, count: batch.rowCount, rowWidth: batch.rowWidth,
                    into: memory.address)
            }
            return store.freshness(of: batch.table) ?? Freshness(age: .zero, version: 0)
        }
    }

    func perform(_ work: Reclaimer.Work) throws(AccessError) {
        switch work {
        case .raiseClock(let table):
            if let managed, updatesMove {
                managed.raiseClock(of: table)
            } else {
                store.raiseClock(of: table)
            }
        case .save(let stay, let run, let log, let isAdded):
            try managed?.save(stay: stay, of: run, log: log?.floats, isAdded: isAdded)
        case .absorb(let batch, let memory, let tick):
            defer { pool.giveBack(memory) }
            let log = try store.log(of: batch.table, tick: tick, isOverwritten: false)
            switch batch.selection {
            case .run(let rows):
                device.add(
                    UnsafePointer(memory.address), count: batch.valueCount,
                    into: log + rows.lowerBound * batch.rowWidth)
            case .list(let index):
                device.scatterAddRows(
                    UnsafePointer(memory.address), indexes: index.entries, count: batch.rowCount,
                    rowWidth: batch.rowWidth, into: log)
            }
        }
    }

    /// An update that was not finished counts as none.
    func discardUpdate(_ lease: Lease, of batch: RowBatch) {
        signal.withLock { state.counters.updatesDiscarded += 1 }
        if case .pooled(let memory) = lease.memory {
            pool.giveBack(memory)
        } else if let log = try? store.log(of: batch.table, tick: lease.tick, isOverwritten: true) {
            device.zero(log, count: batch.valueCount)
        }
    }

    /// Raises the clock of `table`, after what the reclaimer still has to add and after the last buffer
    /// lent in place has come back.
    func requestClock(of table: TableIndex) {
        let mustRaise = signal.withLock {
            state.clockRaised[table] = true
            state.clockWaits[table] = state.inPlaceReads[table] > 0
            return !state.clockWaits[table]
        }
        if mustRaise { raiseClock(of: table) }
    }

    /// Nothing of the application's uses rows of `table` any more.
    func raiseClock(of table: TableIndex) {
        managed?.markClock(of: table)
        // Another thread is worth its wake only where something still has to be added or copied.
        if !updatesMove, reclaimer?.isIdle == true { return store.raiseClock(of: table) }
        reclaimer?.send(.raiseClock(table))
    }

    func hasRaised(_ table: TableIndex) -> Bool {
        signal.withLock { state.clockRaised[table] }
    }

    func rethrowFailure() throws(AccessError) {
        if let failure = reclaimer?.failure ?? managed?.failure { throw failure }
        if let failure = signal.withLock({ state.failure }) { throw failure }
    }

    /// Keeps what the next access will throw.
    func keep(_ error: AccessError) {
        signal.withLock { if state.failure == nil { state.failure = error } }
    }

    /// Derives from `plan` where clocks are raised, which updates go straight to the log, and what the
    /// allocator prepares.
    func adopt(_ plan: AccessPlan, _ placement: Placement?) throws(AccessError) {
        if managed?.configuration.servesInForeground == true { return }
        let tableOfBatch = batches.map(\.table)
        lastUpdates = plan.lastUpdates(tableOfBatch: tableOfBatch, tableCount: tables.count)
        updateCounts = plan.updateCounts(tableOfBatch: tableOfBatch, tableCount: tables.count)
        if let managed { return try place(managed, plan, placement) }
        allocator?.stop()
        allocator = nil
        allocatorSequence = 0
        var reads: [PlannedRead] = []
        readOrdinals = plan.accesses.map { access in
            guard access.kind == .read, needsCopy(batches[access.batch]) else { return nil }
            reads.append(PlannedRead(batch: batches[access.batch]))
            return reads.count - 1
        }
        guard !reads.isEmpty else { return }
        allocator = Allocator(
            store: store, reads: reads, firstTick: tick, staleness: defaultStaleness,
            take: { [pool] batch throws(AccessError) in try pool.take(valueCount: batch.valueCount)
            },
            giveBack: { [pool] memory in pool.giveBack(memory) },
            gather: { [unowned self] batch, memory in gather(batch, into: memory) })
    }

    func needsCopy(_ batch: RowBatch) -> Bool {
        guard case .run = batch.selection, isBulkSynchronousJob else { return true }
        return defaultStaleness != .bulkSynchronous
    }
}
