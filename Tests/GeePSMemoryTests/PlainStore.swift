import GeePSCore
import GeePSDevice
import GeePSMemory

/// A parameter store without a network: one worker, whose updates come back after a while.
///
/// A thread of its own plays the part of keepers and pullers. It remembers what rows were at every tick.
final class PlainStore: ParameterStore, @unchecked Sendable {
    // Sendable: everything mutable is guarded by `signal`, rows by `rowsLock`.
    let tables: [TableLayout]
    private let memory: [Buffer]
    private let events: [any DeviceEvent]
    private let signal = Signal()
    private let rowsLock = Signal()
    private var ages: [UInt64?]
    private var versions: [UInt64]
    private var raised: [UInt64]
    private var mirrors: [RowMirror?]
    private var logs: [Key: Buffer] = [:]
    private var history: [[UInt64: [Float]]]
    private let arrivals = Mailbox<TableIndex>(capacity: 1024)
    private var random: PlanRandom
    private let longestDelay: Int
    private var isOpen = true
    private var thread: DedicatedThread?

    private struct Key: Hashable {
        var table: TableIndex
        var tick: UInt64
    }

    private final class Buffer {
        let buffer: HostBuffer
        init(_ buffer: consuming HostBuffer) { self.buffer = buffer }
        var floats: UnsafeMutablePointer<Float> { buffer.floats }
    }

    /// Rows begin as `table + row / 8`.
    init(
        tables: [TableLayout], device: any Device, seed: UInt64, longestDelay: Int = 0,
        pinsRows: Bool = true
    ) throws {
        // Tests count what is left of the host device's memory; a GPU copies to its own pinned memory only.
        logDevice = device.isHostAddressable ? HostDevice() : device
        self.tables = tables
        self.longestDelay = longestDelay
        random = PlanRandom(seed: seed)
        memory = try tables.map {
            Buffer(
                try device.allocateHost(
                    byteCount: $0.byteCount, for: .parameterCache, preferPinned: pinsRows))
        }
        events = try tables.map { _ in try device.makeEvent() }
        ages = tables.map { _ in 0 }
        versions = tables.map { _ in 1 }
        raised = tables.map { _ in 0 }
        mirrors = tables.map { _ in nil }
        history = []
        for (table, layout) in tables.enumerated() {
            let values = (0..<layout.valueCount).map { Float(table) + Float($0 % 64) }
            for (index, value) in values.enumerated() { memory[table].floats[index] = value }
            history.append([0: values])
        }
        thread = DedicatedThread(name: "plain store") { [self] in
            while let table = arrivals.receive() { update(table) }
        }
    }

    /// Lets updates go on; while it is closed no rows change.
    func setOpen(_ isOpen: Bool) {
        signal.withLock {
            self.isOpen = isOpen
            signal.wakeAll()
        }
    }

    /// What the rows of `table` were at `tick`, all values.
    func rows(of table: TableIndex, at tick: UInt64) -> [Float]? {
        signal.withLock { history[table][tick] }
    }

    func close() {
        setOpen(true)
        arrivals.close()
        thread?.join()
    }

    private func update(_ table: TableIndex) {
        let delay = signal.withLock { longestDelay == 0 ? 0 : random.below(longestDelay) }
        if delay > 0 { sleepMicroseconds(delay) }
        signal.lock()
        while !isOpen { _ = signal.wait() }
        signal.unlock()
        let count = tables[table].valueCount
        let tick = signal.withLock { (ages[table] ?? 0) + 1 }
        let log = signal.withLock { logs.removeValue(forKey: Key(table: table, tick: tick)) }
        rowsLock.withLock {
            try? events[table].wait()
            mirrors[table]?.waitUntilIdle()
            var values = Array(UnsafeBufferPointer(start: memory[table].floats, count: count))
            if let log { for index in 0..<count { values[index] += log.floats[index] } }
            // Before anybody can see them.
            signal.withLock { history[table][tick] = values }
            for index in 0..<count { memory[table].floats[index] = values[index] }
            mirrors[table]?.update(
                from: memory[table].floats, byteOffset: 0, byteCount: tables[table].byteCount)
            signal.withLock {
                ages[table] = tick
                versions[table] += 1
                signal.wakeAll()
            }
        }
    }

    // MARK: ParameterStore

    func cachedRows(of table: TableIndex) -> UnsafePointer<Float> {
        UnsafePointer(memory[table].floats)
    }

    func waitForAge(of table: TableIndex, atLeast least: Tick, unless stop: StopFlag?)
        throws(AccessError)
    {
        signal.lock()
        defer { signal.unlock() }
        let deadline = Deadline.after(.seconds(30))
        while ages[table] ?? 0 < least.count {
            if stop?.isRaised == true { throw AccessError(.closed, "called off") }
            guard signal.wait(until: deadline) else {
                throw AccessError(.deadline, "table \(table) never reached age \(least)")
            }
        }
    }

    func wakeWaiters() { signal.withLock { signal.wakeAll() } }

    func freshness(of table: TableIndex) -> Freshness? {
        signal.withLock { ages[table].map { Freshness(age: Tick($0), version: versions[table]) } }
    }

    func withStableRows<R>(of table: TableIndex, _ body: (UnsafePointer<Float>) -> R) -> R {
        rowsLock.withLock { body(cachedRows(of: table)) }
    }

    func lendRows<R>(
        of table: TableIndex, to stream: any DeviceStream, _ body: (UnsafePointer<Float>) -> R
    ) -> R {
        rowsLock.withLock {
            defer { stream.record(events[table]) }
            return body(cachedRows(of: table))
        }
    }

    func mirror(_ table: TableIndex, into mirror: RowMirror?) {
        rowsLock.withLock {
            mirrors[table] = mirror
            mirror?.update(
                from: memory[table].floats, byteOffset: 0, byteCount: tables[table].byteCount)
        }
    }

    func log(of table: TableIndex, tick: Tick, isOverwritten: Bool) throws(AccessError)
        -> UnsafeMutablePointer<Float>
    {
        signal.lock()
        defer { signal.unlock() }
        let key = Key(table: table, tick: tick.count)
        if let log = logs[key] { return log.floats }
        let count = tables[table].valueCount
        do {
            let log = Buffer(
                try logDevice.allocateHost(
                    byteCount: tables[table].byteCount, for: .updateLog,
                    preferPinned: !logDevice.isHostAddressable))
            // What was there before must not show: overwritten means overwritten.
            for index in 0..<count { log.floats[index] = isOverwritten ? .nan : 0 }
            logs[key] = log
            return log.floats
        } catch {
            throw AccessError(.outOfMemory, error.message)
        }
    }

    // Nothing is sent ahead here.
    func holdRows(of table: TableIndex) {}
    func takeRows(of table: TableIndex) {}

    let stepsInPlace = false

    func canStepInPlace(_ table: TableIndex) -> Bool { false }

    func raiseClock(of table: TableIndex, from pieces: [GradientPiece]) {
        preconditionFailure("this store has a log")
    }

    func raiseClock(of table: TableIndex) {
        signal.withLock { raised[table] += 1 }
        arrivals.send(table)
    }

    private let logDevice: any Device
}
