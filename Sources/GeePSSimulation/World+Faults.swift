// Faults: what breaks, when, and how the job starts again.
extension World {
    /// One fault of a kind that this scenario has, then the next after a while.
    mutating func breakSomething() {
        faultsLeft -= 1
        if faultsLeft > 0 {
            queue.schedule(at: now + random.below(scenario.faultSpread + 1), .fault)
        }
        guard let fault = drawFault() else { return }
        note(.fault, tick: UInt64(fault.rawValue))
        switch fault {
        case .reset: reset(random.index(below: connections.count))
        case .clog: clog()
        case .partition: partition()
        case .slowKeeper: slowKeeper()
        case .pausedWorker: pauseWorker()
        case .deadWorker: killWorker(random.index(below: scenario.workerCount))
        case .deadKeeper: killKeeper(random.index(below: scenario.keeperCount))
        }
    }

    private mutating func drawFault() -> Fault? {
        var number = random.below(scenario.faultWeights.reduce(0, +))
        for fault in Fault.allCases {
            let weight = scenario.faultWeights[fault.rawValue]
            if number < weight { return fault }
            number -= weight
        }
        return nil
    }

    private mutating func drawDuration() -> UInt64 { random.below(4 * scenario.faultSpread + 1) }

    /// One direction of one connection stands still.
    private mutating func clog() {
        coverage.clogs += 1
        let index = random.index(below: connections.count)
        let end = now + drawDuration()
        if random.chance(50) {
            connections[index].toKeeper.blockedUntil = end
        } else {
            connections[index].toWorker.blockedUntil = end
        }
    }

    /// Some workers and some keepers do not hear each other; some of their connections time out.
    private mutating func partition() {
        coverage.partitions += 1
        let end = now + drawDuration()
        let isCutWorker = (0..<scenario.workerCount).map { _ in random.chance(50) }
        let isCutKeeper = (0..<scenario.keeperCount).map { _ in random.chance(50) }
        for index in connections.indices
        where isCutWorker[workerRank(of: index)] && isCutKeeper[keeperIndex(of: index)] {
            connections[index].toKeeper.blockedUntil = end
            connections[index].toWorker.blockedUntil = end
            if random.chance(50) { reset(index) }
        }
    }

    private mutating func slowKeeper() {
        coverage.slowKeepers += 1
        let owner = scenario.workerCount + random.index(below: scenario.keeperCount)
        mailboxes[owner].busyUntil = max(mailboxes[owner].busyUntil, now) + drawDuration()
    }

    /// A worker's threads all stand still: it neither computes nor sends nor receives.
    private mutating func pauseWorker() {
        coverage.pauses += 1
        let worker = random.index(below: scenario.workerCount)
        let end = max(mailboxes[worker].busyUntil, now) + drawDuration()
        mailboxes[worker].busyUntil = end
        workers[worker].pausedUntil = end
    }

    private mutating func killWorker(_ worker: Int) {
        guard !isRollBackScheduled else { return }
        note(.dies, worker: worker)
        workers[worker].isDead = true
        for keeper in 0..<scenario.keeperCount {
            reset(connectionIndex(worker: worker, keeper: keeper))
        }
        scheduleRollBack()
    }

    private mutating func killKeeper(_ keeper: Int) {
        guard !isRollBackScheduled else { return }
        note(.dies, keeper: keeper)
        keepers[keeper].isDead = true
        for worker in 0..<scenario.workerCount {
            reset(connectionIndex(worker: worker, keeper: keeper))
        }
        scheduleRollBack()
    }

    /// The others go on until they hear of the death.
    private mutating func scheduleRollBack() {
        isRollBackScheduled = true
        queue.schedule(at: now + 2 * delay(), .rollBack)
    }

    /// Ends this generation and starts the next from the last complete checkpoint.
    ///
    /// Frames of this one may still arrive.
    mutating func rollBack() {
        isRollBackScheduled = false
        coverage.restarts += 1
        if checkpoints.completeTick > 0 { coverage.restores += 1 }
        generation += 1
        note(.rollsBack, tick: checkpoints.completeTick)
        checkpoints.rollBack()
        for index in connections.indices {
            connections[index].epoch += 1
            connections[index].isLive = false
            connections[index].workerIsUp = false
            connections[index].closedEpoch = connections[index].epoch
            connections[index].keeperEpoch = 0
        }
        startGeneration()
    }
}
