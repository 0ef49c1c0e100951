internal import GeePSCore
internal import GeePSMemory

// The puller: takes the keeper's frames, and makes the connection anew when it is lost.
extension Lane {
    func runPuller() {
        var outage: Outage?
        var connection = first
        while true {
            let failure: TransportError
            do throws(TransportError) {
                try begin(connection, within: outage)
                if let ended = outage { noteMended(ended) }
                outage = nil
                try pull(from: connection)
                return finish()
            } catch {
                failure = error
            }
            guard let next = mend(connection, after: failure, &outage) else { return }
            connection = next
        }
    }

    /// Takes frames until the keeper's goodbye.
    private func pull(from connection: any Connection) throws(TransportError) {
        while true {
            let frame = try connection.receive(deadline: nil)
            if frame.header.kind == .goodbye { return }
            try take(frame, at: monotonicNanoseconds(), from: connection)
        }
    }

    /// Both sides say what they have; from then on the pusher may send.
    private func begin(
        _ connection: any Connection, within outage: Outage?
    ) throws(TransportError) {
        let own = signal.withLock { blocks.indices.map { state.rules.resumePoint(block: $0) } }
        var header = FrameHeader(.resume)
        header.sender = UInt32(rank)
        try connection.send(header, bytes: ResumePoint.encode(own))
        let frame = try connection.receive(deadline: outage?.deadline)
        guard frame.header.kind == .resume,
            let theirs = ResumePoint.decode(frame.payload, count: blocks.count)
        else {
            throw TransportError(
                .malformed,
                "\(connection.peer) began by a \(frame.header.kind) frame of \(frame.payload.count) "
                    + "bytes, expected the resume points of \(blocks.count) blocks in "
                    + "\(blocks.count * ResumePoint.byteCount)")
        }
        try signal.withLock { () throws(TransportError) in
            for (local, point) in theirs.enumerated() {
                if let refusal = state.rules.resume(block: local, keeper: point) {
                    throw TransportError(
                        .malformed,
                        "\(connection.peer) says that it has \(point) of table "
                            + "\(tables[blocks[local].table].layout.name), rows \(blocks[local].rows): "
                            + "\(refusal)")
                }
                state.needsInitial[local] = state.hasInitial[local] && point.age == nil
                if state.needsInitial[local] || state.rules.hasUnsent(block: local) {
                    enqueue(local)
                }
            }
            state.link = connection
            state.hasSaidGoodbye = false
            signal.wakeAll()
        }
    }

    private func take(
        _ frame: borrowing ReceivedFrame, at nanoseconds: UInt64, from connection: any Connection
    ) throws(TransportError) {
        let header = frame.header
        let local = try locate(
            header, payloadBytes: frame.payload.count, from: connection)
        let block = blocks[local]
        let (verdict, sent) = signal.withLock {
            (
                state.rules.offer(block: local, age: header.tick, acknowledging: header.second),
                state.pushes.sent(block: local, tick: header.tick)
            )
        }
        let table = tables[block.table]
        switch verdict {
        case .store:
            table.store(frame.payload, block: positionInTable[local])
            signal.withLock {
                state.rules.stored(block: local, age: header.tick)
                if state.rules.hasUnsent(block: local) { enqueue(local) }
            }
            table.note(
                block: positionInTable[local], age: header.tick, acknowledged: header.second,
                roundTripNanoseconds: sent.map { nanoseconds - $0 } ?? 0)
        case .stale:
            table.note(block: positionInTable[local], age: nil, acknowledged: header.second)
        case .refused(let refusal):
            throw TransportError(
                .malformed,
                "\(connection.peer) sent rows of table \(table.layout.name), rows \(block.rows), age "
                    + "\(header.tick), acknowledging tick \(header.second): \(refusal)")
        }
    }

    /// The block a rows frame speaks of; every field is checked against the shard map.
    private func locate(
        _ header: FrameHeader, payloadBytes: Int, from connection: any Connection
    ) throws(TransportError) -> Int {
        guard header.kind == .rows else {
            throw TransportError(
                .malformed, "\(connection.peer) sent a \(header.kind) frame where rows are expected"
            )
        }
        let local = Int(truncatingIfNeeded: header.third) / laneCount
        guard header.third < UInt64(Int32.max), blocks.indices.contains(local),
            blocks[local].indexInKeeper == Int(header.third)
        else {
            throw TransportError(
                .malformed,
                "\(connection.peer) sent rows of block \(header.third), which is not of this lane")
        }
        let block = blocks[local]
        let layout = tables[block.table].layout
        guard header.table == UInt32(block.table), header.firstRow == UInt64(block.rows.lowerBound),
            Int(header.rowCount) == block.rows.count,
            payloadBytes == block.rows.count * layout.rowBytes
        else {
            throw TransportError(
                .malformed,
                "\(connection.peer) sent table \(header.table) rows \(header.firstRow)+\(header.rowCount) "
                    + "in \(payloadBytes) bytes for block \(header.third), expected table \(block.table) "
                    + "rows \(block.rows) in \(block.rows.count * layout.rowBytes)")
        }
        return local
    }
}
