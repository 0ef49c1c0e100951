import GeePSCore
import GeePSMemory

/// A cluster of equal workers, as a forecast knows it.
struct ClusterSetting: Hashable, Sendable {
    /// Each with a keeper of its own.
    var workers: Int
    /// Of a worker's network link, each way.
    var networkBytesPerSecond: Double
    /// Between host and device, each way; nil: copies take no time.
    var linkBytesPerSecond: Double?
    /// Clocks that reads may lag; nil: without end.
    var lag: Int? = 0
    /// From one worker's process to another's.
    var latencyNanoseconds = 100_000.0
    /// What keepers sum up and step.
    var keeperBytesPerSecond = 4e9
    /// The application's thread copies by itself, and clocks are raised at the end of an iteration.
    var isForeground = false

    /// As many as a client has of each table: it is ahead of what keepers have by one less at most.
    var updateLogs: Int { lag.map { $0 + 2 } ?? 4 }
}

/// Runs a workload on a cluster in virtual time: compute, copies, network, each in turn.
///
/// All workers do the same at the same time, so one of them tells it all: what it sends, another sends it in that
/// moment. A table goes in pieces: each is copied to the host, sent, summed, sent back and copied in, and pushes
/// share the link evenly with rows.
struct ClusterForecast: Hashable, Sendable {
    /// Of one clock.
    var clockNanoseconds: Double
    /// Of it, what is not compute.
    var stallNanoseconds: Double

    /// Share of a clock in which the device waits.
    var stall: Double { stallNanoseconds / max(1, clockNanoseconds) }

    init(_ workload: Workload, layersPerTable: Int?, _ setting: ClusterSetting) {
        let grouping = TableGrouping(workload.parameters, layersPerTable: layersPerTable)
        var rehearsal = ClusterRehearsal(workload, grouping, setting)
        // The first clocks have nothing to wait for; then the pace repeats.
        let (skipped, measured) = (4 + setting.updateLogs, 6)
        var ends: [Double] = []
        for clock in 0..<(skipped + measured) { ends.append(rehearsal.run(clock)) }
        clockNanoseconds = (ends[skipped + measured - 1] - ends[skipped - 1]) / Double(measured)
        let compute = Double(workload.computeNanoseconds)
        clockNanoseconds = max(clockNanoseconds, compute)
        stallNanoseconds = clockNanoseconds - compute
    }

    /// Groupings worth a try: layers a table; nil is one table of all.
    static func candidates(layers: Int) -> [Int?] {
        ([1, 2, 3, 5, 10, 20, 50].filter { $0 < layers } as [Int?]) + [nil]
    }
}

/// The state of a forecast.
private struct ClusterRehearsal {
    /// A piece of a table on its way through the network.
    private struct Piece {
        var table: Int
        var clock: Int
        var ready: Double
        var bytes: Double
    }

    private let operations: [Workload.Operation]
    private let phases: [Workload.Phase]
    private let places: [(table: TableIndex, rows: Range<Int>)]
    private let tableBytes: [Double]
    private let layerBytes: [Double]
    /// By table: position of the operation that ends its last update.
    private let lastUpdates: [Int]
    private let setting: ClusterSetting
    private var now = 0.0
    private var linkOutFree = 0.0
    private var linkInFree = 0.0
    private var wireFree = 0.0
    private var pushes: [Piece] = []
    private var rows: [Piece] = []
    private var isRowsTurn = false
    /// By table: pieces of a clock still to come; by clock, when all were there.
    private var missing: [[Int: Int]]
    private var arrived: [[Double]]
    private let piecesPerTable = 16

    init(_ workload: Workload, _ grouping: TableGrouping, _ setting: ClusterSetting) {
        operations = workload.operations(hasLocals: false)
        phases = workload.phases
        places = grouping.places
        self.setting = setting
        tableBytes = grouping.tables.map { Double($0.byteCount) }
        layerBytes = grouping.places.map {
            Double($0.rows.count * grouping.tables[$0.table].rowBytes)
        }
        var last = [Int](repeating: -1, count: grouping.tables.count)
        for (position, operation) in operations.enumerated() {
            guard case .access(let access) = operation, access.kind == .endUpdate else { continue }
            last[grouping.places[access.batch].table] = position
        }
        lastUpdates = last
        missing = Array(repeating: [:], count: last.count)
        arrived = Array(repeating: [], count: last.count)
    }

    /// - Returns: when the clock number `clock` has computed.
    mutating func run(_ clock: Int) -> Double {
        for (position, operation) in operations.enumerated() {
            switch operation {
            case .compute(let phase): now += Double(phases[phase].nanoseconds)
            case .access(let access):
                if access.kind == .read { read(access.batch, at: clock) }
                if access.kind == .endUpdate { update(access.batch, position, clock) }
                if access.kind == .clock { end(clock) }
            }
        }
        return now
    }

    private mutating func read(_ batch: Int, at clock: Int) {
        // Without bound nothing is waited for; otherwise all updates of `clock - 1 - lag` must be in.
        if let lag = setting.lag, clock - 1 - lag >= 0 {
            let table = places[batch].table
            // A table without updates is never waited for.
            if lastUpdates[table] >= 0 { waitFor(table, clock: clock - 1 - lag) }
        }
        if setting.isForeground { now += copyTime(layerBytes[batch]) }
    }

    private mutating func update(_ batch: Int, _ position: Int, _ clock: Int) {
        let table = places[batch].table
        // As many update logs as a client has.
        let logs = setting.updateLogs
        if clock >= logs { waitFor(table, clock: clock - logs) }
        if setting.isForeground { now += copyTime(layerBytes[batch]) }
        var copied = now
        if !setting.isForeground {
            linkOutFree = max(linkOutFree, now) + copyTime(layerBytes[batch])
            copied = linkOutFree
        }
        guard !setting.isForeground, lastUpdates[table] == position else { return }
        push(table, clock, at: copied)
    }

    private mutating func end(_ clock: Int) {
        guard setting.isForeground else { return }
        for table in tableBytes.indices where lastUpdates[table] >= 0 {
            push(table, clock, at: now)
        }
    }

    private func copyTime(_ bytes: Double) -> Double {
        setting.linkBytesPerSecond.map { bytes / $0 * 1e9 } ?? 0
    }

    private mutating func push(_ table: Int, _ clock: Int, at time: Double) {
        let workers = Double(setting.workers)
        let outside = tableBytes[table] * (workers - 1) / workers
        missing[table][clock] = piecesPerTable
        for _ in 0..<piecesPerTable {
            pushes.append(
                Piece(
                    table: table, clock: clock, ready: time,
                    bytes: outside / Double(piecesPerTable)))
        }
    }

    /// Lets the network work until the rows of `clock` are there.
    private mutating func waitFor(_ table: Int, clock: Int) {
        while arrived[table].count <= clock, sendNext() {}
        if arrived[table].count > clock { now = max(now, arrived[table][clock]) }
    }

    /// Sends the piece whose turn it is.
    ///
    /// - Returns: whether there was one.
    private mutating func sendNext() -> Bool {
        let push = pushes.first.map { max($0.ready, wireFree) } ?? .infinity
        let row = rows.first.map { max($0.ready, wireFree) } ?? .infinity
        guard min(push, row) < .infinity else { return false }
        let takesRow = row < push || (row == push && isRowsTurn)
        isRowsTurn = !takesRow
        var piece = takesRow ? rows.removeFirst() : pushes.removeFirst()
        let isOutside = setting.workers > 1
        wireFree = min(push, row) + piece.bytes / setting.networkBytesPerSecond * 1e9
        piece.ready = wireFree + (isOutside ? setting.latencyNanoseconds : 0)
        let whole = tableBytes[piece.table] / Double(piecesPerTable)
        if takesRow {
            arrive(piece, bytes: whole)
        } else {
            // A keeper has a share of each piece, from every worker: as many bytes as the piece.
            piece.ready += whole / setting.keeperBytesPerSecond * 1e9
            rows.append(piece)
        }
        return true
    }

    private mutating func arrive(_ piece: Piece, bytes: Double) {
        var time = piece.ready
        if !setting.isForeground {
            linkInFree = max(linkInFree, time) + copyTime(bytes)
            time = linkInFree
        }
        let left = (missing[piece.table][piece.clock] ?? 1) - 1
        missing[piece.table][piece.clock] = left
        guard left == 0 else { return }
        missing[piece.table][piece.clock] = nil
        arrived[piece.table].append(time)
    }
}
