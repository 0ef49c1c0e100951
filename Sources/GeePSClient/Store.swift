internal import GeePSCore
internal import GeePSDevice
internal import GeePSMemory

/// All tables of a client and the lanes to their keepers: the store the access manager lends from.
final class Store: ParameterStore {
    private let tables: [TableCopy]
    private let lanes: [Lane]
    // Instead of lanes.
    private let inPlace: StepsInPlace?
    private let firstTick: UInt64
    /// What the application is in.
    let application: ApplicationWaits

    init(
        configuration: ClientConfiguration, device: any Device, connections: [[any Connection]]
    ) throws(AccessError) {
        let map = configuration.map
        firstTick = configuration.firstTick.count
        application = ApplicationWaits(tableCount: map.tables.count)
        let keeperNames = connections.enumerated().map { keeper, lanes in
            "keeper \(keeper) at \(lanes.first?.peer ?? "nowhere")"
        }
        var tables: [TableCopy] = []
        for table in map.tables.indices {
            do throws(DeviceError) {
                tables.append(
                    try TableCopy(
                        index: table, map: map, device: device,
                        placement: configuration.memory.map {
                            .host(prefersPinned: $0.prefersPinnedHost)
                        } ?? .device,
                        rowsInPlace: configuration.keeperInPlace?.rows(of: table),
                        staleness: configuration.staleness,
                        waitTimeout: configuration.waitTimeout,
                        keeperName: { keeper in
                            keeperNames.isEmpty ? "this process's keeper" : keeperNames[keeper]
                        }))
            } catch {
                throw AccessError(
                    .outOfMemory,
                    "parameter cache of table \(map.tables[table].name): \(error.message)")
            }
        }
        self.tables = tables
        inPlace = configuration.keeperInPlace.map {
            StepsInPlace($0, tables: tables, learningRate: configuration.learningRate)
        }
        lanes = connections.enumerated().flatMap { keeper, connections in
            connections.enumerated().map { index, connection in
                Lane(
                    keeper: keeper, laneIndex: index, laneCount: connections.count,
                    rank: configuration.rank, connection: connection,
                    repair: configuration.repair, map: map, tables: tables,
                    staleness: configuration.staleness, learningRate: configuration.learningRate,
                    firstTick: configuration.firstTick)
            }
        }
    }

    /// Starts the lanes' threads; the first lane that fails, fails everything.
    func start() {
        for lane in lanes {
            lane.start { [weak self] error, lane in
                self?.fail(
                    AccessError(
                        error.code == .malformed ? .protocolViolation : .peerLost,
                        "connection to keeper \(lane.keeper) at \(lane.peer): \(error.message)"))
            }
        }
    }

    func initialise(_ table: TableIndex, values: UnsafeBufferPointer<Float>) throws(AccessError) {
        if let inPlace { return inPlace.initialise(table, values: values) }
        try tables[table].initialise(values)
        for lane in lanes { lane.initialise(table: table) }
    }

    func fail(_ error: AccessError) {
        for table in tables { table.fail(error) }
        for lane in lanes { lane.abort() }
    }

    func close() {
        // Goodbyes come behind rows that wait.
        for table in tables { table.takeRows() }
        for lane in lanes { lane.close() }
    }

    var bytesSent: UInt64 { lanes.reduce(0) { $0 + $1.bytesSent } }
    var bytesReceived: UInt64 { lanes.reduce(0) { $0 + $1.bytesReceived } }
    /// Without lanes inside this process.
    var bytesSentOutside: UInt64 {
        lanes.reduce(0) { $0 + ($1.isOutside ? $1.bytesSent : 0) }
    }
    var bytesReceivedOutside: UInt64 {
        lanes.reduce(0) { $0 + ($1.isOutside ? $1.bytesReceived : 0) }
    }
    var repairs: RepairCounters { lanes.reduce(RepairCounters()) { $0 + $1.repairs } }
    var waits: [WaitCounters] { tables.map(\.waits) }

    // MARK: The application's waits

    /// Shorter waits are not told: they would cost as much as they say.
    private static let toldNanoseconds: UInt64 = 20_000

    /// The application leaves a read, or an update, that it entered at `start`.
    ///
    /// Where it waited for rows to come, their keeper is told; what it waited after that was for copies.
    ///
    /// - Parameter least: the age it needed; nil for room that any later tick gives.
    func leave(_ table: TableIndex, needing least: UInt64?, since start: UInt64, isPlanned: Bool) {
        let end = application.leave(since: start)
        let copy = tables[table]
        guard let raise = copy.raise(to: least, after: start) else { return }
        let wait = min(raise.nanoseconds, end) - start
        let isFirst = raise.age <= firstTick
        application.addRowWait(wait, isForInitialValues: isFirst)
        guard isPlanned, !isFirst, wait >= Self.toldNanoseconds else { return }
        let block = copy.block(at: raise.block)
        lanes.first { $0.carries(block) }?.tell(
            ofWaitFor: block, tick: raise.age,
            WaitNotice(
                waitMicroseconds: WaitNotice.microseconds(wait),
                roundTripMicroseconds: WaitNotice.microseconds(raise.roundTripNanoseconds)))
    }

    /// Where this worker stands; from any thread.
    func standing(tick: UInt64) -> WorkerStanding {
        let now = monotonicNanoseconds()
        let shown = application.shown
        let hasTable = shown.activity == .read || shown.activity == .update
        return WorkerStanding(
            tick: tick, activity: shown.activity,
            table: hasTable && tables.indices.contains(shown.table) ? shown.table : nil,
            neededAge: shown.neededAge, nanoseconds: now - min(now, shown.since),
            lacking: shown.activity == .read && tables.indices.contains(shown.table)
                ? tables[shown.table].lacking(shown.neededAge) : [],
            sending: lanes.compactMap { $0.sending(now: now) })
    }

    // MARK: ParameterStore

    func cachedRows(of table: TableIndex) -> UnsafePointer<Float> { tables[table].rows }

    func waitForAge(of table: TableIndex, atLeast least: Tick, unless stop: StopFlag?)
        throws(AccessError)
    {
        inPlace?.catchUp(table)
        try tables[table].waitForAge(atLeast: least, unless: stop)
    }

    /// Waits at most `bound`; whether rows of that age are there.
    func waitForAge(of table: TableIndex, atLeast least: Tick, within bound: Duration)
        throws(AccessError) -> Bool
    {
        inPlace?.catchUp(table)
        return try tables[table].waitForAge(atLeast: least, within: bound)
    }

    func wakeWaiters() { for table in tables { table.wakeWaiters() } }

    func freshness(of table: TableIndex) -> Freshness? { tables[table].freshness }

    func withStableRows<R>(of table: TableIndex, _ body: (UnsafePointer<Float>) -> R) -> R {
        tables[table].withStableRows(body)
    }

    func lendRows<R>(
        of table: TableIndex, to stream: any DeviceStream, _ body: (UnsafePointer<Float>) -> R
    ) -> R {
        tables[table].lendRows(to: stream, body)
    }

    func mirror(_ table: TableIndex, into mirror: RowMirror?) { tables[table].setMirror(mirror) }

    func log(of table: TableIndex, tick: Tick, isOverwritten: Bool) throws(AccessError)
        -> UnsafeMutablePointer<Float>
    {
        inPlace?.catchUp(table)
        return try tables[table].log(tick: tick.count, isOverwritten: isOverwritten)
    }

    func holdRows(of table: TableIndex) { tables[table].holdRows() }

    func takeRows(of table: TableIndex) { tables[table].takeRows() }

    var stepsInPlace: Bool { inPlace != nil }

    func canStepInPlace(_ table: TableIndex) -> Bool { inPlace?.canStep(table) ?? false }

    func raiseClock(of table: TableIndex, from pieces: [GradientPiece]) {
        inPlace?.raiseClock(of: table, from: pieces)
    }

    func raiseClock(of table: TableIndex) {
        if let inPlace { return inPlace.raiseClock(of: table) }
        let busy = application.noteClock(of: table)
        for lane in lanes { lane.commit(table: table, busyNanoseconds: busy) }
    }
}
