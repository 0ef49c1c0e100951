import GeePSCore
import GeePSDevice

/// A table's update that is on the device until it is copied over its log.
struct OpenSum {
    var log: HostAddress
    var batch: RowBatch
    /// Where it is summed up.
    var stay: Int
    /// Some update is in it.
    var hasContent = false
    /// The log has an update already: one that came too late for the iteration before.
    var isAdded = false
}

/// Accesses in managed memory: where the placement has them, or by themselves.
extension AccessManager {
    /// Notes an access, and gives the placement up where it is not the planned one.
    ///
    /// - Returns: its position in the plan.
    func note(_ access: Access) -> Int? {
        let position = tracker.note(access)
        if tracker.strayed { abandonPlacement() }
        return position
    }

    /// Serves what is left of the iteration by itself.
    func abandonPlacement() {
        guard let managed, let run = managed.run else { return }
        reclaimer?.drain()
        let lent = signal.withLock { state.inPlaceReads }
        do throws(AccessError) {
            try managed.abandon(rowsLentOf: Set(lent.indices.filter { lent[$0] > 0 }))
            // The logs were to be overwritten as a whole; from here on updates are added.
            for sum in openSums.values {
                if !sum.isAdded {
                    Kernels.fill(sum.log.floats, with: 0, count: sum.batch.valueCount)
                }
                guard sum.hasContent else { continue }
                try managed.addSum(
                    sum.batch, from: run.stays[sum.stay].address, to: sum.log.floats)
            }
        } catch {
            keep(error)
        }
        openSums = [:]
    }

    /// Lays memory out for `plan`.
    func place(
        _ managed: ManagedMemory, _ plan: AccessPlan, _ given: Placement?
    ) throws(AccessError) {
        guard !managed.isHeld, signal.withLock({ state.inPlaceReads.allSatisfy { $0 == 0 } })
        else { return }
        let placement: Placement
        if let given {
            precondition(
                given.stayOfAccess.count == plan.accesses.count,
                "the placement is for \(given.stayOfAccess.count) accesses, the plan has "
                    + "\(plan.accesses.count)")
            placement = given
        } else {
            do throws(PlanRefusal) {
                let problem = problem(for: plan)
                let planner =
                    if let points = managed.configuration.planGridPoints {
                        try PlacementPlanner(problem, gridPoints: points)
                    } else {
                        try PlacementPlanner(problem)
                    }
                placement = try planner.placement()
            } catch {
                reclaimer?.drain()
                try managed.leave()
                throw AccessError(
                    .budgetTooSmall, error.message)
            }
        }
        reclaimer?.drain()
        openSums = [:]
        try managed.follow(placement, batches: batches, tables: tables, tick: tick) {
            [unowned self] in signal.withLock { state.staleness }
        }
    }

    /// What the planner is asked for `plan`.
    package func problem(for plan: AccessPlan) -> PlanProblem {
        let readsInPlace = isBulkSynchronousJob && defaultStaleness == .bulkSynchronous
        let late = plan.batchesReadAfterUpdates(
            tableOfBatch: batches.map(\.table), tableCount: tables.count)
        var problem = PlanProblem(
            accesses: plan.accesses,
            locals: (managed?.locals ?? []).map {
                PlanProblem.Local(
                    name: $0.name, byteCount: $0.byteCount, mayBeLeft: $0.mayBeLeft)
            },
            batches: batches.map { batch in
                var isRun = readsInPlace && !late.contains(batch.id)
                if case .list = batch.selection { isRun = false }
                return PlanProblem.Batch(
                    table: batch.table, byteCount: batch.byteCount, isRun: isRun,
                    isWholeTable: batch.isWholeTable)
            },
            tables: tables.map {
                PlanProblem.Table(name: $0.name, cacheBytes: $0.byteCount)
            })
        problem.updatesNeedRoom = !store.stepsInPlace
        for batch in batches {
            guard case .list(let index) = batch.selection else { continue }
            problem.fixedBytes += (index.byteCount + 63) / 64 * 64
        }
        guard let configuration = managed?.configuration else { return problem }
        problem.budgetBytes = configuration.budgetBytes
        problem.policy = configuration.policy
        problem.link = configuration.link
        if configuration.phaseNanoseconds.count == problem.phaseCount {
            problem.phaseNanoseconds = configuration.phaseNanoseconds
        }
        return problem
    }

    // MARK: Reads

    func readManaged(
        _ managed: ManagedMemory, _ batch: RowBatch, at position: Int?, least: Tick,
        staleness: Staleness
    ) throws(AccessError) -> ReadBuffer {
        guard let run = managed.run, let position else {
            try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
            let lent = try managed.lendRows(batch, name: tables[batch.table].name)
            signal.withLock { state.counters.readsOnDemand += 1 }
            return buffer(batch, lent.address, lent.loan, age: lent.freshness.age)
        }
        guard let stay = managed.stay(at: position) else {
            return try readMirror(managed, batch, least: least)
        }
        let lent = try managed.acquire(stay: stay, at: position)
        var freshness = run.freshness(ofStay: stay) ?? .none
        let begins = run.stays[stay].plan.firstAccess == position
        // A copy that stays between two reads of an iteration is not renewed: both see the same rows.
        if begins,
            freshness.age < least || isOutdated(freshness, batch: batch, staleness: staleness)
        {
            // Refreshed just before lending: the newest admissible rows, not the oldest (j-21).
            try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
            try run.refresh(stay: stay)
            freshness = run.freshness(ofStay: stay) ?? .none
            signal.withLock { state.counters.refreshes += 1 }
        }
        return buffer(batch, lent.address, lent.loan, age: freshness.age)
    }

    private func buffer(
        _ batch: RowBatch, _ address: UnsafeMutableRawPointer, _ loan: ManagedMemory.Loan,
        age: Tick
    ) -> ReadBuffer {
        signal.withLock { state.counters.readsCopied += 1 }
        let floats = address.assumingMemoryBound(to: Float.self)
        return ReadBuffer(
            values: UnsafePointer(floats), count: batch.valueCount, age: age,
            lease: Lease(
                batch: batch.id, memory: .managed(loan, HostAddress(floats)), isTraced: true),
            manager: self)
    }

    /// Lends rows of a cache on the device in place.
    private func readMirror(
        _ managed: ManagedMemory, _ batch: RowBatch, least: Tick
    ) throws(AccessError) -> ReadBuffer {
        guard case .run(let range) = batch.selection else {
            preconditionFailure("rows by index are never lent in place")
        }
        signal.withLock {
            state.inPlaceReads[batch.table] += 1
            state.counters.readsInPlace += 1
        }
        do throws(AccessError) {
            try store.waitForAge(of: batch.table, atLeast: least, unless: nil)
            guard let rows = try managed.orderAfterMirror(of: batch.table) else {
                preconditionFailure("the placement has no cache of table \(batch.table)")
            }
            return ReadBuffer(
                values: rows + range.lowerBound * batch.rowWidth, count: batch.valueCount,
                age: store.freshness(of: batch.table)?.age ?? least,
                lease: Lease(batch: batch.id, memory: .none, isTraced: true),
                manager: self)
        } catch {
            signal.withLock { state.inPlaceReads[batch.table] -= 1 }
            throw error
        }
    }

    func endManagedRead(_ loan: ManagedMemory.Loan, at position: Int?) {
        guard let managed else { return }
        let address = managed.giveBack(loan)
        if let run = managed.run, let position {
            reclaim(run, at: position, log: nil)
        } else if address != nil {
            managed.free(loan)
        }
    }

    // MARK: Updates

    func updateManaged(
        _ managed: ManagedMemory, _ batch: RowBatch, at position: Int?, tick: Tick,
        isOverwritten: Bool
    ) throws(AccessError) -> UpdateBuffer {
        var lent: (address: UnsafeMutableRawPointer, loan: ManagedMemory.Loan)
        let log: UnsafeMutablePointer<Float>
        if let run = managed.run, let position, let index = managed.stay(at: position) {
            let stay = run.stays[index]
            let overwritesLog = stay.isWholeUpdate || stay.plan.addsInto != nil
            log = try store.log(of: batch.table, tick: tick, isOverwritten: overwritesLog)
            if stay.isWholeUpdate {
                openSums[batch.table] = OpenSum(
                    log: HostAddress(log), batch: batch, stay: index,
                    isAdded: lateTicks[batch.table] == tick)
            }
            lent = try managed.acquire(stay: index, at: position)
        } else {
            log = try store.log(of: batch.table, tick: tick, isOverwritten: false)
            if tick > self.tick.next { lateTicks[batch.table] = tick }
            lent = try managed.acquirePiece(
                byteCount: batch.byteCount, for: "an update of \(tables[batch.table].name)")
        }
        if !isOverwritten { managed.zero(lent.address, count: batch.valueCount) }
        let floats = lent.address.assumingMemoryBound(to: Float.self)
        return UpdateBuffer(
            values: floats, count: batch.valueCount,
            lease: Lease(
                batch: batch.id, memory: .managed(lent.loan, HostAddress(floats)), isTraced: true,
                tick: tick, log: HostAddress(log)), manager: self)
    }

    func endManagedUpdate(
        _ lease: Lease, _ loan: ManagedMemory.Loan, _ address: HostAddress, of batch: RowBatch,
        at position: Int?, isComplete: Bool
    ) {
        guard let managed, let log = lease.log else { return }
        signal.withLock {
            if isComplete {
                state.counters.updates += 1
            } else {
                state.counters.updatesDiscarded += 1
            }
        }
        if !isComplete {
            // An update that was not finished counts as one of zeros.
            managed.zero(UnsafeMutableRawPointer(address.floats), count: batch.valueCount)
        }
        let piece = managed.giveBack(loan)
        if let run = managed.run, let position {
            openSums[batch.table]?.hasContent = true
            reclaim(
                run, at: position, log: log, isAdded: openSums[batch.table]?.isAdded ?? false)
            if let sum = openSums[batch.table], run.stays[sum.stay].plan.lastAccess == position {
                openSums[batch.table] = nil
            }
            return
        }
        guard let piece else { return }
        do throws(AccessError) {
            // The clock may have been raised while the buffer was out.
            let isLate = hasRaised(batch.table) && lease.tick == tick.next
            if isLate { lateTicks[batch.table] = tick.next.next }
            let target =
                isLate
                ? try store.log(of: batch.table, tick: tick.next.next, isOverwritten: false)
                : log.floats
            try managed.addPiece(batch, loan, from: piece, to: target)
        } catch {
            keep(error)
        }
    }

    // MARK: Local data

    func localManaged(
        _ managed: ManagedMemory, _ batch: LocalBatch, at position: Int?, fetch: Bool
    ) throws(AccessError) -> LocalBuffer {
        if fetch, let bytes = managed.lendLeft(batch.id) {
            return LocalBuffer(
                address: bytes, byteCount: batch.byteCount,
                lease: Lease(batch: batch.id, memory: .none, isTraced: true), manager: self)
        }
        let lent: (address: UnsafeMutableRawPointer, loan: ManagedMemory.Loan)
        if let position, let stay = managed.stay(at: position), managed.hasRoom(stay) {
            lent = try managed.lendLocal(
                batch.id, stay: stay, at: position, fetch: fetch)
        } else {
            lent = try managed.lendLocal(batch.id, fetch: fetch)
        }
        let floats = lent.address.assumingMemoryBound(to: Float.self)
        return LocalBuffer(
            address: lent.address, byteCount: batch.byteCount,
            lease: Lease(
                batch: batch.id, memory: .managed(lent.loan, HostAddress(floats)), isTraced: true),
            manager: self)
    }

    func endManagedLocal(_ id: Int, _ loan: ManagedMemory.Loan, at position: Int?, keep: Bool) {
        guard let managed else { return }
        do throws(AccessError) {
            try managed.endLocal(id, loan, at: position, keep: keep)
        } catch {
            self.keep(error)
        }
        if let run = managed.run, let position { reclaim(run, at: position, log: nil) }
    }

    /// Hands the stays that end at `position` to the reclaimer.
    private func reclaim(
        _ run: PlacementRun, at position: Int, log: HostAddress?, isAdded: Bool = false
    ) {
        run.release(position) { stay in
            reclaimer?.send(.save(stay: stay, run, log: log, isAdded: isAdded))
        }
    }
}
