import GeePSCore

extension SelectionDraft {
    /// Chooses what stays so that no phase needs more than `capacityBytes`.
    ///
    /// A local item's gap saves twice its bytes, a read's once, a table on the device what its reads copy beyond
    /// the rows that arrive. In a forward and backward pass all long gaps meet in the middle and save the same
    /// for their room, so those are kept whose copies have least compute to hide behind.
    mutating func chooseByBenefit(within capacityBytes: Int) {
        let live = outline.gaps.indices.filter {
            outline.gaps[$0].isLive && outline.gaps[$0].phaseCount > 0
        }.sorted(by: isBetter)
        // Copying out, early and late, would take as much room as staying.
        for gap in live where outline.gaps[gap].phaseCount <= 2 {
            _ = keep(gap: gap, within: capacityBytes)
        }
        grantWindows(within: capacityBytes)
        keepWhereCopiesCrowd(live, within: capacityBytes)
        for table in tablesWorthPlacing() { _ = placeOnDevice(table: table, within: capacityBytes) }
        for table in tablesToSum() { _ = accumulate(table: table, within: capacityBytes) }
        grantWindows(within: capacityBytes)
    }

    /// Gives as many copies as possible room beside their neighbours, large ones first.
    mutating func grantWindows(within capacityBytes: Int, depth: Int = 1) {
        let windows = openWindows(depth: depth).sorted { first, second in
            let bytes = (roomBytes(first), roomBytes(second))
            if bytes.0 != bytes.1 { return bytes.0 > bytes.1 }
            if first.hold != second.hold { return first.hold < second.hold }
            return first.isEarly && !second.isEarly
        }
        for window in windows {
            let gap = window.isEarly ? gapBefore(window.hold) : gapAfter(window.hold)
            if hasRoom(in: gap) { _ = grant(window, within: capacityBytes) }
        }
    }

    /// Bytes copied each way per clock.
    var traffic: (bytesIn: Int, bytesOut: Int) {
        var bytes = (bytesIn: 0, bytesOut: problem.bytesOfTakenUpdates)
        for hold in outline.holds.indices {
            let size = outline.items[outline.holds[hold].item].byteCount
            if fetches(hold: hold) { bytes.bytesIn += size }
            if saves(hold: hold) { bytes.bytesOut += size }
        }
        for table in problem.tables.indices where selection.isOnDevice[table] {
            bytes.bytesIn += problem.tables[table].cacheBytes
        }
        return bytes
    }

    private func roomBytes(_ window: CopyWindow) -> Int {
        outline.items[outline.holds[window.hold].item].roomBytes
    }

    /// Saved bytes a byte of room and a phase; ties go to the larger, then to the earlier.
    private func isBetter(_ first: Int, _ second: Int) -> Bool {
        let gaps = (outline.gaps[first], outline.gaps[second])
        let shares = (
            Double(gaps.0.savedBytes) / Double(max(1, outline.items[gaps.0.item].roomBytes))
                / Double(gaps.0.phaseCount),
            Double(gaps.1.savedBytes) / Double(max(1, outline.items[gaps.1.item].roomBytes))
                / Double(gaps.1.phaseCount)
        )
        if shares.0 != shares.1 { return shares.0 > shares.1 }
        if gaps.0.savedBytes != gaps.1.savedBytes { return gaps.0.savedBytes > gaps.1.savedBytes }
        return first < second
    }

    /// Tables whose reads copy at least as much as the rows that arrive each clock, the best first.
    ///
    /// A table that only breaks even still comes last: its reads are then lent in place.
    private func tablesWorthPlacing() -> [TableIndex] {
        var worth: [(table: TableIndex, share: Double)] = []
        for table in problem.tables.indices where !selection.isOnDevice[table] {
            guard !outline.readers[table].isEmpty else { continue }
            let saved = readBytes(of: table) - problem.tables[table].cacheBytes
            guard saved >= 0 else { continue }
            worth.append((table, Double(saved) / Double(max(1, outline.tableRoomBytes[table]))))
        }
        return worth.sorted {
            $0.share != $1.share ? $0.share > $1.share : $0.table < $1.table
        }.map(\.table)
    }

    /// Tables whose updates may be added up on the device, the best first: saved bytes a byte of room and a
    /// phase.
    private func tablesToSum() -> [TableIndex] {
        var sums: [(table: TableIndex, share: Double)] = []
        for table in problem.tables.indices {
            guard let first = outline.summands[table].first else { continue }
            let holds = outline.summands[table].map {
                outline.holds[outline.items[$0].holds.lowerBound]
            }
            let phases = (holds.map(\.last).max() ?? 0) - holds[0].last
            let saved = (holds.count - 1) * outline.items[first].byteCount
            let room = Double(max(1, outline.items[first].roomBytes)) * Double(max(1, phases))
            sums.append((table, Double(saved) / room))
        }
        return sums.sorted {
            $0.share != $1.share ? $0.share > $1.share : $0.table < $1.table
        }.map(\.table)
    }

    private func readBytes(of table: TableIndex) -> Int {
        var bytes = 0
        for item in outline.readers[table] {
            for hold in outline.items[item].holds where fetches(hold: hold) {
                bytes += outline.items[item].byteCount
            }
        }
        return bytes
    }
}
