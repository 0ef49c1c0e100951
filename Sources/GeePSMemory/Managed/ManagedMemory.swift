internal import GeePSCore
internal import GeePSDevice

/// Device memory that is managed for the application.
///
/// Follows a placement while the application does what was planned; otherwise serves each access by itself, in
/// what is left of the budget, with copies that the application waits for.
///
/// All but the copying is done on the application's thread: it decides, the threads of `PlacementRun` and the
/// reclaimer put copies on streams.
final class ManagedMemory: @unchecked Sendable {
    // Sendable: used by the application's thread; the reclaimer's calls are marked, and touch only what is
    // constant while a placement is followed.

    /// What is known of a local batch's content.
    enum Content: Equatable {
        /// Nobody kept anything.
        case none
        case host
        case device(stay: Int)
        /// It was kept, but the plan had no use for it.
        case lost
    }

    /// Host memory of a local batch.
    final class Home {
        let buffer: HostBuffer
        var address: UnsafeMutableRawPointer { buffer.address }
        init(_ buffer: consuming HostBuffer) { self.buffer = buffer }
    }

    /// A local batch of the application.
    final class LocalState {
        let name: String
        let byteCount: Int
        let purpose: MemoryPurpose
        var content = Content.none
        var home: Home?
        var holders = 0
        var keeps = false
        /// While it is held outside a placement.
        var piece: Int?

        init(name: String, byteCount: Int, purpose: MemoryPurpose) {
            self.name = name
            self.byteCount = byteCount
            self.purpose = purpose
        }
    }

    let configuration: MemoryConfiguration
    let device: any Device
    let store: any ParameterStore
    private(set) var run: PlacementRun?
    /// Grows with every placement followed: tells stays of one from those of another.
    private(set) var generation = 0
    var locals: [LocalState] = []
    private var arena: Arena?
    private var pieces = OnDemandPieces()
    let inStream: any DeviceStream
    let rowStream: any DeviceStream
    let outStream: any DeviceStream
    let reader: RowReader
    private let saver: UpdateSaver
    private let pieceSaver: UpdateSaver
    private var pieceOfStay: [Int: Int] = [:]
    private var heldStays: [Int: Int] = [:]
    private var counted = ManagedCounters()
    /// By table: the application's stream is done with rows that were lent in place.
    private let clockEvents: [any DeviceEvent]
    private let pieceEvent: any DeviceEvent
    /// Where the application's kernels run; nil where its thread computes.
    var application: (any DeviceStream)?

    private final class Arena {
        let buffer: DeviceBuffer
        init(_ buffer: consuming DeviceBuffer) { self.buffer = buffer }
    }

    init(
        _ configuration: MemoryConfiguration, device: any Device, store: any ParameterStore,
        tableCount: Int
    ) throws(AccessError) {
        self.configuration = configuration
        self.device = device
        self.store = store
        do {
            inStream = try device.makeStream(name: "copy in")
            rowStream = try device.makeStream(name: "rows in")
            outStream = try device.makeStream(name: "copy out")
            var clockEvents: [any DeviceEvent] = []
            for _ in 0..<tableCount { clockEvents.append(try device.makeEvent()) }
            self.clockEvents = clockEvents
            pieceEvent = try device.makeEvent()
        } catch {
            throw AccessError(.outOfMemory, "streams for managed memory: \(error.message)")
        }
        let prefersPinned = configuration.prefersPinnedHost
        reader = RowReader(
            stream: rowStream, store: store, device: device, tableCount: tableCount,
            prefersPinned: prefersPinned)
        saver = UpdateSaver(stream: outStream, device: device, prefersPinned: prefersPinned)
        pieceSaver = UpdateSaver(stream: outStream, device: device, prefersPinned: prefersPinned)
    }

    // MARK: Following a placement

    /// Lays everything out as `placement` says and follows it from the next iteration on.
    ///
    /// Nothing may be held.
    ///
    /// - Throws: `.outOfMemory`; accesses are then served one by one.
    func follow(
        _ placement: Placement, batches: [RowBatch], tables: [TableLayout], tick: Tick,
        staleness: @escaping @Sendable () -> Staleness
    ) throws(AccessError) {
        try leave()
        try makeArena(byteCount: placement.arenaBytes)
        guard let arena else { return }
        for (id, home) in placement.homes.enumerated() where home == .moves {
            try makeHome(locals[id])
        }
        let builder = StayBuilder(
            placement: placement, arena: arena.buffer.address, locals: locals, batches: batches,
            tables: tables, device: device, hasApplicationStream: application != nil)
        let stays = try builder.stays()
        let run = PlacementRun(
            placement, stays: stays, reader: reader, inStream: inStream, application: application,
            store: store, firstTick: tick, waitTimeout: configuration.waitTimeout,
            staleness: staleness)
        try placeMirrors(of: placement, arena.buffer.address, tables)
        try reader.reserve(for: batches)
        try reserveUpdates(stays)
        try loadWhatIsAlwaysThere(stays)
        self.run = run
        generation += 1
        counted.placements += 1
        counted.arenaBytes = max(counted.arenaBytes, placement.arenaBytes)
        run.start()
    }

    /// Gives the placement up, if one is followed, and saves what is on the device alone.
    ///
    /// Buffers that are held stay where they are until they are given back.
    ///
    /// - Parameter lent: tables whose rows are lent in place.
    func leave(rowsLentOf lent: Set<TableIndex> = []) throws(AccessError) {
        guard let run else { return }
        run.stop()
        counted.add(run.counters)
        try synchronise()
        for local in locals where local.holders == 0 {
            guard case .device(let index) = local.content else { continue }
            try save(local, from: run.stays[index].address)
        }
        try synchronise()
        for (index, holders) in heldStays {
            let stay = run.stays[index]
            let piece = pieces.adopt(
                stay.address, byteCount: stay.plan.byteCount, holders: holders)
            pieceOfStay[index] = piece
            if case .local(let id) = stay.plan.item { locals[id].piece = piece }
        }
        heldStays = [:]
        for stay in run.stays {
            guard case .cache(let table) = stay.plan.item, lent.contains(table) else { continue }
            pieces.reserve(stay.address, byteCount: stay.plan.byteCount)
        }
        removeMirrors()
        self.run = nil
    }

    /// The same, because the application did something else.
    func abandon(rowsLentOf lent: Set<TableIndex>) throws(AccessError) {
        guard run != nil else { return }
        counted.abandoned += 1
        try leave(rowsLentOf: lent)
    }

    /// Whether the application holds something.
    var isHeld: Bool { !heldStays.isEmpty || pieces.isHeld }

    private func makeArena(byteCount: Int) throws(AccessError) {
        pieceOfStay = [:]
        pieces.removeAll()
        if let arena, arena.buffer.byteCount == byteCount { return }
        // The old one first: both may not fit.
        arena = nil
        do {
            arena = Arena(try device.allocate(byteCount: byteCount, for: .accessBuffers))
        } catch {
            throw AccessError(
                .outOfMemory, "device memory for a placement: \(error.message)")
        }
    }

    private func makeHome(_ local: LocalState) throws(AccessError) {
        guard local.home == nil else { return }
        do {
            local.home = Home(
                try device.allocateHost(
                    byteCount: local.byteCount, for: local.purpose,
                    preferPinned: configuration.prefersPinnedHost))
        } catch {
            throw AccessError(.outOfMemory, "host memory of \(local.name): \(error.message)")
        }
    }

    private func placeMirrors(
        of placement: Placement, _ base: UnsafeMutableRawPointer, _ tables: [TableLayout]
    ) throws(AccessError) {
        for stay in placement.stays {
            guard case .cache(let table) = stay.item else { continue }
            let mirror = RowMirror(
                rows: (base + stay.offset).assumingMemoryBound(to: Float.self), stay: stay,
                stream: rowStream,
                event: try makeEvent(), label: "\(tables[table].name) rows")
            reader.mirrors[table] = mirror
            store.mirror(table, into: mirror)
        }
    }

    private func removeMirrors() {
        for table in reader.mirrors.indices {
            guard let mirror = reader.mirrors[table] else { continue }
            store.mirror(table, into: nil)
            mirror.waitUntilIdle()
            counted.bytesIn += mirror.bytesCopied
            reader.mirrors[table] = nil
        }
    }

    private func reserveUpdates(_ stays: [PlacementRun.Stay]) throws(AccessError) {
        let added = stays.filter { $0.plan.savesOut && !$0.isWholeUpdate }.compactMap(\.batch)
        if let bytes = added.map(\.byteCount).max() { try saver.reserve(byteCount: bytes) }
    }

    /// Local data that never moves, or that is on the device when an iteration begins.
    private func loadWhatIsAlwaysThere(_ stays: [PlacementRun.Stay]) throws(AccessError) {
        for (index, stay) in stays.enumerated() where stay.plan.isPinned || stay.wraps {
            guard case .local(let id) = stay.plan.item, locals[id].content == .host,
                let home = locals[id].home
            else { continue }
            inStream.copy(
                from: home.address, to: stay.address, byteCount: stay.plan.byteCount,
                direction: .hostToDevice, label: stay.label)
            locals[id].content = .device(stay: index)
        }
        do {
            try inStream.synchronise()
        } catch {
            throw AccessError(.deviceFailed, error.message)
        }
    }

    func makeEvent() throws(AccessError) -> any DeviceEvent {
        do {
            return try device.makeEvent()
        } catch {
            throw AccessError(.outOfMemory, "an event: \(error.message)")
        }
    }

    private func save(_ local: LocalState, from address: UnsafeMutableRawPointer)
        throws(AccessError)
    {
        try makeHome(local)
        guard let home = local.home else { return }
        outStream.copy(
            from: address, to: home.address, byteCount: local.byteCount,
            direction: .deviceToHost, label: local.name)
        counted.bytesOut += UInt64(local.byteCount)
        local.content = .host
    }

    /// Waits until every copy is done, and the application's stream.
    private func synchronise() throws(AccessError) {
        do {
            try application?.synchronise()
            try outStream.synchronise()
            try inStream.synchronise()
            try rowStream.synchronise()
        } catch {
            throw AccessError(.deviceFailed, error.message)
        }
    }

    // MARK: Accesses

    /// Memory that was lent.
    struct Loan: Sendable {
        /// Index of a stay, or of a piece where `generation` is nil.
        var index: Int
        /// The placement a stay belongs to.
        var generation: Int?
    }

    /// The stay that holds what the access at `position` needs; nil where it is served otherwise.
    func stay(at position: Int?) -> Int? {
        guard let run, let position else { return nil }
        return run.placement.stayOfAccess[position]
    }

    /// Lends the memory of a stay.
    func acquire(stay index: Int, at position: Int) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan
    ) {
        guard let run else { preconditionFailure("no placement is followed") }
        try run.acquire(position, stay: index)
        heldStays[index, default: 0] += 1
        let stay = run.stays[index]
        noteUse(of: stay.plan)
        return (stay.address, Loan(index: index, generation: generation))
    }

    private func noteUse(of stay: Placement.Stay) {
        counted.highWaterBytes = max(counted.highWaterBytes, stay.offset + stay.byteCount)
    }

    /// Lends memory outside a placement.
    func acquirePiece(byteCount: Int, for what: String) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan
    ) {
        counted.onDemand += 1
        if let range = pieces.room(
            byteCount, in: arena.map { $0.buffer.address }, of: arena?.buffer.byteCount ?? 0)
        {
            return (range.address, Loan(index: range.index, generation: nil))
        }
        do {
            let piece = pieces.own(
                try device.allocate(byteCount: byteCount, for: .accessBuffers))
            return (piece.address, Loan(index: piece.index, generation: nil))
        } catch {
            throw AccessError(
                .outOfMemory,
                "\(what) is not where the plan has it and was to be served by itself: "
                    + error.message)
        }
    }

    /// Gives a loan back.
    ///
    /// - Returns: where it lay, if it was held outside a placement by nobody else.
    func giveBack(_ loan: Loan) -> UnsafeMutableRawPointer? {
        if let generation = loan.generation, generation == self.generation, run != nil {
            heldStays[loan.index, default: 1] -= 1
            if heldStays[loan.index] == 0 { heldStays[loan.index] = nil }
            return nil
        }
        let piece = loan.generation == nil ? loan.index : pieceOfStay[loan.index]
        guard let piece else { return nil }
        return pieces.release(piece)
    }

    /// The memory of a piece that `giveBack` returned may be used again, once the application's stream is done.
    func free(_ loan: Loan) {
        // Where the stream has failed, so will what comes next.
        try? settleApplication()
        if let piece = loan.generation == nil ? loan.index : pieceOfStay[loan.index] {
            pieces.free(piece)
        }
    }

    // MARK: Local data

    /// Lends local data where the plan has it.
    func lendLocal(_ id: Int, stay: Int, at position: Int, fetch: Bool) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan
    ) {
        let local = locals[id]
        let begins = fetch && local.holders == 0
        if begins { try checkContent(of: local) }
        let lent = try acquire(stay: stay, at: position)
        noteHolder(of: local)
        // The plan repeats what one iteration did; another may have kept what that one did not.
        if begins, local.content == .host, let plan = run?.stays[stay].plan, !plan.fetchesIn,
            !plan.isPinned
        {
            counted.onDemand += 1
            try self.fetch(local, into: lent.address)
        }
        return lent
    }

    private func checkContent(of local: LocalState) throws(AccessError) {
        guard local.content == .lost else { return }
        throw AccessError(
            .contentLost,
            "local data \(local.name) is fetched where the plan has no such fetch, and what was kept of "
                + "it is gone: the plan had no use for it. Record the iteration as it is, or begin "
                + "another way with a dry run")
    }

    private func fetch(
        _ local: LocalState, into address: UnsafeMutableRawPointer
    ) throws(AccessError) {
        guard let home = local.home else { return }
        // Whoever had the memory before may still be at work there.
        try settleApplication()
        inStream.copy(
            from: home.address, to: address, byteCount: local.byteCount,
            direction: .hostToDevice, label: local.name)
        counted.bytesIn += UInt64(local.byteCount)
        try wait(for: inStream)
    }

    /// Lends local data by itself.
    func lendLocal(_ id: Int, fetch: Bool) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan
    ) {
        let local = locals[id]
        if let piece = local.piece {
            noteHolder(of: local)
            return (pieces.hold(piece), Loan(index: piece, generation: nil))
        }
        if fetch { try checkContent(of: local) }
        let lent = try acquirePiece(byteCount: local.byteCount, for: "local data \(local.name)")
        if fetch, local.content == .host { try self.fetch(local, into: lent.address) }
        local.piece = lent.loan.index
        noteHolder(of: local)
        return lent
    }

    /// Takes local data back.
    ///
    /// Keep is sticky: of overlapping holders one that keeps is enough.
    func endLocal(_ id: Int, _ loan: Loan, at position: Int?, keep: Bool) throws(AccessError) {
        let local = locals[id]
        local.holders -= 1
        local.keeps = local.keeps || keep
        let isLast = local.holders == 0
        let address = giveBack(loan)
        if let run, let position, loan.generation == generation {
            guard isLast else { return }
            noteContent(of: local, stay: run.stays[loan.index].plan, loan.index, at: position)
            return
        }
        guard isLast, let address else { return }
        local.piece = nil
        local.content = .none
        try settleApplication()
        if local.keeps {
            try save(local, from: address)
            try wait(for: outStream)
        }
        free(loan)
    }

    private func noteHolder(of local: LocalState) {
        if local.holders == 0 { local.keeps = false }
        local.holders += 1
    }

    private func noteContent(
        of local: LocalState, stay: Placement.Stay, _ index: Int, at position: Int
    ) {
        let ends = !stay.isPinned && stay.lastAccess == position
        if !local.keeps {
            local.content = .none
        } else if !ends {
            local.content = .device(stay: index)
        } else {
            local.content = stay.savesOut ? .host : .lost
        }
    }

    private func wait(for stream: any DeviceStream) throws(AccessError) {
        do {
            try stream.synchronise(deadline: .after(configuration.waitTimeout))
        } catch {
            throw AccessError(.deviceFailed, error.message)
        }
    }

    /// Waits for the application's kernels: outside a placement nothing runs beside them.
    private func settleApplication() throws(AccessError) {
        if let application { try wait(for: application) }
    }

    // MARK: Rows and updates outside a placement

    /// Rows in memory of their own; the caller has waited for their age.
    func lendRows(_ batch: RowBatch, name: String) throws(AccessError) -> (
        address: UnsafeMutableRawPointer, loan: Loan, freshness: Freshness
    ) {
        let lent = try acquirePiece(byteCount: batch.byteCount, for: "a read of \(name)")
        let rows = try reader.read(batch, into: lent.address, label: name, ready: pieceEvent)
        counted.bytesIn += UInt64(rows.bytesCopiedIn)
        try wait(for: rowStream)
        return (lent.address, lent.loan, rows.freshness)
    }

    /// Adds an update held outside a placement to `log`.
    func addPiece(
        _ batch: RowBatch, _ loan: Loan, from address: UnsafeMutableRawPointer,
        to log: UnsafeMutablePointer<Float>
    ) throws(AccessError) {
        try settleApplication()
        try pieceSaver.add(batch, from: address, to: log, label: "update")
        counted.bytesOut += UInt64(batch.byteCount)
        try wait(for: outStream)
        free(loan)
    }

    /// Adds a sum that a placement left on the device to `log`.
    func addSum(
        _ batch: RowBatch, from address: UnsafeMutableRawPointer,
        to log: UnsafeMutablePointer<Float>
    ) throws(AccessError) {
        try pieceSaver.add(batch, from: address, to: log, label: "update")
        counted.bytesOut += UInt64(batch.byteCount)
        try wait(for: outStream)
    }

    /// Sets memory to zero where the application's work will find it so.
    func zero(_ address: UnsafeMutableRawPointer, count: Int) {
        if let application {
            application.zero(address, byteCount: count * MemoryLayout<Float>.stride)
        } else {
            device.zero(address.assumingMemoryBound(to: Float.self), count: count)
        }
    }

    /// Notes, on the application's stream, that rows of `table` are not in use any more.
    func markClock(of table: TableIndex) { application?.record(clockEvents[table]) }

    /// Lets the application go on when the copies to a mirror are done.
    func orderAfterMirror(of table: TableIndex) throws(AccessError) -> UnsafePointer<Float>? {
        guard let mirror = reader.mirrors[table] else { return nil }
        noteUse(of: mirror.stay)
        if let application {
            application.wait(for: mirror.lastCopy)
        } else {
            do {
                try mirror.lastCopy.wait(deadline: .after(configuration.waitTimeout))
            } catch {
                throw AccessError(.deviceFailed, error.message)
            }
        }
        return UnsafePointer(mirror.rows)
    }

    // MARK: The reclaimer's thread

    /// Copies a stay out, or adds it to the one it adds to; its memory is free behind that.
    ///
    /// - Parameter isAdded: the log has something already, so that even a whole update is added to it.
    func save(
        stay index: Int, of run: PlacementRun, log: UnsafeMutablePointer<Float>?, isAdded: Bool
    ) throws(AccessError) {
        let stay = run.stays[index]
        if let done = stay.done { outStream.wait(for: done) }
        if let target = stay.plan.addsInto {
            let other = run.stays[target]
            outStream.add(
                UnsafePointer(stay.address.assumingMemoryBound(to: Float.self)),
                count: stay.plan.byteCount / MemoryLayout<Float>.stride,
                into: other.address.assumingMemoryBound(to: Float.self), label: stay.label)
        } else if let batch = stay.batch, let log {
            if stay.isWholeUpdate && !isAdded {
                saver.save(batch, from: stay.address, over: log, label: stay.label)
            } else {
                try saver.add(batch, from: stay.address, to: log, label: stay.label)
            }
            run.noteCopiedOut(stay.plan.byteCount)
        } else if let home = stay.home {
            outStream.copy(
                from: stay.address, to: home, byteCount: stay.plan.byteCount,
                direction: .deviceToHost, label: stay.label)
            run.noteCopiedOut(stay.plan.byteCount)
        }
        if let saved = stay.saved { outStream.record(saved) }
        run.noteVacated(index)
    }

    /// Raises a table's clock when the copies before are done.
    func raiseClock(of table: TableIndex) {
        if application != nil { outStream.wait(for: clockEvents[table]) }
        outStream.run(label: "clock") { [store] in store.raiseClock(of: table) }
    }

    // MARK: Ends

    var counters: ManagedCounters {
        var counters = counted
        if let run { counters.add(run.counters) }
        for mirror in reader.mirrors { counters.bytesIn += mirror?.bytesCopied ?? 0 }
        return counters
    }

    /// What a thread of the placement found wrong.
    var failure: AccessError? { run?.failure }

    /// Waits until the copies asked for are done.
    func drain() { try? outStream.synchronise() }

    /// Ends the placement's threads; the reclaimer may still be at work.
    func stop() { run?.stop() }

    /// Ends the streams; nothing may use the memory any more.
    func close() {
        for table in reader.mirrors.indices where reader.mirrors[table] != nil {
            store.mirror(table, into: nil)
        }
        for stream in [outStream, inStream, rowStream] { stream.close() }
    }
}
