internal import GeePSCore
internal import GeePSDevice

/// Local data and where its content is.
extension ManagedMemory {
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

    /// Leaves what the caller would put where it is, if it may be and the plan has it so.
    ///
    /// - Returns: false where it is to be copied.
    func leave(_ id: Int, _ bytes: UnsafeMutableRawPointer?, at position: Int?) -> Bool {
        let local = locals[id]
        local.mayBeLeft = local.mayBeLeft || bytes != nil
        guard let bytes, local.holders == 0, let stay = stay(at: position),
            run?.stays[stay].plan.isLeft == true
        else { return false }
        local.content = .left(bytes)
        return true
    }

    /// What was left with the caller, if that is where it is.
    func lendLeft(_ id: Int) -> UnsafeMutableRawPointer? {
        let local = locals[id]
        guard case .left(let bytes) = local.content else { return nil }
        noteHolder(of: local)
        return bytes
    }

    /// The caller needs what it kept no more.
    func endLeft(_ id: Int, keep: Bool) {
        let local = locals[id]
        local.holders -= 1
        local.keeps = local.keeps || keep
        if local.holders == 0, !local.keeps { local.content = .none }
    }

    func checkContent(of local: LocalState) throws(AccessError) {
        guard local.content == .lost else { return }
        throw AccessError(
            .contentLost,
            "local data \(local.name) is fetched where the plan has no such fetch, and what was kept of "
                + "it is gone: the plan had no use for it. Record the iteration as it is, or begin "
                + "another way with a dry run")
    }

    func fetch(
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
        if configuration.servesInForeground {
            local.content = .piece
            return
        }
        local.piece = nil
        local.content = .none
        try settleApplication()
        if local.keeps {
            try save(local, from: address)
            try wait(for: outStream)
        }
        free(loan)
    }

    func noteHolder(of local: LocalState) {
        if local.holders == 0 { local.keeps = false }
        local.holders += 1
    }

    func noteContent(
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

    func wait(for stream: any DeviceStream) throws(AccessError) {
        do {
            try stream.synchronise(deadline: .after(configuration.waitTimeout))
        } catch {
            throw AccessError(.deviceFailed, error.message)
        }
    }

    /// Waits for the application's kernels: outside a placement nothing runs beside them.
    func settleApplication() throws(AccessError) {
        if let application { try wait(for: application) }
    }
}
