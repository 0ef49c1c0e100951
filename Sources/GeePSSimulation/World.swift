import GeePSCore

/// A simulated job: workers, keepers, the network between them, and what is known of the truth.
///
/// `World` is a value: the same seed and defect give the same history, event by event.
struct World {
    /// More events than this, and the job is taken to turn in circles.
    static let eventsMaximum: UInt64 = 300_000

    let scenario: Scenario
    let defect: Defect?
    let logTicks: Int
    var random: SplitMix64
    var queue = EventQueue()
    /// Virtual microseconds.
    var now: UInt64 = 0
    var eventCount: UInt64 = 0

    /// Counts rollbacks; frames of an earlier one are dropped.
    var generation: UInt32 = 0
    var frames = FramePool()
    var connections: [Connection]
    /// Of the workers, then of the keepers.
    var mailboxes: [Mailbox]
    var workers: [SimulatedWorker] = []
    var keepers: [SimulatedKeeper] = []
    var checkpoints: CheckpointStore
    var isRollBackScheduled = false
    var faultsLeft: Int

    // Ghost state: what the checkers know.
    var restoredTick: UInt64 = 0
    /// By block: the rows this generation began with.
    var restoredRows: [Contents] = []
    var finishedWorkers = 0
    var finishedBlocks = 0
    var trace: Trace
    var coverage = Coverage()
    var violation: Violation?

    init(seed: UInt64, defect: Defect?, traceLines: Int) {
        var random = SplitMix64(seed: seed)
        scenario = Scenario(from: &random)
        self.random = random
        self.defect = defect
        let isReused = defect == .logReusedBeforeAcknowledgement
        logTicks = isReused ? 1 : Int(scenario.logTicks)
        connections = Array(
            repeating: Connection(), count: scenario.workerCount * scenario.keeperCount)
        mailboxes = Array(
            repeating: Mailbox(), count: scenario.workerCount + scenario.keeperCount)
        checkpoints = CheckpointStore(blockCount: scenario.blockCount)
        faultsLeft = scenario.faultCount
        trace = Trace(keeping: traceLines)
        startGeneration()
        if faultsLeft > 0 { queue.schedule(at: random.below(scenario.faultSpread + 1), .fault) }
    }

    /// Lets time pass until the job is done, stuck, or a checker objects.
    mutating func run() {
        while violation == nil, !isFinished {
            guard let event = queue.popFirst() else {
                violate(.liveness, "nothing is left to happen; \(waitGraph())")
                return
            }
            now = event.time
            eventCount += 1
            guard eventCount <= Self.eventsMaximum else {
                violate(.liveness, "no end after \(eventCount) events; \(waitGraph())")
                return
            }
            perform(event.action)
        }
        if violation == nil { checkEnd() }
    }

    /// Every worker completed its clocks, every block holds them, and every worker has seen that: the last
    /// read of a job, at staleness zero, comes to an end.
    var isFinished: Bool {
        guard finishedWorkers == scenario.workerCount, finishedBlocks == scenario.blockCount else {
            return false
        }
        return workers.indices.allSatisfy { worker in
            (0..<scenario.blockCount).allSatisfy {
                age(worker: worker, block: $0) == scenario.target
            }
        }
    }

    private mutating func perform(_ action: Action) {
        switch action {
        case .connect(let connection, let generation):
            if generation == self.generation { connect(connection) }
        case .deliver(let frame): deliver(frame)
        case .handle(let frame, let mailbox): handleFromMailbox(frame, mailbox: mailbox)
        case .application(let worker, let generation):
            if generation == self.generation { runApplication(worker) }
        case .workerNotices(let connection, let epoch):
            workerNotices(connection, epoch: epoch)
        case .keeperNotices(let connection, let epoch):
            keeperNotices(connection, epoch: epoch)
        case .fault: breakSomething()
        case .rollBack: rollBack()
        }
    }

    /// Starts all processes, in any order, from the last complete checkpoint or from nothing.
    mutating func startGeneration() {
        restoredTick = checkpoints.completeTick
        restoredRows = (0..<scenario.blockCount).map { checkpoints.rows(of: $0) }
        workers = (0..<scenario.workerCount).map { _ in
            // Table 0 is always read, so that the lead of a worker is bounded.
            let isWriteOnly = (0..<scenario.tableCount).map {
                $0 > 0 && random.chance(scenario.writeOnlyPercent)
            }
            return SimulatedWorker(
                scenario: scenario, logTicks: logTicks, restoredAt: restoredTick,
                isWriteOnly: isWriteOnly)
        }
        keepers = (0..<scenario.keeperCount).map { keeper in
            SimulatedKeeper(
                scenario: scenario, keeper: keeper, restoredAt: restoredTick,
                rows: scenario.map.blocksOfKeeper[keeper].map { restoredRows[$0] })
        }
        if restoredTick > 0 { checkRestoredRows() }
        finishedWorkers = restoredTick >= scenario.target ? scenario.workerCount : 0
        finishedBlocks = restoredTick >= scenario.target ? scenario.blockCount : 0
        for connection in connections.indices {
            queue.schedule(
                at: now + delay(), .connect(connection: connection, generation: generation))
        }
        for worker in workers.indices { scheduleApplication(worker, in: delay()) }
    }

    /// A delay of the network, or of whatever else takes about as long.
    mutating func delay() -> UInt64 {
        scenario.delayMinimum + random.below(scenario.delaySpread + 1)
    }

    mutating func note(
        _ mark: Mark, worker: Int = -1, keeper: Int = -1, block: Int = -1, tick: UInt64 = .max
    ) {
        trace.add(mark, at: now, worker: worker, keeper: keeper, block: block, tick: tick)
    }

    /// Records what a checker found, unless one found something before.
    mutating func violate(_ checker: Checker, _ message: String) {
        guard violation == nil else { return }
        violation = Violation(checker: checker, message: message, event: eventCount)
    }
}
