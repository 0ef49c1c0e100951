import GeePSClient
import GeePSCore
import GeePSMemory
import GeePSServer
import Synchronization
import Testing

/// Updates that leave while rows of their table are lent.
@Suite struct SendAheadTests {
    private static let tables = [
        TableLayout(name: "first", rowCount: 24, rowWidth: 4),
        TableLayout(name: "last", rowCount: 8, rowWidth: 4),
    ]

    @Test(arguments: ClusterMemory.allCases)
    func keepersStepWhileWhatIsLentStaysAsItIs(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: Self.tables, keepers: 2)
        defer { cluster.close() }
        for table in 0..<2 { try cluster.initialise(table) { _ in 1 } }
        let client = cluster.clients[0]
        let batches = (0..<2).map { client.batch(of: $0) }
        for step in 0..<6 {
            let first = try client.read(batches[0])
            let last = try client.read(batches[1])
            for table in [1, 0] {
                try client.add(1, to: batches[table])
                client.sendAhead(table)
            }
            // The first iteration is not planned yet: more updates might come.
            if step > 0 { expectStep(step + 1, of: cluster) }
            #expect(first.values[0] == Float(1 + step))
            #expect(last.values[31] == Float(1 + step))
            first.drop()
            last.drop()
            client.clock()
        }
        #expect(try client.values(of: 0) == Array(repeating: 7, count: 96))
    }

    @Test func workersThatSendAheadAgreeWithThoseThatDoNot() throws {
        let cluster = try TestCluster(tables: Self.tables, workers: 3, keepers: 2)
        defer { cluster.close() }
        for table in 0..<2 { try cluster.initialise(table) { _ in 0 } }
        try cluster.onEveryWorker { client, rank in
            let batches = (0..<2).map { client.batch(of: $0) }
            for step in 0..<50 {
                let first = try client.read(batches[0])
                let last = try client.read(batches[1])
                #expect(first.values[0] == Float(6 * step))
                for table in [1, 0] {
                    try client.add(Float(rank + 1), to: batches[table])
                    if rank > 0 { client.sendAhead(table) }
                }
                #expect(first.values[95] == Float(6 * step))
                first.drop()
                last.drop()
                client.clock()
            }
        }
        #expect(try cluster.clients[2].values(of: 1) == Array(repeating: 300, count: 32))
    }

    @Test func rowsThatAreHeldOverTheClockAreNamed() throws {
        let cluster = try TestCluster(tables: Self.tables)
        defer { cluster.close() }
        for table in 0..<2 { try cluster.initialise(table) { _ in 0 } }
        let client = cluster.clients[0]
        let batch = client.batch(of: 0)
        let rows = try sendAhead(batch, of: client)
        client.clock()
        let error = #expect(throws: AccessError.self) { try client.add(1, to: batch) }
        #expect(error?.message.contains("table first") == true, "\(String(describing: error))")
        rows.drop()
    }

    @Test func aClientThatClosesWhileRowsAreHeldDoesNotWaitForThem() throws {
        let cluster = try TestCluster(tables: Self.tables)
        for table in 0..<2 { try cluster.initialise(table) { _ in 0 } }
        let client = cluster.clients[0]
        let batch = client.batch(of: 0)
        let rows = try sendAhead(batch, of: client)
        cluster.close()
        rows.drop()
    }

    /// Follows a plan, and sends its update ahead while what is returned is lent.
    private func sendAhead(_ batch: RowBatch, of client: Client) throws -> ReadBuffer {
        for _ in 0..<2 {
            let rows = try client.read(batch)
            try client.add(1, to: batch)
            rows.drop()
            client.clock()
        }
        let rows = try client.read(batch)
        try client.add(1, to: batch)
        client.sendAhead(batch.table)
        return rows
    }

    /// Waits until the keepers have applied tick `tick` of the first table.
    private func expectStep(_ tick: Int, of cluster: TestCluster) {
        let deadline = Deadline.after(.seconds(20))
        let seen = Mutex<Float>(0)
        while !deadline.hasPassed {
            cluster.server.withRows(ofKeeper: 0) { store in
                seen.withLock { $0 = store.values(0)[0] }
            }
            if seen.withLock({ $0 }) == Float(1 + tick) { return }
        }
        Issue.record("keeper 0 has \(seen.withLock { $0 }) after tick \(tick)")
    }
}

extension ReadBuffer {
    /// Gives the rows back.
    consuming func drop() {}
}
