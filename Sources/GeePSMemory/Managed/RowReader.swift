internal import GeePSCore
internal import GeePSDevice
import Synchronization

/// A table's rows in device memory, kept the same as the cached rows on the host.
///
/// Copies are made in the order they are asked for, on one stream.
public final class RowMirror: @unchecked Sendable {
    // Sendable: constant after init; the stream orders what is written to the memory.
    let rows: UnsafeMutablePointer<Float>
    let stay: Placement.Stay
    private let stream: any DeviceStream
    private let event: any DeviceEvent
    private let label: String
    private let copiedBytes = Atomic<UInt64>(0)
    // Copies whose event was recorded; those of them that are known to be done.
    private let asked = Atomic<UInt64>(0)
    private let done = Atomic<UInt64>(0)

    init(
        rows: UnsafeMutablePointer<Float>, stay: Placement.Stay, stream: any DeviceStream,
        event: any DeviceEvent, label: String
    ) {
        self.rows = rows
        self.stay = stay
        self.stream = stream
        self.event = event
        self.label = label
    }

    /// Copies `byteCount` bytes of the host's rows, `byteOffset` bytes from the table's begin.
    ///
    /// From any thread. The host's rows must not change until `wait` for the copy returns.
    ///
    /// - Returns: the copy's number, which `wait` takes.
    @discardableResult
    public func update(from source: UnsafeRawPointer, byteOffset: Int, byteCount: Int) -> UInt64 {
        stream.copy(
            from: source, to: UnsafeMutableRawPointer(rows) + byteOffset, byteCount: byteCount,
            direction: .hostToDevice, label: label)
        stream.record(event)
        copiedBytes.wrappingAdd(UInt64(byteCount), ordering: .relaxed)
        // After the record: whoever reads this number finds the event behind as many copies.
        return asked.wrappingAdd(1, ordering: .acquiringAndReleasing).newValue
    }

    /// Waits until copy number `copy` is done; bounded by the copies asked for so far.
    ///
    /// There is one event for all, so this may wait for later copies, too; what it learns by that spares the
    /// others' waits.
    public func wait(forCopy copy: UInt64) {
        guard copy > done.load(ordering: .acquiring) else { return }
        let recorded = asked.load(ordering: .acquiring)
        // A failed copy shows where the rows are used.
        try? event.wait()
        done.max(recorded, ordering: .acquiringAndReleasing)
    }

    /// Waits until every copy asked for so far is done; bounded by these copies.
    public func waitUntilIdle() { try? event.wait() }

    /// Happens when the last copy asked for is done.
    var lastCopy: any DeviceEvent { event }

    /// Bytes copied so far.
    var bytesCopied: UInt64 { copiedBytes.load(ordering: .relaxed) }
}

/// Brings rows into device memory: copies from the host's cache, or gathers from a mirror.
final class RowReader: @unchecked Sendable {
    // Sendable: `lock` guards the staging memory; `mirrors` is constant while a placement is followed.
    let stream: any DeviceStream
    private let store: any ParameterStore
    private let device: any Device
    private let prefersPinned: Bool
    private let lock = Signal()
    private var staging: Staging?
    /// By table; set between placements only.
    var mirrors: [RowMirror?]

    private struct Staging {
        let buffer: SharedBuffer
        let isFree: any DeviceEvent
    }

    init(
        stream: any DeviceStream, store: any ParameterStore, device: any Device, tableCount: Int,
        prefersPinned: Bool
    ) {
        self.stream = stream
        self.store = store
        self.device = device
        self.prefersPinned = prefersPinned
        mirrors = Array(repeating: nil, count: tableCount)
    }

    /// Puts the rows of `batch` into `target` and records `ready` behind that.
    ///
    /// The rows must be fresh enough already.
    ///
    /// - Throws: `.outOfMemory` when rows are gathered on the host and there is no memory to stage them.
    func read(
        _ batch: RowBatch, into target: UnsafeMutableRawPointer, label: String,
        ready: any DeviceEvent
    ) throws(AccessError) -> (freshness: Freshness, bytesCopiedIn: Int) {
        let byteCount = batch.byteCount
        if let mirror = mirrors[batch.table] {
            // Before the copy: what arrives in between makes the rows newer, never older.
            let freshness = store.freshness(of: batch.table)
            read(batch, from: mirror, into: target, label: label)
            stream.record(ready)
            return (freshness ?? .none, 0)
        }
        let freshness: Freshness?
        switch batch.selection {
        case .list(let index):
            freshness = try gatherOnHost(batch, index, into: target, label: label)
        case .run(let range):
            freshness = store.lendRows(of: batch.table, to: stream) { rows in
                stream.copy(
                    from: rows + range.lowerBound * batch.rowWidth, to: target,
                    byteCount: byteCount, direction: .hostToDevice, label: label)
                return store.freshness(of: batch.table)
            }
        }
        stream.record(ready)
        return (freshness ?? .none, byteCount)
    }

    private func read(
        _ batch: RowBatch, from mirror: RowMirror, into target: UnsafeMutableRawPointer,
        label: String
    ) {
        switch batch.selection {
        case .run(let range):
            stream.copy(
                from: mirror.rows + range.lowerBound * batch.rowWidth, to: target,
                byteCount: batch.byteCount, direction: .deviceToDevice, label: label)
        case .list(let index):
            stream.gatherRows(
                UnsafePointer(mirror.rows), indexes: index.entries, count: batch.rowCount,
                rowWidth: batch.rowWidth, into: target.assumingMemoryBound(to: Float.self),
                label: label)
        }
    }

    private func gatherOnHost(
        _ batch: RowBatch, _ index: RowIndex, into target: UnsafeMutableRawPointer, label: String
    ) throws(AccessError) -> Freshness? {
        lock.lock()
        defer { lock.unlock() }
        let staging = try staging(byteCount: batch.byteCount)
        // The copy before this one; bounded by it.
        try? staging.isFree.wait()
        let freshness = store.withStableRows(of: batch.table) { rows in
            Kernels.gatherRows(
                staging.buffer.floats, from: rows, at: index.hostEntries, rowCount: batch.rowCount,
                rowWidth: batch.rowWidth)
            return store.freshness(of: batch.table)
        }
        stream.copy(
            from: staging.buffer.address, to: target, byteCount: batch.byteCount,
            direction: .hostToDevice, label: label)
        stream.record(staging.isFree)
        return freshness
    }

    /// Host memory for `byteCount` bytes, kept for the next time; under `lock`.
    private func staging(byteCount: Int) throws(AccessError) -> Staging {
        if let staging, staging.buffer.byteCount >= byteCount { return staging }
        if let old = staging { try? old.isFree.wait() }
        staging = nil
        do {
            let made = Staging(
                buffer: SharedBuffer(
                    try device.allocateHost(
                        byteCount: byteCount, for: .accessBuffers, preferPinned: prefersPinned)),
                isFree: try device.makeEvent())
            staging = made
            return made
        } catch {
            throw AccessError(.outOfMemory, "staging of \(byteCount) bytes: \(error.message)")
        }
    }

    /// Makes room for the largest of `batches` that is gathered on the host, so that later nothing is allocated.
    func reserve(for batches: [RowBatch]) throws(AccessError) {
        let bytes = batches.filter { batch in
            guard case .list = batch.selection else { return false }
            return mirrors[batch.table] == nil
        }.map(\.byteCount).max()
        guard let bytes else { return }
        try lock.withLock { () throws(AccessError) in _ = try staging(byteCount: bytes) }
    }
}

extension Freshness {
    /// Of rows that have never come.
    static let none = Freshness(age: .zero, version: 0)
}
