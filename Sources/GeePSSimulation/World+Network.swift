import GeePSCore

// Connections: frames in order and delayed, losses that each side notices in its own time.
extension World {
    func workerRank(of connection: Int) -> Int { connection / scenario.keeperCount }
    func keeperIndex(of connection: Int) -> Int { connection % scenario.keeperCount }
    func connectionIndex(worker: Int, keeper: Int) -> Int {
        worker * scenario.keeperCount + keeper
    }

    /// The worker's side opens a new connection.
    mutating func connect(_ index: Int) {
        let worker = workerRank(of: index)
        guard !workers[worker].isDead else { return }
        connections[index].epoch += 1
        connections[index].isLive = true
        connections[index].workerIsUp = false
        connections[index].toKeeper.lastArrival = 0
        connections[index].toWorker.lastArrival = 0
        note(.connect, worker: worker, keeper: keeperIndex(of: index))
        let keeper = keeperIndex(of: index)
        var hello = frame(.hello, on: index, toKeeper: true)
        hello.points = scenario.map.blocksOfKeeper[keeper].indices.map {
            workers[worker].machines[keeper].resumePoint(block: $0)
        }
        send(hello)
    }

    /// A frame of the newest connection.
    func frame(_ kind: Frame.Kind, on connection: Int, toKeeper: Bool) -> Frame {
        let path = connections[connection]
        return Frame(
            kind: kind, connection: connection, isToKeeper: toKeeper, generation: generation,
            epoch: toKeeper ? path.epoch : path.keeperEpoch)
    }

    /// Puts a frame on its way; on a connection that is gone it is lost, and its sender does not know.
    mutating func send(_ frame: Frame) {
        let index = frame.connection
        guard connections[index].isLive, frame.epoch == connections[index].epoch else {
            coverage.framesLost += 1
            return
        }
        var time = now + delay()
        if frame.isToKeeper {
            let way = connections[index].toKeeper
            time = max(time, way.lastArrival, way.blockedUntil)
            connections[index].toKeeper.lastArrival = time
        } else {
            let way = connections[index].toWorker
            time = max(time, way.lastArrival, way.blockedUntil)
            connections[index].toWorker.lastArrival = time
        }
        queue.schedule(at: time, .deliver(frame: frames.insert(frame)))
    }

    /// A frame leaves the network: into its receiver's mailbox, or late, or never.
    mutating func deliver(_ slot: Int) {
        let frame = frames[slot]
        let path = connections[frame.connection]
        let isCurrent = path.isLive && frame.epoch == path.epoch
        guard isCurrent || frame.isLate || frame.generation != generation else {
            let way = frame.isToKeeper ? path.toKeeper : path.toWorker
            if frame.epoch == way.lateEpoch {
                postpone(slot, until: now + path.lateDelay)
            } else {
                lose(slot)
            }
            return
        }
        let owner =
            frame.isToKeeper
            ? scenario.workerCount + keeperIndex(of: frame.connection)
            : workerRank(of: frame.connection)
        let service = frame.isToKeeper ? scenario.serviceMicroseconds : 0
        if mailboxes[owner].waitingCount == 0, mailboxes[owner].busyUntil <= now {
            mailboxes[owner].busyUntil = now + service
            handle(frames.remove(slot))
        } else {
            let turn = max(now, mailboxes[owner].busyUntil)
            mailboxes[owner].busyUntil = turn + service
            mailboxes[owner].waitingCount += 1
            queue.schedule(at: turn, .handle(frame: slot, mailbox: owner))
        }
    }

    mutating func handleFromMailbox(_ slot: Int, mailbox: Int) {
        mailboxes[mailbox].waitingCount -= 1
        handle(frames.remove(slot))
    }

    private mutating func lose(_ slot: Int) {
        let frame = frames.remove(slot)
        coverage.framesLost += 1
        note(
            .lost, worker: workerRank(of: frame.connection),
            keeper: keeperIndex(of: frame.connection), block: frame.block)
    }

    /// Lets a frame of a lost connection arrive after all, perhaps behind frames of the next one.
    private mutating func postpone(_ slot: Int, until time: UInt64) {
        coverage.framesLate += 1
        frames[slot].isLate = true
        let connection = frames[slot].connection
        note(
            .late, worker: workerRank(of: connection), keeper: keeperIndex(of: connection),
            block: frames[slot].block)
        queue.schedule(at: time, .deliver(frame: slot))
    }

    private mutating func handle(_ frame: Frame) {
        let worker = workerRank(of: frame.connection)
        let keeper = keeperIndex(of: frame.connection)
        guard frame.generation == generation || defect == .oldGenerationAccepted else {
            coverage.framesOfOldGeneration += 1
            note(.oldGeneration, worker: worker, keeper: keeper)
            return
        }
        guard frame.isToKeeper ? !keepers[keeper].isDead : !workers[worker].isDead else { return }
        switch frame.kind {
        case .hello: takeHello(frame, worker: worker, keeper: keeper)
        case .welcome: takeWelcome(frame, worker: worker, keeper: keeper)
        case .initialise: takeInitialValues(frame, keeper: keeper)
        case .push: takePush(frame, worker: worker, keeper: keeper)
        case .rows: takeRows(frame, worker: worker, keeper: keeper)
        }
    }

    /// The keeper's side of a new connection; it supersedes an older one that was not seen to end.
    private mutating func takeHello(_ hello: Frame, worker: Int, keeper: Int) {
        guard hello.epoch > connections[hello.connection].keeperEpoch else { return }
        connections[hello.connection].keeperEpoch = hello.epoch
        note(.hello, worker: worker, keeper: keeper)
        var welcome = frame(.welcome, on: hello.connection, toKeeper: false)
        welcome.points = scenario.map.blocksOfKeeper[keeper].indices.map {
            keepers[keeper].machine.resumePoint(block: $0, worker: worker)
        }
        send(welcome)
        guard defect != .reconnectWithoutRepublish || hello.epoch == 1 else { return }
        publishOwed(keeper: keeper, to: worker, having: hello.points)
    }

    /// The worker's side of a new connection: what was lost is sent again, then what is new.
    private mutating func takeWelcome(_ welcome: Frame, worker: Int, keeper: Int) {
        let path = connections[welcome.connection]
        guard welcome.epoch == path.epoch, welcome.epoch > path.closedEpoch, !path.workerIsUp
        else { return }
        connections[welcome.connection].workerIsUp = true
        note(.welcomed, worker: worker, keeper: keeper)
        if worker == 0, restoredTick == 0 {
            sendInitialValues(keeper: keeper, unless: welcome.points)
        }
        if defect == .newPushesOvertakeReplay { pumpAll(worker: worker, keeper: keeper) }
        resume(worker: worker, keeper: keeper, welcome.points)
        pumpAll(worker: worker, keeper: keeper)
    }

    private mutating func resume(worker: Int, keeper: Int, _ points: [ResumePoint]) {
        guard defect != .pushesNotReplayed else { return }
        for (block, point) in points.enumerated() {
            let refusal = workers[worker].machines[keeper].resume(block: block, keeper: point)
            guard let refusal else { continue }
            violate(
                .refusal,
                "worker \(worker) refused \(point) of block \(block) of keeper \(keeper): \(refusal)"
            )
        }
    }

    /// Breaks the newest connection.
    ///
    /// Each side learns of it in its own time; until then it sends into the void.
    mutating func reset(_ index: Int) {
        guard connections[index].isLive else { return }
        coverage.resets += 1
        let epoch = connections[index].epoch
        connections[index].isLive = false
        if random.chance(scenario.latePercent) { connections[index].toKeeper.lateEpoch = epoch }
        if random.chance(scenario.latePercent) { connections[index].toWorker.lateEpoch = epoch }
        connections[index].lateDelay = random.below(20 * delay())
        queue.schedule(at: now + delay(), .workerNotices(connection: index, epoch: epoch))
        queue.schedule(at: now + delay(), .keeperNotices(connection: index, epoch: epoch))
    }

    mutating func workerNotices(_ index: Int, epoch: UInt32) {
        guard epoch == connections[index].epoch else { return }
        let worker = workerRank(of: index)
        connections[index].workerIsUp = false
        connections[index].closedEpoch = epoch
        note(.workerNotices, worker: worker, keeper: keeperIndex(of: index))
        queue.schedule(
            at: now + delay(), .connect(connection: index, generation: generation))
    }

    mutating func keeperNotices(_ index: Int, epoch: UInt32) {
        guard epoch == connections[index].keeperEpoch else { return }
        connections[index].keeperEpoch = 0
        note(.keeperNotices, worker: workerRank(of: index), keeper: keeperIndex(of: index))
    }
}
