internal import GeePSCore
internal import GeePSDevice

/// Adds to a placement's stays what it takes to follow them: addresses, events, host memory.
struct StayBuilder {
    let placement: Placement
    let arena: UnsafeMutableRawPointer
    let locals: [ManagedMemory.LocalState]
    let batches: [RowBatch]
    let tables: [TableLayout]
    let device: any Device
    let hasApplicationStream: Bool

    func stays() throws(AccessError) -> [PlacementRun.Stay] {
        let wholes = wholeUpdates
        var stays: [PlacementRun.Stay] = []
        for (index, plan) in placement.stays.enumerated() {
            do {
                stays.append(try stay(plan, isWholeUpdate: wholes.contains(index)))
            } catch {
                throw AccessError(.outOfMemory, "events of a placement: \(error.message)")
            }
        }
        return stays
    }

    private func stay(
        _ plan: Placement.Stay, isWholeUpdate: Bool
    ) throws(DeviceError) -> PlacementRun.Stay {
        var home: UnsafeMutableRawPointer?
        var batch: RowBatch?
        var isRead = false
        let label: String
        switch plan.item {
        case .local(let id):
            home = locals[id].home?.address
            label = locals[id].name
        case .read(let id):
            batch = batches[id]
            isRead = true
            label = "\(tables[batches[id].table].name) parameters"
        case .update(let id):
            batch = batches[id]
            label = "\(tables[batches[id].table].name) update"
        case .cache(let table): label = "\(tables[table].name) rows"
        }
        let moves = !plan.isPinned
        return PlacementRun.Stay(
            plan: plan, address: arena + plan.offset,
            wraps: moves && plan.lastAccess < plan.firstAccess, label: label, home: home,
            batch: batch, isWholeUpdate: isWholeUpdate,
            ready: moves && (plan.fetchesIn || isRead) ? try device.makeEvent() : nil,
            done: moves && hasApplicationStream ? try device.makeEvent() : nil,
            saved: moves && (plan.savesOut || plan.addsInto != nil) ? try device.makeEvent() : nil)
    }

    /// Updates that are copied out as all there is of their table's tick.
    private var wholeUpdates: Set<Int> {
        var saving: [TableIndex: [Int]] = [:]
        for (index, stay) in placement.stays.enumerated() where stay.savesOut {
            guard case .update(let id) = stay.item else { continue }
            saving[batches[id].table, default: []].append(index)
        }
        return Set(
            saving.values.compactMap { indexes -> Int? in
                guard indexes.count == 1, let index = indexes.first,
                    case .update(let id) = placement.stays[index].item, batches[id].isWholeTable
                else { return nil }
                return index
            })
    }
}
