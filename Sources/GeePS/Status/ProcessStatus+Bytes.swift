internal import GeePSCore

/// Status as bytes; docs/formats/status.md is normative.
extension ProcessStatus {
    /// The version this code writes, and the only one it reads.
    static let version: UInt8 = 1
    /// Bytes of an answer at most: a line for each table of a large model and keeper.
    static let bytesMaximum = 16 << 20
    private static let nameBytes = 4096

    /// The status as a message.
    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(Self.version)
        writer.write(UInt32(rank))
        writer.write(UInt32(workerCount))
        writer.write(UInt32(peers.count))
        for peer in peers {
            writer.write(peer.host)
            writer.write(peer.pid)
        }
        writer.write(UInt32(ownerOfKeeper.count))
        for owner in ownerOfKeeper { writer.write(UInt32(owner)) }
        writer.write(UInt32(tables.count))
        for table in tables { writer.write(table) }
        writer.write(UInt8(worker == nil ? 0 : 1))
        if let worker { writer.write(worker) }
        writer.write(UInt32(keepers.count))
        for keeper in keepers { writer.write(keeper) }
        return writer.bytes
    }

    /// Reads a message that another process wrote.
    init(decoding bytes: [UInt8]) throws(ByteError) {
        var reader = ByteReader(bytes)
        let version = try reader.uint8("version")
        guard version == Self.version else {
            throw ByteError(
                "status version \(version), this program speaks \(Self.version); "
                    + "ask with the geeps that runs the job")
        }
        let rank = Int(try reader.uint32("rank"))
        let workerCount = Int(try reader.uint32("workers"))
        let peers = try reader.list("processes", limit: Limits.workersMaximum, elementBytes: 8) {
            (reader) throws(ByteError) in
            let host = try reader.text("host", limit: Self.nameBytes)
            return Peer(host: host, pid: try reader.uint32("pid"))
        }
        let owners = try reader.list("keepers", limit: 1 << 20, elementBytes: 4) {
            (reader) throws(ByteError) in Int(try reader.uint32("owner"))
        }
        let tables = try reader.list("tables", limit: 1 << 20, elementBytes: 4) {
            (reader) throws(ByteError) in try reader.text("table", limit: Self.nameBytes)
        }
        let worker = try reader.uint8("worker") == 0 ? nil : try reader.worker()
        let keepers = try reader.list("keepers here", limit: 1 << 20, elementBytes: 8) {
            (reader) throws(ByteError) in try reader.keeper()
        }
        try reader.finish()
        self.init(
            rank: rank, peers: peers, workerCount: workerCount, ownerOfKeeper: owners,
            tables: tables, worker: worker, keepers: keepers)
        try check()
    }

    /// What is shown is looked up by these.
    private func check() throws(ByteError) {
        guard peers.indices.contains(rank), workerCount <= peers.count else {
            throw ByteError("rank \(rank) and \(workerCount) workers of \(peers.count) processes")
        }
        let named =
            keepers.flatMap(\.tables).map(\.table) + [worker?.table].compactMap { $0 }
            + (worker?.sending.map(\.table) ?? [])
        if let table = named.first(where: { !tables.indices.contains($0) }) {
            throw ByteError("table \(table) of \(tables.count)")
        }
        let keeping =
            keepers.map(\.keeper) + (worker?.lacking.map(\.keeper) ?? [])
            + (worker?.sending.map(\.keeper) ?? [])
        if let keeper = keeping.first(where: { !ownerOfKeeper.indices.contains($0) }) {
            throw ByteError("keeper \(keeper) of \(ownerOfKeeper.count)")
        }
        if let owner = ownerOfKeeper.first(where: { !peers.indices.contains($0) }) {
            throw ByteError("a keeper of rank \(owner), of \(peers.count)")
        }
    }
}

extension ByteWriter {
    /// No number is the largest.
    fileprivate mutating func write(_ value: UInt64?) { write(value ?? .max) }

    fileprivate mutating func write(_ rows: Range<Int>) {
        write(UInt64(rows.lowerBound))
        write(UInt64(rows.upperBound))
    }

    fileprivate mutating func write(_ worker: WorkerStanding) {
        write(worker.tick)
        write(worker.activity.rawValue)
        write(worker.table.map { UInt64($0) })
        write(worker.neededAge)
        write(worker.nanoseconds)
        write(UInt32(worker.lacking.count))
        for lack in worker.lacking {
            write(UInt32(lack.keeper))
            write(lack.rows)
            write(lack.age)
        }
        write(UInt32(worker.sending.count))
        for push in worker.sending {
            write(UInt32(push.keeper))
            write(UInt32(push.table))
            write(push.rows)
            write(push.tick)
            write(push.nanoseconds)
        }
    }

    fileprivate mutating func write(_ keeper: KeeperStanding) {
        write(UInt32(keeper.keeper))
        write(UInt32(keeper.tables.count))
        for table in keeper.tables {
            write(UInt32(table.table))
            write(table.rows)
            write(table.age)
            write(UInt32(table.missingCount))
            write(UInt32(table.missing.count))
            for missing in table.missing {
                write(UInt32(missing.worker))
                write(missing.tick)
            }
            write(table.nanoseconds)
        }
    }
}

extension ByteReader {
    fileprivate mutating func list<Element>(
        _ field: StaticString, limit: Int, elementBytes: Int,
        _ element: (inout ByteReader) throws(ByteError) -> Element
    ) throws(ByteError) -> [Element] {
        let count = try count(field, limit: limit, elementBytes: elementBytes)
        var elements: [Element] = []
        for _ in 0..<count { elements.append(try element(&self)) }
        return elements
    }

    private mutating func optional(_ field: StaticString) throws(ByteError) -> UInt64? {
        let value = try uint64(field)
        return value == .max ? nil : value
    }

    private mutating func rows() throws(ByteError) -> Range<Int> {
        let (first, end) = (try uint64("first row"), try uint64("end row"))
        guard first <= end, let end = Int(exactly: end) else {
            throw ByteError("rows \(first)..<\(end)")
        }
        return Int(first)..<end
    }

    fileprivate mutating func worker() throws(ByteError) -> WorkerStanding {
        let tick = try uint64("tick")
        let number = try uint8("activity")
        guard let activity = WorkerStanding.Activity(rawValue: number) else {
            throw ByteError("activity \(number) is unknown")
        }
        let table = try optional("table").map { Int(truncatingIfNeeded: $0) }
        let needed = try uint64("needed age")
        let nanoseconds = try uint64("time")
        let lacking = try list("lacking", limit: 1 << 20, elementBytes: 28) {
            (reader) throws(ByteError) in
            WorkerStanding.Lack(
                keeper: Int(try reader.uint32("keeper")), rows: try reader.rows(),
                age: try reader.optional("age"))
        }
        let sending = try list("sending", limit: 1 << 20, elementBytes: 40) {
            (reader) throws(ByteError) in
            WorkerStanding.Sending(
                keeper: Int(try reader.uint32("keeper")), table: Int(try reader.uint32("table")),
                rows: try reader.rows(), tick: try reader.uint64("tick"),
                nanoseconds: try reader.uint64("time"))
        }
        return WorkerStanding(
            tick: tick, activity: activity, table: table, neededAge: needed,
            nanoseconds: nanoseconds, lacking: lacking, sending: sending)
    }

    fileprivate mutating func keeper() throws(ByteError) -> KeeperStanding {
        let keeper = Int(try uint32("keeper"))
        let tables = try list("tables of a keeper", limit: 1 << 20, elementBytes: 44) {
            (reader) throws(ByteError) in try reader.oldest()
        }
        return KeeperStanding(keeper: keeper, tables: tables)
    }

    private mutating func oldest() throws(ByteError) -> KeeperStanding.Oldest {
        let table = Int(try uint32("table"))
        let rows = try rows()
        let age = try optional("age")
        let missingCount = Int(try uint32("missing"))
        let missing = try list(
            "missing", limit: KeeperStanding.missingMaximum, elementBytes: 12
        ) { (reader) throws(ByteError) in
            KeeperStanding.Missing(
                worker: Int(try reader.uint32("worker")), tick: try reader.uint64("tick"))
        }
        return KeeperStanding.Oldest(
            table: table, rows: rows, age: age, missing: missing, missingCount: missingCount,
            nanoseconds: try optional("time"))
    }
}
