import GeePSCore
import GeePSDevice
import GeePSMemory
import Glibc
import Synchronization

func sleepMicroseconds(_ count: Int) { usleep(UInt32(count)) }

/// Drives an access manager through a plan and checks every value it is lent against a plain model.
final class PlanDriver {
    let manager: AccessManager
    let store: PlainStore
    let plan: AccessPlan
    private let batches: [RowBatch]
    private let rowsOfBatch: [[Int]]
    private let locals: [LocalBatch]
    private let stream: (any DeviceStream)?
    private let staleness: Staleness
    let faults = FaultList()
    /// Whether contents are written and checked; without it, accesses take next to no time.
    var usesContents = true
    private var random: PlanRandom

    // The model.
    private var sums: [[Float]]
    private var version: UInt32 = 0
    private var kept: [UInt32?]
    private var current: [UInt32?]
    private var keeps: [Bool]
    private var holders: [Int]
    private var openReads: [Int: [Box<ReadBuffer>]] = [:]
    private var openUpdates: [Int: [(box: Box<UpdateBuffer>, values: [Float]?)]] = [:]
    private var openLocals: [Int: [Box<LocalBuffer>]] = [:]

    /// A noncopyable buffer in a collection.
    final class Box<Value: ~Copyable> {
        var value: Value?
        init(_ value: consuming Value) { self.value = consume value }
    }

    /// What was not as it should be; from any thread.
    final class FaultList: Sendable {
        private let faults = Mutex<[String]>([])
        var first: String? { faults.withLock { $0.first } }
        func add(_ fault: String) { faults.withLock { $0.append(fault) } }
    }

    /// What is driven.
    struct Subject {
        var tables: [TableLayout]
        /// By batch: the table, the rows, whether they are a run.
        var batches: [(table: Int, rows: [Int], isRun: Bool)]
        var localBytes: [Int]
        var accesses: [Access]

        /// Tables of rows of four values for the sizes of `problem`.
        init(_ problem: PlanProblem, random: inout PlanRandom) {
            tables = problem.tables.map {
                TableLayout(name: $0.name, rowCount: max(1, $0.cacheBytes / 16), rowWidth: 4)
            }
            batches = []
            for batch in problem.batches {
                let rowCount = tables[batch.table].rowCount
                let isWhole = batch.byteCount == problem.tables[batch.table].cacheBytes
                let count = isWhole ? rowCount : min(rowCount, max(1, batch.byteCount / 16))
                if batch.isRun {
                    let first = random.below(rowCount - count + 1)
                    batches.append((batch.table, Array(first..<(first + count)), true))
                } else {
                    let rows = (0..<count).map { _ in random.below(rowCount) }
                    batches.append((batch.table, rows, false))
                }
            }
            localBytes = problem.locals.map(\.byteCount)
            accesses = problem.accesses
        }
    }

    init(
        _ subject: Subject, device: any Device, memory: MemoryConfiguration?,
        staleness: Staleness, stream: (any DeviceStream)?, seed: UInt64, longestDelay: Int
    ) throws {
        store = try PlainStore(
            tables: subject.tables, device: device, seed: seed, longestDelay: longestDelay,
            pinsRows: memory?.prefersPinnedHost ?? true)
        manager = try AccessManager(
            tables: subject.tables, store: store, device: device, staleness: staleness,
            memory: memory)
        manager.applicationStream = stream
        self.stream = stream
        self.staleness = staleness
        random = PlanRandom(seed: seed ^ 0xabcd)
        var made: [RowBatch] = []
        for batch in subject.batches {
            if batch.isRun, let first = batch.rows.first {
                made.append(
                    manager.batch(of: batch.table, rows: first..<(first + batch.rows.count)))
            } else {
                made.append(try manager.batch(of: batch.table, rows: batch.rows))
            }
        }
        batches = made
        rowsOfBatch = subject.batches.map(\.rows)
        locals = try subject.localBytes.enumerated().map { [manager] in
            try manager.localBatch(name: "local\($0.offset)", byteCount: $0.element)
        }
        plan = AccessPlan(subject.accesses)
        sums = subject.tables.map { [Float](repeating: 0, count: $0.valueCount) }
        kept = locals.map { _ in nil }
        current = kept
        keeps = locals.map { _ in false }
        holders = locals.map { _ in 0 }
    }

    func close() {
        manager.close()
        store.close()
        stream?.close()
    }

    /// Does one iteration of `accesses`, the plan's by default.
    func iterate(_ accesses: [Access]? = nil) throws {
        for access in accesses ?? plan.accesses { try perform(access) }
    }

    /// Waits until what was put on the application's stream is checked.
    func settle() throws {
        try stream?.synchronise(deadline: .after(.seconds(30)))
        manager.drain()
    }

    func perform(_ access: Access) throws {
        let id = access.batch
        switch access.kind {
        case .read: try read(id)
        case .endRead: openReads[id]?.removeFirst().value = nil
        case .update: try update(id)
        case .endUpdate: endUpdate(id)
        case .local: try local(id, fetch: access.matters)
        case .endLocal: endLocal(id, keep: access.matters)
        case .clock: clock()
        }
    }

    /// On the application's stream, or now.
    private func onStream(_ body: @escaping @Sendable () -> Void) {
        guard usesContents else { return }
        if let stream { stream.run { body() } } else { body() }
    }

    // MARK: Rows

    private func read(_ id: Int) throws {
        let batch = batches[id]
        let buffer = try manager.read(batch)
        let tick = manager.tick.count
        let least = staleness.leastAge(at: Tick(tick)).count
        let values = Address(UnsafeMutablePointer(mutating: buffer.values))
        if buffer.age.count < least { faults.add("read of age \(buffer.age), needed \(least)") }
        // Newer than what is reported is allowed: rows may have come since, those of this clock too where the
        // table's last update is over.
        let ages = buffer.age.count...max(buffer.age.count, tick + 1)
        onStream { [faults, store, rows = rowsOfBatch[id]] in
            // When they are looked at, not when they were lent: what they were at this clock may be known by now.
            let candidates = ages.map { Self.expected(batch, rows, at: $0, in: store) }
            let found = Array(UnsafeBufferPointer(start: values.floats, count: batch.valueCount))
            if !candidates.contains(where: { $0.map { $0 == found } ?? false }) {
                faults.add(
                    "read of \(store.tables[batch.table].name) at tick \(tick): found "
                        + "\(found.prefix(8)), expected \(candidates.first.flatMap { $0 }?.prefix(8) ?? [])"
                )
            }
        }
        openReads[id, default: []].append(Box(buffer))
    }

    private static func expected(
        _ batch: RowBatch, _ rows: [Int], at tick: UInt64, in store: PlainStore
    ) -> [Float]? {
        guard let all = store.rows(of: batch.table, at: tick) else { return nil }
        return rows.flatMap { all[($0 * batch.rowWidth)..<(($0 + 1) * batch.rowWidth)] }
    }

    private func update(_ id: Int) throws {
        let batch = batches[id]
        let isOverwritten = random.chance(70)
        let isDiscarded = random.chance(10)
        let buffer = try manager.update(batch, isOverwritten: isOverwritten)
        let values = (0..<batch.valueCount).map { _ in Float(random.below(9)) }
        let target = Address(buffer.values)
        onStream { [faults] in
            for (index, value) in values.enumerated() {
                if !isOverwritten, target.floats[index] != 0 {
                    faults.add("room for an update does not begin as zeros")
                    break
                }
                target.floats[index] = value
            }
        }
        openUpdates[id, default: []].append((Box(buffer), isDiscarded ? nil : values))
    }

    private func endUpdate(_ id: Int) {
        guard let (box, values) = openUpdates[id]?.removeFirst() else { return }
        guard let values else {
            box.value = nil
            return
        }
        let batch = batches[id]
        for (position, row) in rowsOfBatch[id].enumerated() {
            for lane in 0..<batch.rowWidth {
                sums[batch.table][row * batch.rowWidth + lane] +=
                    values[position * batch.rowWidth + lane]
            }
        }
        box.value.take()?.finish()
    }

    // MARK: Local data

    private func local(_ id: Int, fetch: Bool) throws {
        let buffer = try manager.local(locals[id], fetch: fetch)
        if holders[id] == 0 {
            keeps[id] = false
            current[id] = fetch ? kept[id] : nil
        }
        holders[id] += 1
        if fetch, let version = current[id] {
            let found = Address(buffer.floats)
            let count = buffer.byteCount
            onStream { [faults] in
                let bytes = UnsafeRawBufferPointer(start: found.floats, count: count)
                let wrong = bytes.indices.first { bytes[$0] != Self.byte(version, $0) }
                if let wrong {
                    faults.add(
                        "local\(id), version \(version): byte \(wrong) of \(count) is \(bytes[wrong]), "
                            + "expected \(Self.byte(version, wrong))")
                }
            }
        }
        openLocals[id, default: []].append(Box(buffer))
    }

    private func endLocal(_ id: Int, keep: Bool) {
        guard let box = openLocals[id]?.removeFirst() else { return }
        version += 1
        if let address = box.value?.floats {
            let target = Address(address)
            let (version, count) = (version, locals[id].byteCount)
            onStream {
                let bytes = UnsafeMutableRawBufferPointer(start: target.floats, count: count)
                for index in bytes.indices { bytes[index] = Self.byte(version, index) }
            }
        }
        current[id] = version
        keeps[id] = keeps[id] || keep
        holders[id] -= 1
        if holders[id] == 0 { kept[id] = keeps[id] ? version : nil }
        box.value.take()?.release(keep: keep)
    }

    private static func byte(_ version: UInt32, _ index: Int) -> UInt8 {
        UInt8(
            truncatingIfNeeded: (version &* 2_654_435_761) >> 13
                &+ UInt32(truncatingIfNeeded: index))
    }

    private func clock() {
        // The model's rows of the next tick are the store's business; its logs are compared here.
        let tick = manager.tick.count
        let expected = sums
        for table in sums.indices {
            for index in sums[table].indices { sums[table][index] = 0 }
        }
        manager.clock()
        pending.append((tick + 1, expected))
    }

    private var pending: [(tick: UInt64, sums: [[Float]])] = []

    /// Checks that all updates together changed the rows by their sum, in whichever tick they were.
    func checkTotals() throws {
        let last = pending.last?.tick ?? 0
        for table in sums.indices {
            try store.waitForAge(of: table, atLeast: Tick(last), unless: nil)
            guard var expected = store.rows(of: table, at: 0),
                let found = store.rows(of: table, at: last)
            else {
                faults.add("table \(table) has no rows of tick \(last)")
                continue
            }
            for (_, sums) in pending { expected = zip(expected, sums[table]).map(+) }
            if expected != found { faults.add("table \(table) lost or gained an update") }
        }
        pending = []
    }

    /// Checks that every tick changed the rows by the sum of its updates.
    func checkSums() throws {
        for (tick, sums) in pending {
            for (table, sum) in sums.enumerated() {
                try store.waitForAge(of: table, atLeast: Tick(tick), unless: nil)
                guard let before = store.rows(of: table, at: tick - 1),
                    let after = store.rows(of: table, at: tick)
                else {
                    faults.add("table \(table) has no rows of tick \(tick)")
                    continue
                }
                if zip(zip(before, sum).map(+), after).contains(where: { $0 != $1 }) {
                    faults.add("tick \(tick) did not add the sum of its updates to table \(table)")
                }
            }
        }
        pending = []
    }

    private struct Address: @unchecked Sendable {
        let floats: UnsafeMutablePointer<Float>
        init(_ floats: UnsafeMutablePointer<Float>) { self.floats = floats }
    }
}
