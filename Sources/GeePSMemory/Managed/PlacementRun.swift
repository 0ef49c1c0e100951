internal import GeePSCore
internal import GeePSDevice

/// A placement that is being followed: brings in what the plan says comes next, and says when memory may be
/// used.
///
/// Two threads run ahead of the application by at most an iteration: one fetches local data, one reads
/// rows, so that rows the network still owes hold up nothing else. Each has a stream of its own. They wait, on
/// the host, until the application has released what had the memory before; that its last use is over
/// on the device is left to events.
final class PlacementRun: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`; the rest is constant after `start`.

    /// A stay with what it takes to follow it.
    struct Stay {
        let plan: Placement.Stay
        let address: UnsafeMutableRawPointer
        /// It begins in one iteration and ends in the next.
        let wraps: Bool
        /// For timelines.
        let label: String
        /// Host memory of local data that is copied.
        let home: UnsafeMutableRawPointer?
        /// Rows of a read or an update.
        let batch: RowBatch?
        /// An update that is all there is of its table's tick.
        let isWholeUpdate: Bool
        /// Content is there.
        let ready: (any DeviceEvent)?
        /// The application's stream is done with it.
        let done: (any DeviceEvent)?
        /// It has been copied out, or added to another.
        let saved: (any DeviceEvent)?
    }

    let placement: Placement
    let stays: [Stay]
    /// By access: stays that end with it, what adds into another first.
    let endings: [[Int]]
    private let reader: RowReader
    private let application: (any DeviceStream)?
    private let inStream: any DeviceStream
    private let waitTimeout: Duration
    private let staleness: @Sendable () -> Staleness
    private let firstTick: Tick
    private let store: any ParameterStore
    private let stopFlag = StopFlag()
    private let signal = Signal()
    private var state: State
    private var threads: [DedicatedThread] = []

    private struct State {
        /// By stay: the first instance not yet brought in; instances are numbered by the iteration they begin in.
        var entered: [Int]
        /// By stay: the first instance whose memory is still in use.
        var vacated: [Int]
        /// By stay of a read: how new the rows brought in last are.
        var freshness: [Freshness?]
        var iteration = 0
        var waiters = 0
        var failure: AccessError?
        var isStopped = false
        var counters = ManagedCounters()
    }

    init(
        _ placement: Placement, stays: [Stay], reader: RowReader, inStream: any DeviceStream,
        application: (any DeviceStream)?, store: any ParameterStore, firstTick: Tick,
        waitTimeout: Duration, staleness: @escaping @Sendable () -> Staleness
    ) {
        self.placement = placement
        self.stays = stays
        self.reader = reader
        self.inStream = inStream
        self.application = application
        self.store = store
        self.firstTick = firstTick
        self.waitTimeout = waitTimeout
        self.staleness = staleness
        var endings = Array(repeating: [Int](), count: placement.stayOfAccess.count)
        for (index, stay) in stays.enumerated() where !stay.plan.isPinned {
            endings[stay.plan.lastAccess].append(index)
        }
        self.endings = endings.map { ends in
            ends.filter { stays[$0].plan.addsInto != nil }
                + ends.filter { stays[$0].plan.addsInto == nil }
        }
        state = State(
            entered: stays.map { _ in 0 }, vacated: stays.map { $0.wraps ? -1 : 0 },
            freshness: stays.map { _ in nil })
    }

    /// Starts bringing in.
    func start() {
        let fetched = stays.indices.filter { isFetched($0) && !isRead($0) }
        let read = stays.indices.filter { isFetched($0) && isRead($0) }
        if !fetched.isEmpty {
            threads.append(DedicatedThread(name: "allocator") { [self] in run(fetched) })
        }
        if !read.isEmpty {
            threads.append(DedicatedThread(name: "row allocator") { [self] in run(read) })
        }
    }

    /// Ends the threads; what they have put on streams goes on.
    func stop() {
        stopFlag.raise()
        store.wakeWaiters()
        signal.withLock {
            state.isStopped = true
            signal.wakeAll()
        }
        for thread in threads { thread.join() }
        threads = []
    }

    // MARK: The application

    /// Waits until the memory of the stay at `position` may be used.
    ///
    /// - Throws: what went wrong bringing it in; `.deadline`.
    func acquire(_ position: Int, stay index: Int) throws(AccessError) {
        let stay = stays[index]
        guard stay.plan.firstAccess == position, !stay.plan.isPinned else { return }
        if isFetched(index) {
            try wait(for: stay) { $0.entered[index] > $0.iteration }
            try order(after: stay.ready, stay)
        } else {
            try wait(for: stay) { state in
                stay.plan.predecessors.allSatisfy { isVacated($0, of: state.iteration, state) }
            }
            for dependency in stay.plan.predecessors {
                try order(after: vacating(dependency.stay), stay)
            }
        }
    }

    /// How new the rows are that `acquire` made ready.
    func freshness(ofStay index: Int) -> Freshness? { signal.withLock { state.freshness[index] } }

    /// Brings the rows of a stay in again: newer ones have come since.
    func refresh(stay index: Int) throws(AccessError) {
        let stay = stays[index]
        let freshness = try bringInRows(stay)
        signal.withLock { state.freshness[index] = freshness }
        try order(after: stay.ready, stay)
    }

    /// Notes that the application is done with the stays that end at `position`.
    ///
    /// - Parameter save: is given those that have to be copied out, or added to another, first.
    func release(_ position: Int, save: (Int) -> Void) {
        for index in endings[position] {
            let stay = stays[index]
            if let done = stay.done { application?.record(done) }
            if stay.saved != nil { save(index) } else { noteVacated(index) }
        }
    }

    /// The memory of `index` is free once its events have happened.
    func noteVacated(_ index: Int) {
        signal.withLock {
            state.vacated[index] += 1
            if state.waiters > 0 { signal.wakeAll() }
        }
    }

    /// Notes bytes on their way to the host.
    func noteCopiedOut(_ byteCount: Int) {
        signal.withLock { state.counters.bytesOut += UInt64(byteCount) }
    }

    /// The application goes on to the next iteration.
    func clock() {
        signal.withLock {
            state.iteration += 1
            if state.waiters > 0 { signal.wakeAll() }
        }
    }

    var failure: AccessError? { signal.withLock { state.failure } }

    var counters: ManagedCounters { signal.withLock { state.counters } }

    // MARK: The threads

    private func run(_ indexes: [Int]) {
        do throws(AccessError) {
            for iteration in 0... {
                for index in indexes {
                    guard waitUntilVacant(index, iteration) else { return }
                    try bringIn(index, iteration)
                }
            }
        } catch {
            signal.withLock {
                // Called off is no failure.
                if !state.isStopped, state.failure == nil { state.failure = error }
                signal.wakeAll()
            }
        }
    }

    /// - Returns: false when the run has been stopped.
    private func waitUntilVacant(_ index: Int, _ iteration: Int) -> Bool {
        let plan = stays[index].plan
        signal.lock()
        defer { signal.unlock() }
        while !state.isStopped {
            let others = plan.predecessors.allSatisfy { isVacated($0, of: iteration, state) }
            let source = plan.source.map { isVacated($0, of: iteration, state) } ?? true
            // At most an iteration ahead: a source further back might not have been used yet.
            if others, source, iteration <= state.iteration + 1 { return true }
            state.waiters += 1
            // Without a bound: the application decides when it goes on, and `stop` ends the wait.
            _ = signal.wait()
            state.waiters -= 1
        }
        return false
    }

    private func bringIn(_ index: Int, _ iteration: Int) throws(AccessError) {
        let stay = stays[index]
        var freshness: Freshness?
        if isRead(index), let batch = stay.batch {
            let tick = Tick(firstTick.count + UInt64(iteration))
            try store.waitForAge(
                of: batch.table, atLeast: staleness().leastAge(at: tick), unless: stopFlag)
            for dependency in stay.plan.predecessors {
                if let event = vacating(dependency.stay) { reader.stream.wait(for: event) }
            }
            freshness = try bringInRows(stay)
        } else {
            bringInLocal(stay)
        }
        signal.withLock {
            state.entered[index] = iteration + 1
            state.freshness[index] = freshness
            if state.waiters > 0 { signal.wakeAll() }
        }
    }

    private func bringInLocal(_ stay: Stay) {
        for dependency in stay.plan.predecessors {
            if let event = vacating(dependency.stay) { inStream.wait(for: event) }
        }
        if let source = stay.plan.source, let event = vacating(source.stay) {
            inStream.wait(for: event)
        }
        guard let home = stay.home, let ready = stay.ready else { return }
        inStream.copy(
            from: home, to: stay.address, byteCount: stay.plan.byteCount, direction: .hostToDevice,
            label: stay.label)
        inStream.record(ready)
        signal.withLock { state.counters.bytesIn += UInt64(stay.plan.byteCount) }
    }

    private func bringInRows(_ stay: Stay) throws(AccessError) -> Freshness {
        guard let batch = stay.batch, let ready = stay.ready else {
            preconditionFailure("\(stay.label) is not a read")
        }
        let rows = try reader.read(batch, into: stay.address, label: stay.label, ready: ready)
        signal.withLock { state.counters.bytesIn += UInt64(rows.bytesCopiedIn) }
        return rows.freshness
    }

    // MARK: Inside

    private func isRead(_ index: Int) -> Bool {
        if case .read = stays[index].plan.item { return true }
        return false
    }

    /// Whether a thread has to bring something in before the stay can be used.
    private func isFetched(_ index: Int) -> Bool {
        !stays[index].plan.isPinned && stays[index].ready != nil
    }

    private func isVacated(
        _ dependency: Placement.Dependency, of iteration: Int, _ state: State
    ) -> Bool {
        state.vacated[dependency.stay] > iteration - dependency.iterationsBack
    }

    /// What must have happened on the device before the stay's memory is free; nil: nothing beyond its release.
    private func vacating(_ index: Int) -> (any DeviceEvent)? {
        stays[index].saved ?? stays[index].done
    }

    private func wait(for stay: Stay, until isMet: (State) -> Bool) throws(AccessError) {
        signal.lock()
        defer { signal.unlock() }
        if isMet(state) { return }
        let start = monotonicNanoseconds()
        defer {
            state.counters.bufferWaits += 1
            state.counters.bufferWaitNanoseconds += monotonicNanoseconds() - start
        }
        let deadline = Deadline.after(waitTimeout)
        while !isMet(state) {
            if let failure = state.failure { throw failure }
            state.waiters += 1
            let isInTime = signal.wait(until: deadline)
            state.waiters -= 1
            guard isInTime || isMet(state) else {
                throw AccessError(
                    .deadline,
                    "\(stay.label): waited \(waitTimeout) in vain for memory of the device")
            }
        }
    }

    /// Lets the application go on after `event`: its stream, or itself where it has none.
    private func order(after event: (any DeviceEvent)?, _ stay: Stay) throws(AccessError) {
        guard let event else { return }
        if let application { return application.wait(for: event) }
        let wasDone = event.isDone
        let start = wasDone ? 0 : monotonicNanoseconds()
        do throws(DeviceError) {
            try event.wait(deadline: .after(waitTimeout))
        } catch {
            throw AccessError(
                error.code == .deadline ? .deadline : .deviceFailed,
                "\(stay.label): \(error.message)")
        }
        guard !wasDone else { return }
        signal.withLock {
            state.counters.copyWaits += 1
            state.counters.copyWaitNanoseconds += monotonicNanoseconds() - start
        }
    }
}
