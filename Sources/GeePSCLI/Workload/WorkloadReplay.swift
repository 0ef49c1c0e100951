import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import Synchronization

/// Repeats a workload's iteration on a client; its kernels only take time.
final class WorkloadReplay {
    private let client: Client
    private let stream: any DeviceStream
    private let operations: [Workload.Operation]
    private let phases: [Workload.Phase]
    private let batches: [RowBatch]
    private let locals: [LocalBatch]
    private let ends = ClockEnds()
    // By batch: what is lent now.
    private var reads: [Int: Box<ReadBuffer>] = [:]
    private var updates: [Int: Box<UpdateBuffer>] = [:]
    private var lent: [Int: Box<LocalBuffer>] = [:]

    /// A noncopyable buffer in a collection.
    private final class Box<Value: ~Copyable> {
        var value: Value?
        init(_ value: consuming Value) { self.value = consume value }
    }

    /// When each iteration's last kernel was over; filled by the stream.
    private final class ClockEnds: Sendable {
        let values = Mutex<[UInt64]>([])
    }

    /// Records the iteration on `client`, whose tables are those of `grouping`.
    ///
    /// - Parameter placement: where managed memory has what; nil to make one.
    init(
        _ workload: Workload, _ grouping: TableGrouping, hasLocals: Bool, placement: Placement?,
        client: Client, stream: any DeviceStream
    ) throws {
        self.client = client
        self.stream = stream
        operations = workload.operations(hasLocals: hasLocals)
        phases = workload.phases
        batches = grouping.places.map { client.batch(of: $0.table, rows: $0.rows) }
        locals =
            try hasLocals
            ? workload.locals.map {
                try client.localBatch(name: $0.name, byteCount: $0.byteCount)
            } : []
        client.setApplicationStream(stream)
        try client.dryRun(placement: placement) { recorder in
            for case .access(let access) in operations { recorder.append(access) }
        }
    }

    /// When each iteration's last kernel was over, so far.
    var clockEnds: [UInt64] { ends.values.withLock { $0 } }

    /// One iteration: returns when it is put on the stream.
    func iterate() throws {
        for operation in operations {
            switch operation {
            case .compute(let phase):
                let nanoseconds = phases[phase].nanoseconds
                guard nanoseconds > 0 else { continue }
                stream.compute(nanoseconds: nanoseconds, label: phases[phase].name)
            case .access(let access): try perform(access)
            }
        }
        stream.run(label: "clock") { [ends] () throws(DeviceError) in
            ends.values.withLock { $0.append(monotonicNanoseconds()) }
        }
    }

    /// Waits until all rows of this client have all updates so far.
    func settle() throws {
        try stream.synchronise()
        for batch in batches {
            _ = try client.read(batch, staleness: .bulkSynchronous, isPlanned: false)
        }
    }

    private func perform(_ access: Access) throws {
        let id = access.batch
        switch access.kind {
        case .read: reads[id] = Box(try client.read(batches[id]))
        case .update: updates[id] = Box(try client.update(batches[id]))
        case .local: lent[id] = Box(try client.local(locals[id], fetch: access.matters))
        case .endRead: reads[id] = nil
        case .endUpdate: updates.removeValue(forKey: id)?.value.take()?.finish()
        case .endLocal:
            lent.removeValue(forKey: id)?.value.take()?.release(keep: access.matters)
        case .clock: client.clock()
        }
    }
}
