internal import GeePSCore
internal import GeePSDevice

/// Local data from outside the iteration: its first content, and what was kept last.
extension AccessManager {
    /// Lets the next plan leave content of local data with the caller, as if `put` had been told that it may be.
    public func letStay(_ batch: LocalBatch) { managed?.locals[batch.id].mayBeLeft = true }

    /// Puts content into local data; the next access with `fetch` finds it.
    ///
    /// - Parameters:
    ///   - left: where the caller has it, and can keep it as it is until the next access is over; nil where it cannot.
    ///   - copy: writes it, where it is not left.
    /// - Returns: whether it is left.
    /// - Throws: as `local`.
    public func put(
        _ batch: LocalBatch, left bytes: UnsafeMutableRawPointer?,
        copy: (UnsafeMutableRawPointer) -> Void
    ) throws(AccessError) -> Bool {
        let position = note(Access(.local, batch: batch.id, matters: false))
        try rethrowFailure()
        if let managed, managed.leave(batch.id, bytes, at: position) {
            _ = note(Access(.endLocal, batch: batch.id, matters: true))
            return true
        }
        let buffer = try local(batch, at: position, fetch: false)
        copy(buffer.address)
        buffer.release(keep: true)
        return false
    }

    /// Gives local data a first content, which the first access with `fetch` finds.
    ///
    /// - Parameter values: as many as `batch` has room for.
    public func write(_ values: [Float], to batch: LocalBatch) throws(AccessError) {
        check(batch, holds: values.count)
        precondition(
            managed?.run == nil, "local data \(batch.name) gets its first content before the plan")
        let home = managed == nil ? nil : try managed?.homeForContent(of: batch.id)
        values.withUnsafeBytes { bytes in
            guard let start = bytes.baseAddress else { return }
            if let home {
                home.copyMemory(from: start, byteCount: bytes.count)
            } else {
                device.write(start, to: locals[batch.id].address, byteCount: bytes.count)
            }
        }
    }

    /// What was kept of local data; between iterations.
    ///
    /// No access is noted and no placement given up. Where memory is managed it waits for the application's stream.
    public func values(of batch: LocalBatch) throws(AccessError) -> [Float] {
        // What the reclaimer was told to save is on its way then.
        reclaimer?.drain()
        try rethrowFailure()
        var values = [Float](repeating: 0, count: batch.byteCount / MemoryLayout<Float>.stride)
        let result = values.withUnsafeMutableBytes { bytes -> Result<Void, AccessError> in
            guard let target = bytes.baseAddress else { return .success(()) }
            do throws(AccessError) {
                if let managed {
                    return .success(try managed.copyContent(of: batch.id, to: target))
                }
                return .success(
                    try copyOut(locals[batch.id].address, to: target, byteCount: bytes.count))
            } catch {
                return .failure(error)
            }
        }
        try result.get()
        return values
    }

    private func copyOut(
        _ source: UnsafeMutableRawPointer, to target: UnsafeMutableRawPointer, byteCount: Int
    ) throws(AccessError) {
        do {
            let stream = try device.makeStream(name: "read back")
            defer { stream.close() }
            stream.copy(
                from: source, to: target, byteCount: byteCount, direction: .deviceToHost)
            try stream.synchronise()
        } catch {
            throw AccessError(.deviceFailed, "read local data back: \(error.message)")
        }
    }

    private func check(_ batch: LocalBatch, holds count: Int) {
        precondition(
            count * MemoryLayout<Float>.stride == batch.byteCount,
            "local data \(batch.name) has \(batch.byteCount) bytes, got \(count) values")
    }
}

extension ManagedMemory {
    /// Host memory for a first content of local data, which counts as kept.
    func homeForContent(of id: Int) throws(AccessError) -> UnsafeMutableRawPointer? {
        let local = locals[id]
        try makeHome(local)
        local.content = .host
        return local.home?.address
    }

    /// Copies what was kept of local data, which nobody holds, to host memory.
    func copyContent(
        of id: Int, to target: UnsafeMutableRawPointer
    ) throws(AccessError) {
        let local = locals[id]
        precondition(local.holders == 0, "local data \(local.name) is read back while it is held")
        if local.content == .host {
            try wait(for: outStream)
            guard let home = local.home else { return }
            return target.copyMemory(from: home.address, byteCount: local.byteCount)
        }
        guard let address = deviceAddress(of: local) else {
            throw AccessError(
                .contentLost, "nothing was kept of local data \(local.name) that could be read back"
            )
        }
        try settleApplication()
        outStream.copy(
            from: address, to: target, byteCount: local.byteCount, direction: .deviceToHost,
            label: "\(local.name) read back")
        try wait(for: outStream)
    }

    /// Where on the device content of local data is; nil where it is not.
    private func deviceAddress(of local: LocalState) -> UnsafeMutableRawPointer? {
        switch local.content {
        case .device(let stay): run?.stays[stay].address
        case .piece: local.piece.flatMap { pieces.address(of: $0) }
        case .left(let bytes): bytes
        case .none, .host, .lost: nil
        }
    }
}
