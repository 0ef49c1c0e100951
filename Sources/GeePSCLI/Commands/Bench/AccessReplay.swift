import GeePSClient
import GeePSDevice
import GeePSMemory

/// Repeats a recorded iteration on a client whose kernels only take time.
struct AccessReplay {
    private let client: Client
    private let accesses: [Access]
    private let stream: any DeviceStream
    private let batches: [RowBatch]
    private let locals: [LocalBatch]
    /// By access: how long the device computes before it is done; zero for most.
    private let computes: [UInt64]

    /// A noncopyable buffer in a collection.
    private final class Box<Value: ~Copyable> {
        var value: Value?
        init(_ value: consuming Value) { self.value = consume value }
    }

    /// A replay of `problem` on `client`, which knows its tables; makes the dry run.
    ///
    /// - Parameters:
    ///   - stream: where kernels run.
    ///   - phaseNanoseconds: compute time by phase.
    init(
        _ problem: PlanProblem, _ placement: Placement, phaseNanoseconds: [UInt64],
        client: Client, stream: any DeviceStream
    ) throws {
        self.client = client
        self.stream = stream
        accesses = problem.accesses
        batches = problem.batches.map { client.batch(of: $0.table) }
        locals = try problem.locals.map {
            try client.localBatch(name: $0.name, byteCount: $0.byteCount)
        }
        var computes = accesses.map { _ in UInt64(0) }
        var phase = 0
        var computed = -1
        var wasRelease = false
        for (position, access) in accesses.enumerated() {
            switch access.kind {
            case .read, .update, .local:
                if wasRelease { phase += 1 }
                wasRelease = false
            case .endRead, .endUpdate, .endLocal:
                // Everything of the phase is held: its kernels run.
                if computed < phase {
                    computes[position] = phaseNanoseconds[phase]
                    computed = phase
                }
                wasRelease = true
            case .clock: break
            }
        }
        self.computes = computes
        client.setApplicationStream(stream)
        try client.dryRun(placement: placement) { recorder in
            for access in problem.accesses { recorder.append(access) }
        }
    }

    /// One iteration: returns when it is put on the stream.
    func iterate() throws {
        var reads: [Int: Box<ReadBuffer>] = [:]
        var updates: [Int: Box<UpdateBuffer>] = [:]
        var lent: [Int: Box<LocalBuffer>] = [:]
        for (position, access) in accesses.enumerated() {
            if computes[position] > 0 {
                stream.compute(nanoseconds: computes[position], label: "layer")
            }
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
}
