import GeePSCore

// A worker: the application's clock, the pusher and the puller.
extension World {
    /// Lets the application of `worker` go on after `wait` microseconds.
    mutating func scheduleApplication(_ worker: Int, in wait: UInt64) {
        queue.schedule(
            at: now + wait, .application(worker: worker, generation: generation))
    }

    /// Runs the application until it waits, computes or is done.
    mutating func runApplication(_ worker: Int) {
        guard !workers[worker].isDead else { return }
        guard workers[worker].pausedUntil <= now else {
            scheduleApplication(worker, in: workers[worker].pausedUntil - now)
            return
        }
        switch workers[worker].phase {
        case .reading: readTables(worker)
        case .updating: updateTables(worker)
        case .done: break
        }
    }

    /// Reads every table, then computes.
    private mutating func readTables(_ worker: Int) {
        if workers[worker].position == 0 { workers[worker].readStaleness = drawReadStaleness() }
        while workers[worker].position < scenario.tableCount {
            let table = workers[worker].position
            if !workers[worker].isWriteOnly[table] {
                guard canRead(worker: worker, table: table) else {
                    wait(worker, .waitsToRead, table: table)
                    return
                }
                checkRead(worker: worker, table: table)
            }
            workers[worker].position += 1
        }
        workers[worker].phase = .updating
        workers[worker].position = 0
        if scenario.commitsInReverse {
            workers[worker].order = Array((0..<scenario.tableCount).reversed())
        } else {
            random.shuffle(&workers[worker].order)
        }
        scheduleApplication(worker, in: 1 + random.below(scenario.computeSpread + 1))
    }

    /// Updates and commits the tables one after the other; each commit is pushed at once.
    private mutating func updateTables(_ worker: Int) {
        while workers[worker].position < scenario.tableCount {
            let table = workers[worker].order[workers[worker].position]
            guard hasLogSpace(worker: worker, table: table) else {
                wait(worker, .waitsForLog, table: table)
                return
            }
            // The backward pass reads the table again.
            if !workers[worker].isWriteOnly[table] { checkRead(worker: worker, table: table) }
            update(worker: worker, table: table)
            workers[worker].position += 1
            if scenario.commitSpread > 0, workers[worker].position < scenario.tableCount {
                scheduleApplication(worker, in: random.below(scenario.commitSpread))
                return
            }
        }
        completeClock(worker)
    }

    private mutating func completeClock(_ worker: Int) {
        workers[worker].completed += 1
        workers[worker].position = 0
        note(.completed, worker: worker, tick: workers[worker].completed)
        checkLeadOfClocks()
        if workers[worker].completed == scenario.target {
            workers[worker].phase = .done
            finishedWorkers += 1
        } else {
            workers[worker].phase = .reading
            scheduleApplication(worker, in: 1)
        }
    }

    /// The staleness of the reads of one clock.
    ///
    /// An asynchronous keeper publishes to the sender of an update only, so in an asynchronous job
    /// every read is asynchronous.
    private mutating func drawReadStaleness() -> Staleness {
        guard scenario.mixesStaleness, let lag = scenario.lag else { return scenario.staleness }
        return .clocks(random.below(lag + 1))
    }

    private mutating func wait(_ worker: Int, _ mark: Mark, table: TableIndex) {
        workers[worker].isWaiting = true
        if mark == .waitsToRead {
            coverage.readsWaited += 1
            checkWaitIsAllowed(worker: worker, table: table)
        } else {
            coverage.updatesWaited += 1
        }
        note(mark, worker: worker, block: table, tick: workers[worker].completed)
    }

    /// The least data age that lets the current clock's reads through.
    func leastAge(worker: Int) -> UInt64 {
        let tick = Tick(workers[worker].completed)
        let least = workers[worker].readStaleness.leastAge(at: tick).count
        return defect == .readIgnoresStaleness && least > 0 ? least - 1 : least
    }

    /// Whether every block of `table` is old enough.
    private func canRead(worker: Int, table: TableIndex) -> Bool {
        let least = leastAge(worker: worker)
        for block in scenario.map.blocksOfTable[table] {
            let isReady = age(worker: worker, block: block).map { $0 >= least } ?? false
            if isReady, defect == .ageRaisedBeforeLastBlock { return true }
            if !isReady, defect != .ageRaisedBeforeLastBlock { return false }
        }
        return defect != .ageRaisedBeforeLastBlock
    }

    /// The data age of `block` in the worker's cache.
    func age(worker: Int, block: Int) -> UInt64? {
        let place = scenario.map.blocks[block]
        return workers[worker].machines[place.keeper].age(block: place.indexInKeeper)
    }

    /// Whether the update log has an entry free for the next tick of every block of `table`.
    private func hasLogSpace(worker: Int, table: TableIndex) -> Bool {
        guard defect != .logReusedBeforeAcknowledgement else { return true }
        let tick = workers[worker].completed + 1
        for block in scenario.map.blocksOfTable[table] {
            let place = scenario.map.blocks[block]
            let acknowledged = workers[worker].machines[place.keeper]
                .acknowledged(block: place.indexInKeeper)
            if tick > acknowledged + UInt64(logTicks) { return false }
        }
        return true
    }

    private mutating func update(worker: Int, table: TableIndex) {
        let tick = workers[worker].completed + 1
        note(.commit, worker: worker, block: table, tick: tick)
        for block in scenario.map.blocksOfTable[table] {
            workers[worker].log[block * logTicks + Int(tick % UInt64(logTicks))] = contribution(
                worker: worker, block: block, tick: tick, generation: generation)
        }
        for keeper in 0..<scenario.keeperCount {
            let committed = workers[worker].machines[keeper].commit(table: table)
            precondition(committed == tick, "committed tick \(committed), expected \(tick)")
        }
        checkLead(of: worker, table: table)
        for block in scenario.map.blocksOfTable[table] {
            let place = scenario.map.blocks[block]
            pump(worker: worker, keeper: place.keeper, block: place.indexInKeeper)
            if workers[worker].machines[place.keeper].hasUnsent(block: place.indexInKeeper) {
                coverage.pushesWaited += 1
            }
        }
    }

    /// Sends what may be sent of every block of `keeper`.
    mutating func pumpAll(worker: Int, keeper: Int) {
        for block in scenario.map.blocksOfKeeper[keeper].indices {
            pump(worker: worker, keeper: keeper, block: block)
        }
    }

    /// Sends what may be sent of one block, while the connection is up.
    mutating func pump(worker: Int, keeper: Int, block: Int) {
        let index = connectionIndex(worker: worker, keeper: keeper)
        guard connections[index].workerIsUp else { return }
        let position = scenario.map.blocksOfKeeper[keeper][block]
        while let tick = workers[worker].machines[keeper].nextPush(block: block) {
            checkLogEntry(worker: worker, keeper: keeper, block: block, tick: tick)
            if tick <= workers[worker].newestPushed[position] {
                coverage.replays += 1
            } else {
                workers[worker].newestPushed[position] = tick
            }
            var push = frame(.push, on: index, toKeeper: true)
            push.block = position
            push.tick = tick
            push.value =
                workers[worker].log[position * logTicks + Int(tick % UInt64(logTicks))]
            send(push)
        }
    }

    /// Sends the initial values that the keeper says it does not have.
    mutating func sendInitialValues(keeper: Int, unless points: [ResumePoint]) {
        let index = connectionIndex(worker: 0, keeper: keeper)
        for (local, block) in scenario.map.blocksOfKeeper[keeper].enumerated()
        where points[local].age == nil {
            if workers[0].hasInitialised[block] {
                if defect == .initialValuesNotResent { continue }
                coverage.initialValuesResent += 1
            }
            workers[0].hasInitialised[block] = true
            var values = frame(.initialise, on: index, toKeeper: true)
            values.block = block
            values.contents.initial = initialValue(block: block)
            send(values)
        }
    }

    /// Takes fresh rows into the cache.
    mutating func takeRows(_ rows: Frame, worker: Int, keeper: Int) {
        let block = scenario.map.blocks[rows.block].indexInKeeper
        note(.rows, worker: worker, keeper: keeper, block: rows.block, tick: rows.tick)
        let verdict = workers[worker].machines[keeper].offer(
            block: block, age: rows.tick, acknowledging: rows.acknowledging)
        switch verdict {
        case .store:
            workers[worker].cache[rows.block] = rows.contents
            workers[worker].machines[keeper].stored(block: block, age: rows.tick)
        case .stale:
            coverage.staleRows += 1
            if defect == .olderRowsOverwriteNewer {
                workers[worker].cache[rows.block] = rows.contents
            }
        case .refused(let refusal):
            violate(.refusal, "worker \(worker) refused rows of keeper \(keeper): \(refusal)")
        }
        pump(worker: worker, keeper: keeper, block: block)
        if workers[worker].isWaiting {
            workers[worker].isWaiting = false
            scheduleApplication(worker, in: random.below(10))
        }
    }
}
