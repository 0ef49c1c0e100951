internal import GeePSCore
internal import GeePSDevice

/// Laying a placement out, and giving it up.
extension ManagedMemory {
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
        try takeWhatWasLeft()
        try makeArena(byteCount: placement.arenaBytes)
        guard let arena else { return }
        for (id, home) in placement.homes.enumerated() where home == .moves {
            try makeHome(locals[id])
        }
        let builder = StayBuilder(
            placement: placement, arena: arena.address, locals: locals, batches: batches,
            tables: tables, device: device, hasApplicationStream: application != nil)
        let stays = try builder.stays()
        let run = PlacementRun(
            placement, stays: stays, reader: reader, inStream: inStream, application: application,
            store: store, firstTick: tick, waitTimeout: configuration.waitTimeout,
            staleness: staleness)
        do throws(AccessError) {
            try placeMirrors(of: placement, arena.address, tables)
            try reader.reserve(for: batches)
            try reserveUpdates(stays)
            try loadWhatIsAlwaysThere(stays)
        } catch {
            // Nothing may write to the arena that no placement has laid out.
            removeMirrors()
            throw error
        }
        self.run = run
        heldStays = Array(repeating: 0, count: stays.count)
        generation += 1
        counted.placements += 1
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
        for (index, holders) in heldStays.enumerated() where holders > 0 {
            let stay = run.stays[index]
            let piece = pieces.adopt(
                stay.address, byteCount: stay.plan.byteCount, holders: holders)
            pieceOfStay[index] = piece
            if case .local(let id) = stay.plan.item { locals[id].piece = piece }
        }
        heldStays = []
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

    /// Saves what another placement left with the caller: this one may have a place for it, which somebody must vacate.
    private func takeWhatWasLeft() throws(AccessError) {
        for local in locals {
            if case .left(let bytes) = local.content { try save(local, from: bytes) }
        }
        try wait(for: outStream)
    }

    /// Whether the application holds something.
    var isHeld: Bool { heldStays.contains { $0 > 0 } || pieces.isHeld }

    func makeArena(byteCount: Int) throws(AccessError) {
        pieceOfStay = [:]
        pieces.removeAll()
        if let arena, arena.byteCount == byteCount { return }
        // The old one first: both may not fit.
        arena = nil
        do {
            arena = SharedBuffer(try device.allocate(byteCount: byteCount, for: .accessBuffers))
        } catch {
            throw AccessError(
                .outOfMemory, "device memory for a placement: \(error.message)")
        }
    }

    func makeHome(_ local: LocalState) throws(AccessError) {
        guard local.home == nil else { return }
        do {
            local.home = SharedBuffer(
                try device.allocateHost(
                    byteCount: local.byteCount, for: local.purpose,
                    preferPinned: configuration.prefersPinnedHost))
        } catch {
            throw AccessError(.outOfMemory, "host memory of \(local.name): \(error.message)")
        }
    }

    func placeMirrors(
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

    func removeMirrors() {
        for table in reader.mirrors.indices {
            guard let mirror = reader.mirrors[table] else { continue }
            store.mirror(table, into: nil)
            mirror.waitUntilIdle()
            counted.bytesIn += mirror.bytesCopied
            reader.mirrors[table] = nil
        }
    }

    func reserveUpdates(_ stays: [PlacementRun.Stay]) throws(AccessError) {
        let added = stays.filter { $0.plan.savesOut && !$0.isWholeUpdate }.compactMap(\.batch)
        if let bytes = added.map(\.byteCount).max() { try saver.reserve(byteCount: bytes) }
    }

    /// Local data that never moves, or that is on the device when an iteration begins.
    func loadWhatIsAlwaysThere(_ stays: [PlacementRun.Stay]) throws(AccessError) {
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

    func save(_ local: LocalState, from address: UnsafeMutableRawPointer)
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
    func synchronise() throws(AccessError) {
        do {
            try application?.synchronise()
            try outStream.synchronise()
            try inStream.synchronise()
            try rowStream.synchronise()
        } catch {
            throw AccessError(.deviceFailed, error.message)
        }
    }
}
