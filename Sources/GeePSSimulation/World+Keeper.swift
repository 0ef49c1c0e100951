import GeePSCore

// A keeper: takes pushes, adds them as its protocol says, publishes.
extension World {
    mutating func takeInitialValues(_ values: Frame, keeper: Int) {
        let block = scenario.map.blocks[values.block].indexInKeeper
        note(.initialise, keeper: keeper, block: values.block)
        if keepers[keeper].machine.initialise(block: block) {
            keepers[keeper].rows[block] = values.contents
            publish(keeper: keeper, block: block)
        } else if defect == .initialValuesTakenTwice {
            keepers[keeper].rows[block] = values.contents
        }
    }

    mutating func takePush(_ push: Frame, worker: Int, keeper: Int) {
        let block = scenario.map.blocks[push.block].indexInKeeper
        note(.push, worker: worker, keeper: keeper, block: push.block, tick: push.tick)
        let verdict = keepers[keeper].machine.offer(worker: worker, block: block, tick: push.tick)
        switch verdict {
        case .fold:
            fold(push.value, worker: worker, keeper: keeper, block: block)
        case .hold:
            hold(push, worker: worker, keeper: keeper, block: block)
        case .duplicate:
            coverage.duplicatesDropped += 1
            if defect == .replayAppliedTwice { keepers[keeper].rows[block][worker] &+= push.value }
        case .refused(let refusal):
            violate(
                .refusal,
                "keeper \(keeper) refused tick \(push.tick) of worker \(worker) for block "
                    + "\(push.block): \(refusal)")
            return
        }
        while violation == nil, let step = keepers[keeper].machine.next(block: block) {
            perform(step, keeper: keeper, block: block)
        }
    }

    private mutating func perform(_ step: KeeperProtocol.Step, keeper: Int, block: Int) {
        switch step {
        case .foldHeld(let worker, let tick):
            let slot = keepers[keeper].heldSlot(block: block, worker: worker, tick: tick)
            keepers[keeper].heldCounts[block] -= 1
            fold(keepers[keeper].heldValues[slot], worker: worker, keeper: keeper, block: block)
        case .apply(let tick):
            apply(keeper: keeper, block: block, tick: tick)
            publish(keeper: keeper, block: block)
        case .applyAlone(let worker, let tick, let raisesAge):
            apply(keeper: keeper, block: block, tick: tick)
            if raisesAge, defect != .raisedAgeNotPublished {
                publish(keeper: keeper, block: block)
            } else {
                publish(keeper: keeper, block: block, to: worker)
            }
        }
    }

    private mutating func hold(_ push: Frame, worker: Int, keeper: Int, block: Int) {
        coverage.holds += 1
        note(.hold, worker: worker, keeper: keeper, block: push.block, tick: push.tick)
        let slot = keepers[keeper].heldSlot(block: block, worker: worker, tick: push.tick)
        keepers[keeper].heldValues[slot] = defect == .heldPushesForgotten ? 0 : push.value
        keepers[keeper].heldCounts[block] += 1
        checkHolds(keeper: keeper, block: block)
        if defect == .foldedInArrivalOrder,
            push.tick == (keepers[keeper].machine.age(block: block) ?? 0) + 1
        {
            fold(push.value, worker: worker, keeper: keeper, block: block)
        }
    }

    /// Adds one contribution to the block's sum; the first of a tick replaces the sum.
    private mutating func fold(_ value: UInt64, worker: Int, keeper: Int, block: Int) {
        let position = scenario.map.blocksOfKeeper[keeper][block]
        note(.fold, worker: worker, keeper: keeper, block: position)
        let foldedCount = keepers[keeper].machine.foldedCount(block: block)
        if foldedCount <= 1, defect != .sumNotReplaced { keepers[keeper].sums[block] = Contents() }
        keepers[keeper].sums[block][worker] &+= value
        guard scenario.lag != nil else { return }
        checkRankOrder(worker: worker, keeper: keeper, block: block)
        if defect == .publishedBeforeLastWorker, foldedCount == scenario.workerCount - 1 {
            publishEarly(keeper: keeper, block: block)
        }
    }

    /// Runs the optimiser, which here is a plain sum.
    private mutating func apply(keeper: Int, block: Int, tick: UInt64) {
        let position = scenario.map.blocksOfKeeper[keeper][block]
        note(.apply, keeper: keeper, block: position, tick: tick)
        keepers[keeper].rows[block].add(keepers[keeper].sums[block])
        keepers[keeper].nextRanks[block] = 0
        checkRows(keeper: keeper, block: block)
        let age = keepers[keeper].machine.age(block: block) ?? 0
        let isAged = scenario.lag != nil || keepers[keeper].lastAges[block] < age
        keepers[keeper].lastAges[block] = age
        guard isAged else { return }
        if age == scenario.target { finishedBlocks += 1 }
        if scenario.checkpointTicks > 0, age % scenario.checkpointTicks == 0 {
            checkpoints.save(
                block: position, tick: age, rows: keepers[keeper].rows[block], defect: defect)
        }
    }

    /// Sends the rows of `block` to every worker that is connected.
    private mutating func publish(keeper: Int, block: Int) {
        for worker in 0..<scenario.workerCount {
            publish(keeper: keeper, block: block, to: worker)
        }
    }

    /// Sends `worker`, which has said what it has, the rows that it lacks: a connection begins.
    mutating func publishOwed(keeper: Int, to worker: Int, having points: [ResumePoint]) {
        for (block, point) in points.enumerated()
        where defect == .rowsSentTwice
            || keepers[keeper].machine.owesRows(block: block, to: worker, having: point)
        {
            publish(keeper: keeper, block: block, to: worker)
        }
    }

    private mutating func publish(keeper: Int, block: Int, to worker: Int) {
        let index = connectionIndex(worker: worker, keeper: keeper)
        guard connections[index].keeperEpoch > 0,
            let age = keepers[keeper].machine.age(block: block)
        else { return }
        checkRowsStandStill(keeper: keeper, block: block, worker: worker)
        var rows = frame(.rows, on: index, toKeeper: false)
        rows.block = scenario.map.blocksOfKeeper[keeper][block]
        rows.tick = age
        rows.acknowledging = keepers[keeper].machine.received(block: block, from: worker)
        rows.contents = keepers[keeper].rows[block]
        send(rows)
    }

    /// The defect: rows with the age of a tick that one worker has not finished.
    private mutating func publishEarly(keeper: Int, block: Int) {
        for worker in 0..<scenario.workerCount {
            let index = connectionIndex(worker: worker, keeper: keeper)
            guard connections[index].keeperEpoch > 0 else { continue }
            var rows = frame(.rows, on: index, toKeeper: false)
            rows.block = scenario.map.blocksOfKeeper[keeper][block]
            rows.tick = (keepers[keeper].machine.age(block: block) ?? 0) + 1
            rows.acknowledging = keepers[keeper].machine.received(block: block, from: worker)
            rows.contents = keepers[keeper].rows[block]
            rows.contents.add(keepers[keeper].sums[block])
            send(rows)
        }
    }
}
