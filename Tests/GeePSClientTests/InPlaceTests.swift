import GeePSClient
import GeePSCore
import GeePSMemory
import GeePSServer
import Synchronization
import Testing

/// The only worker's rows where the only keeper has them.
@Suite struct InPlaceTests {
    // Two blocks and part of a third, and one.
    private static let tables = [
        TableLayout(name: "first", rowCount: 20, rowWidth: 128),
        TableLayout(name: "last", rowCount: 1, rowWidth: 4),
    ]
    private static let counts = tables.map(\.valueCount)
    private static let momentum = OptimizerConfiguration(
        rule: .sgd(momentum: 0.9, dampening: 0, nesterov: false), learningRate: 0.125)

    private static func cluster(isInPlace: Bool = true, threads: Int = 1) throws -> TestCluster {
        let cluster = try TestCluster(
            tables: tables, keeperThreads: threads, optimizer: momentum, isInPlace: isInPlace)
        for table in 0..<2 { try cluster.initialise(table) { Float($0 % 7) } }
        return cluster
    }

    /// A gradient that differs from step to step and from place to place.
    private static func gradient(_ table: TableIndex, step: Int) -> [Float] {
        (0..<counts[table]).map { Float(($0 * 31 + step * 17 + table) % 101) / 64 - 0.75 }
    }

    @Test(arguments: [1, 3]) func stepsHaveTheBitsOfLanes(threads: Int) throws {
        let results = try [true, false].map { isInPlace in
            let cluster = try Self.cluster(isInPlace: isInPlace, threads: threads)
            defer { cluster.close() }
            let client = cluster.clients[0]
            let batches = (0..<2).map { client.batch(of: $0) }
            for step in 0..<5 { try iterate(client, batches, step: step) }
            return try (0..<2).map { try client.values(of: $0) }
        }
        #expect(results[0] == results[1])
        #expect(results[0][0] != (0..<Self.counts[0]).map { Float($0 % 7) })
    }

    @Test func rowsAreTheKeepersOwn() throws {
        let cluster = try Self.cluster()
        defer { cluster.close() }
        let client = cluster.clients[0]
        let rows = try client.read(client.batch(of: 0))
        let place = Mutex<UInt>(0)
        cluster.server.withRows(ofKeeper: 0) { store in
            place.withLock { $0 = UInt(bitPattern: store.values(0).baseAddress) }
        }
        #expect(UInt(bitPattern: rows.values) == place.withLock { $0 })
        #expect(client.counters.bytesSent == 0)
        rows.drop()
    }

    @Test func aPlannedUpdateIsTakenFromWhereItLies() throws {
        let cluster = try Self.cluster()
        defer { cluster.close() }
        let client = cluster.clients[0]
        let batches = (0..<2).map { client.batch(of: $0) }
        for step in 0..<4 {
            // The first iteration is not planned yet: more updates might come.
            #expect(try iterate(client, batches, step: step) == (step == 0 ? 2 : 0))
        }
        for batch in batches { try client.read(batch).drop() }
        let stall = client.counters.stallNanoseconds
        #expect(try update(client, batches[0], step: 4, covering: [0..<Self.counts[0]]) == 0)
        // The optimiser's time is no wait.
        #expect(client.counters.stallNanoseconds == stall)
        client.clock()
    }

    @Test func whatNoPieceCoversIsZero() throws {
        let results = try [true, false].map { isInPlace in
            let cluster = try Self.cluster(isInPlace: isInPlace)
            defer { cluster.close() }
            let client = cluster.clients[0]
            let batches = (0..<2).map { client.batch(of: $0) }
            for step in 0..<4 {
                // Momentum goes on where the gradient is zero; pieces end inside blocks and beyond them.
                let pieces = [3..<100, 1000..<2500]
                try iterate(client, batches, step: step, covering: step < 2 ? nil : pieces)
            }
            return try client.values(of: 0)
        }
        #expect(results[0] == results[1])
    }

    @Test func whatIsLentDoesNotChangeUntilItIsGivenBack() throws {
        let cluster = try Self.cluster()
        defer { cluster.close() }
        let client = cluster.clients[0]
        let batches = (0..<2).map { client.batch(of: $0) }
        for step in 0..<4 {
            let rows = try client.read(batches[0])
            let before = Array(UnsafeBufferPointer(start: rows.values, count: rows.count))
            let copies = try update(client, batches[0], step: step, covering: [0..<Self.counts[0]])
            #expect(copies == 1)
            client.sendAhead(0)
            #expect(Array(UnsafeBufferPointer(start: rows.values, count: rows.count)) == before)
            rows.drop()
            client.clock()
            #expect(try client.values(of: 0) != before)
        }
    }

    @Test func aReadThatNobodyGivesValuesForNamesTheKeeper() throws {
        let cluster = try TestCluster(
            tables: Self.tables, optimizer: Self.momentum, waitTimeout: .milliseconds(20),
            isInPlace: true)
        defer { cluster.close() }
        let error = #expect(throws: AccessError.self) { try cluster.clients[0].values(of: 0) }
        #expect(
            error?.message.contains("from this process's keeper: no initial values came") == true)
    }

    @Test func clocksBeforeTheInitialValuesAreCaughtUpWith() throws {
        let cluster = try TestCluster(
            tables: Self.tables, optimizer: Self.momentum, isInPlace: true)
        defer { cluster.close() }
        let client = cluster.clients[0]
        let batch = client.batch(of: 1)
        try client.add(1, to: batch)
        client.clock()
        client.clock()
        for table in 0..<2 { try cluster.initialise(table) { _ in 1 } }
        #expect(try client.values(of: 1) == Array(repeating: 0.875, count: 4))
    }

    @Test(arguments: [Float(2), nil]) func aStepThatIsHeldWaitsForTheSecondPhase(scale: Float?)
        throws
    {
        let cluster = try Self.cluster()
        defer { cluster.close() }
        let client = cluster.clients[0]
        let batches = (0..<2).map { client.batch(of: $0) }
        for step in 0..<2 { try iterate(client, batches, step: step) }
        let before = try client.values(of: 1)
        let squares = Mutex<Double?>(nil)
        cluster.server.holdSteps(ofKeeper: 0) { sum in squares.withLock { $0 = sum } }
        try iterate(client, batches, step: 2)
        let expected = (0..<2).flatMap { Self.gradient($0, step: 2) }
            .reduce(0.0) { $0 + Double($1) * Double($1) }
        #expect(abs((squares.withLock { $0 } ?? 0) - expected) < 1e-6 * expected)
        cluster.server.releaseSteps(ofKeeper: 0, gradientScale: scale)
        #expect((try client.values(of: 1) == before) == (scale == nil))
        // It goes on as before.
        try iterate(client, batches, step: 3)
        #expect(try client.values(of: 1) != before)
    }

    @Test func aClockBehindAHeldStepIsCaughtUpWith() throws {
        let cluster = try Self.cluster()
        defer { cluster.close() }
        let client = cluster.clients[0]
        let batches = (0..<2).map { client.batch(of: $0) }
        for step in 0..<2 { try iterate(client, batches, step: step) }
        cluster.server.holdSteps(ofKeeper: 0) { _ in }
        try iterate(client, batches, step: 2)
        client.clock()
        cluster.server.releaseSteps(ofKeeper: 0, gradientScale: 1)
        let rows = try client.read(batches[1])
        #expect(rows.age == client.tick)
        rows.drop()
    }

    /// Reads and updates both tables, and ends the iteration.
    ///
    /// - Returns: how many updates were copied.
    @discardableResult
    private func iterate(
        _ client: Client, _ batches: [RowBatch], step: Int, covering ranges: [Range<Int>]? = nil
    ) throws -> Int {
        for batch in batches { try client.read(batch).drop() }
        var copies = 0
        for batch in batches {
            let all = [0..<Self.counts[batch.table]]
            copies += try update(
                client, batch, step: step, covering: batch.table == 0 ? ranges ?? all : all)
        }
        client.clock()
        return copies
    }

    /// - Returns: whether it was copied, as a number.
    private func update(
        _ client: Client, _ batch: RowBatch, step: Int, covering ranges: [Range<Int>]
    ) throws -> Int {
        var copies = 0
        try Self.gradient(batch.table, step: step).withUnsafeBufferPointer { gradient in
            guard let start = gradient.baseAddress else { return }
            let pieces = ranges.map { GradientPiece(values: start + $0.lowerBound, range: $0) }
            try client.update(batch, from: pieces) { room in
                copies += 1
                room.update(repeating: 0)
                for range in ranges { for index in range { room[index] = gradient[index] } }
            }
        }
        return copies
    }
}
