import GeePSCore

// Checkers: what must hold, judged by the contents of rows and not by what the protocol says of them.
extension World {
    /// Judges a read that returned: rows fresh enough, not too fresh, whole, not older than the last.
    mutating func checkRead(worker: Int, table: TableIndex) {
        coverage.readsChecked += 1
        let tick = workers[worker].completed
        let least = workers[worker].readStaleness.leastAge(at: Tick(tick)).count
        for block in scenario.map.blocksOfTable[table] {
            let rows = workers[worker].cache[block]
            note(.read, worker: worker, block: block, tick: tick)
            if let fault = mistake(in: rows, block: block) {
                violate(.exactlyOnce, "worker \(worker) read block \(block) at \(tick): \(fault)")
                return
            }
            let age = age(worker: worker, block: block)
            for other in 0..<scenario.workerCount {
                let included = includedTicks(of: other, in: rows, block: block)
                let before = includedTicks(
                    of: other, in: workers[worker].lastRead[block], block: block)
                check(
                    included, of: other, before: before, age: age, least: least, worker: worker,
                    block: block)
            }
            workers[worker].lastRead[block] = rows
            if scenario.lag == nil { checkOwnUpdates(worker: worker, block: block) }
        }
    }

    /// Asynchronous rows hold the reader's own updates as far as they are acknowledged.
    private mutating func checkOwnUpdates(worker: Int, block: Int) {
        let place = scenario.map.blocks[block]
        let acknowledged = workers[worker].machines[place.keeper]
            .acknowledged(block: place.indexInKeeper)
        let included = includedTicks(of: worker, in: workers[worker].cache[block], block: block)
        guard included != acknowledged else { return }
        violate(
            .freshness,
            "worker \(worker) read block \(block) with \(included) own ticks, the keeper "
                + "acknowledged \(acknowledged)")
    }

    /// The rules for the ticks of worker `other` that `worker` sees.
    private mutating func check(
        _ included: UInt64, of other: Int, before: UInt64, age: UInt64?, least: UInt64,
        worker: Int, block: Int
    ) {
        let tick = workers[worker].completed
        func sight() -> String {
            "worker \(worker) at tick \(tick) read block \(block) with \(included) ticks of worker "
                + "\(other) (age \(age.map { "\($0)" } ?? "none"))"
        }
        if included < least { violate(.freshness, "\(sight()), at least \(least) are due") }
        if included < (age ?? 0) { violate(.freshness, "\(sight()), fewer than the age says") }
        // No worker's next tick can be in before this one's is.
        if included > tick, scenario.lag != nil || other == worker {
            violate(.noFuture, "\(sight()), which is not over")
        }
        if included < before { violate(.monotoneReads, "\(sight()), before \(before)") }
    }

    /// The ticks of `worker` in `rows`; zero when they are not initialised.
    func includedTicks(of worker: Int, in rows: Contents, block: Int) -> UInt64 {
        guard rows.initial != 0 else { return 0 }
        return restoredTick + (rows[worker] &- restoredRows[block][worker]) & 0xffff
    }

    /// What is wrong with the sums in `rows`: each contribution up to the included tick must be in once.
    func mistake(in rows: Contents, block: Int) -> String? {
        guard rows.initial == initialValue(block: block) else {
            return "the initial value is \(rows.initial), expected \(initialValue(block: block))"
        }
        for worker in 0..<scenario.workerCount {
            let tick = includedTicks(of: worker, in: rows, block: block)
            let expected =
                sum(worker: worker, block: block, upTo: tick, generation: generation)
                &- sum(worker: worker, block: block, upTo: restoredTick, generation: generation)
            let found = rows[worker] &- restoredRows[block][worker]
            guard found == expected else {
                return "the sum of \(tick - restoredTick) contributions of worker \(worker) is "
                    + "\(found), expected \(expected)"
            }
        }
        return nil
    }

    /// The optimiser ran: the rows hold exactly what the keeper says it received and applied.
    mutating func checkRows(keeper: Int, block: Int) {
        let position = scenario.map.blocksOfKeeper[keeper][block]
        let rows = keepers[keeper].rows[block]
        if let mistake = mistake(in: rows, block: position) {
            violate(.exactlyOnce, "keeper \(keeper), block \(position): \(mistake)")
        }
        let age = keepers[keeper].machine.age(block: block) ?? 0
        for worker in 0..<scenario.workerCount {
            let isAlone = scenario.lag == nil
            let received = keepers[keeper].machine.received(block: block, from: worker)
            let expected = isAlone ? received : age
            let included = includedTicks(of: worker, in: rows, block: position)
            guard included != expected else { continue }
            violate(
                .exactlyOnce,
                "keeper \(keeper), block \(position) has \(included) ticks of worker \(worker), "
                    + "expected \(expected)")
        }
    }

    /// The rows of a checkpoint hold its tick of every worker; under a barrier of ticks nothing more.
    mutating func checkRestoredRows() {
        for block in restoredRows.indices {
            for worker in 0..<scenario.workerCount {
                let count = restoredRows[block][worker] & 0xffff
                let isWrong = scenario.lag == nil ? count < restoredTick : count != restoredTick
                guard isWrong else { continue }
                violate(
                    .checkpoint,
                    "the checkpoint of tick \(restoredTick) has \(count) contributions of worker "
                        + "\(worker) in block \(block)")
            }
        }
    }

    /// A push takes its payload from the update log while its entry cannot be in use for a later tick.
    mutating func checkLogEntry(worker: Int, keeper: Int, block: Int, tick: UInt64) {
        let acknowledged = workers[worker].machines[keeper].acknowledged(block: block)
        guard tick <= acknowledged else { return }
        violate(
            .updateLog,
            "worker \(worker) pushes tick \(tick) of block \(block) to keeper \(keeper) again, "
                + "although \(acknowledged) is acknowledged")
    }

    /// In lock step a keeper sends the rows that it steps, not a copy: nobody who could push the next tick may be
    /// among those whom it sends them to.
    mutating func checkRowsStandStill(keeper: Int, block: Int, worker: Int) {
        guard scenario.lag == 0 else { return }
        let age = keepers[keeper].machine.age(block: block) ?? 0
        let received = keepers[keeper].machine.received(block: block, from: worker)
        guard received > age else { return }
        violate(
            .rowsStandStill,
            "keeper \(keeper) sends block \(block) at age \(age) to worker \(worker), which has pushed "
                + "tick \(received)")
    }

    /// Contributions of a tick are added in rank order.
    mutating func checkRankOrder(worker: Int, keeper: Int, block: Int) {
        let expected = keepers[keeper].nextRanks[block]
        keepers[keeper].nextRanks[block] += 1
        guard worker != expected else { return }
        violate(
            .rankOrder,
            "keeper \(keeper) added worker \(worker) to block \(block), rank \(expected) is next")
    }

    /// What a keeper holds is bounded by the staleness.
    mutating func checkHolds(keeper: Int, block: Int) {
        let limit = keepers[keeper].heldTicks * scenario.workerCount
        guard keepers[keeper].heldCounts[block] > limit else { return }
        violate(
            .boundedHolds,
            "keeper \(keeper) holds \(keepers[keeper].heldCounts[block]) pushes of block \(block), "
                + "at most \(limit) are allowed")
    }

    /// A worker that reads `table` has committed at most staleness + 1 ticks more of it than any other.
    mutating func checkLead(of worker: Int, table: TableIndex) {
        guard let lag = scenario.lag, !workers[worker].isWriteOnly[table] else { return }
        let own = workers[worker].machines[0].committed(table: table)
        for other in workers.indices {
            let committed = workers[other].machines[0].committed(table: table)
            guard own > committed + lag + 1 else { continue }
            violate(
                .boundedLead,
                "worker \(worker) committed tick \(own) of table \(table), worker \(other) tick "
                    + "\(committed), staleness \(lag)")
        }
    }

    /// Where everyone reads every table, the fastest worker is at most staleness + 1 clocks ahead.
    mutating func checkLeadOfClocks() {
        guard let lag = scenario.lag, scenario.writeOnlyPercent == 0 else { return }
        var slowest = UInt64.max
        var fastest: UInt64 = 0
        for worker in workers.indices {
            slowest = min(slowest, workers[worker].completed)
            fastest = max(fastest, workers[worker].completed)
        }
        guard fastest > slowest + lag + 1 else { return }
        violate(
            .boundedLead,
            "the fastest worker completed \(fastest) clocks, the slowest \(slowest), staleness \(lag)"
        )
    }

    /// An asynchronous read waits for nothing but the initial values.
    ///
    /// A log of staleness + 1 ticks is enough for a worker that reads what it updates, so that wait
    /// is judged by liveness alone.
    mutating func checkWaitIsAllowed(worker: Int, table: TableIndex) {
        guard scenario.lag == nil else { return }
        for block in scenario.map.blocksOfTable[table]
        where age(worker: worker, block: block) == nil { return }
        violate(
            .asynchronousReads,
            "worker \(worker) waits to read table \(table) although it has the initial values")
    }

    /// All is done: every block has every tick of every worker, once.
    mutating func checkEnd() {
        for keeper in keepers.indices {
            for block in keepers[keeper].rows.indices {
                checkRows(keeper: keeper, block: block)
                let age = keepers[keeper].machine.age(block: block) ?? 0
                guard age != scenario.target else { continue }
                violate(.liveness, "keeper \(keeper) ends at tick \(age) of \(scenario.target)")
            }
        }
    }

    /// Who waits for whom.
    func waitGraph() -> String {
        var edges: [String] = []
        for worker in workers.indices where workers[worker].phase != .done {
            edges.append(contentsOf: waits(of: worker))
        }
        for keeper in keepers.indices {
            for (block, position) in scenario.map.blocksOfKeeper[keeper].enumerated() {
                let machine = keepers[keeper].machine
                guard let age = machine.age(block: block) else {
                    edges.append("keeper \(keeper) for the initial values of block \(position)")
                    continue
                }
                guard age < scenario.target else { continue }
                edges.append(
                    "keeper \(keeper) for tick \(age + 1) of block \(position) from workers "
                        + "\(machine.missing(block: block))")
            }
        }
        for worker in workers.indices where workers[worker].phase == .done {
            for block in 0..<scenario.blockCount
            where age(worker: worker, block: block) != scenario.target {
                edges.append("worker \(worker) for the last tick of block \(block)")
            }
        }
        return "waiting: " + edges.joined(separator: "; ")
    }

    private func waits(of worker: Int) -> [String] {
        let state = workers[worker]
        let isReading = state.phase == .reading
        let table = isReading ? state.position : state.order[state.position]
        let least = leastAge(worker: worker)
        let tick = state.completed
        return scenario.map.blocksOfTable[table].compactMap { block in
            let place = scenario.map.blocks[block]
            let name = "block \(block) of table \(table) on keeper \(place.keeper)"
            let age = age(worker: worker, block: block)
            if isReading {
                if let age, age >= least { return nil }
                let found = age.map { "\($0)" } ?? "none"
                return "worker \(worker) at tick \(tick) for age \(least) of \(name), has \(found)"
            }
            let acknowledged = state.machines[place.keeper].acknowledged(block: place.indexInKeeper)
            guard tick + 1 > acknowledged + UInt64(logTicks) else { return nil }
            return "worker \(worker) at tick \(tick) for log space of \(name), "
                + "acknowledged \(acknowledged)"
        }
    }
}
