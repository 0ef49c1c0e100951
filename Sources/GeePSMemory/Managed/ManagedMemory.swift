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
        /// On the device, in the piece it was last held in: nothing is planned.
        case piece
        /// Where the caller has made it, as planned.
        case left(UnsafeMutableRawPointer)
        /// It was kept, but the plan had no use for it.
        case lost
    }

    /// A local batch of the application.
    final class LocalState {
        let name: String
        let byteCount: Int
        let purpose: MemoryPurpose
        var content = Content.none
        /// Its host memory.
        var home: SharedBuffer?
        var holders = 0
        var keeps = false
        /// Who puts content there can keep it.
        var mayBeLeft = false
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
    var run: PlacementRun?
    /// Grows with every placement followed: tells stays of one from those of another.
    var generation = 0
    var locals: [LocalState] = []
    var arena: SharedBuffer?
    var pieces = OnDemandPieces()
    let inStream: any DeviceStream
    let rowStream: any DeviceStream
    let outStream: any DeviceStream
    let reader: RowReader
    /// The reclaimer's.
    let saver: UpdateSaver
    /// The application's: an update outside the plan may end while the reclaimer is at work.
    let pieceSaver: UpdateSaver
    var pieceOfStay: [Int: Int] = [:]
    /// By stay of the placement: how often it is lent.
    var heldStays: [Int] = []
    var counted = ManagedCounters()
    /// By table: the application's stream is done with rows that were lent in place.
    let clockEvents: [any DeviceEvent]
    let pieceEvent: any DeviceEvent
    /// Where the application's kernels run; nil where its thread computes.
    var application: (any DeviceStream)?

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
