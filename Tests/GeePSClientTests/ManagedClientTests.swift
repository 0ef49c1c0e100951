import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSServer
import GeePSTransport
import Testing

/// Clients whose device memory is managed, with real keepers.
@Suite struct ManagedClientTests {
    private static let tables = (0..<4).map {
        TableLayout(name: "layer\($0)", rowCount: 64, rowWidth: 16)
    }

    /// Three clocks of a small network on every worker; what the tables hold then.
    private func train(
        budgets: [Int?]?, staleness: Staleness = .bulkSynchronous, clocks: Int = 6
    ) throws -> [[Float]] {
        let cluster = try ManagedCluster(
            tables: Self.tables, budgets: budgets ?? [nil, nil], isManaged: budgets != nil,
            staleness: staleness)
        defer { cluster.close() }
        for table in Self.tables.indices {
            let values = (0..<1024).map { Float($0 % 7 + table) }
            try values.withUnsafeBufferPointer {
                try cluster.clients[0].initialise(table, values: $0)
            }
        }
        try cluster.onEveryWorker { client, rank in
            let batches = Self.tables.indices.map { client.batch(of: $0) }
            let locals = try Self.tables.indices.map {
                try client.localBatch(name: "activation\($0)", byteCount: 8192)
            }
            try client.dryRun { recorder in
                for table in Self.tables.indices {
                    recorder.local(locals[table], fetch: false)
                    recorder.read(batches[table])
                    recorder.endRead(batches[table])
                    recorder.endLocal(locals[table], keep: true)
                }
                for table in Self.tables.indices.reversed() {
                    recorder.local(locals[table], fetch: true)
                    recorder.read(batches[table])
                    recorder.update(batches[table])
                    recorder.endUpdate(batches[table])
                    recorder.endRead(batches[table])
                    recorder.endLocal(locals[table], keep: false)
                }
                recorder.clock()
            }
            for _ in 0..<clocks { try Self.iterate(client, rank, batches, locals) }
        }
        // Every update has come back when the last clock's rows have.
        return try Self.tables.indices.map {
            try cluster.clients[0].values(of: $0, staleness: .bulkSynchronous)
        }
    }

    /// Activations say who and where; gradients are what is left of them, and under BSP a share of the rows.
    private static func iterate(
        _ client: Client, _ rank: Int, _ batches: [RowBatch], _ locals: [LocalBatch]
    ) throws {
        for table in tables.indices {
            let activation = try client.local(locals[table], fetch: false)
            let rows = try client.read(batches[table])
            for index in 0..<1024 { activation.floats[index] = Float(rank + index) }
            _ = consume rows
            activation.release(keep: true)
        }
        for table in tables.indices.reversed() {
            let activation = try client.local(locals[table], fetch: true)
            let rows = try client.read(batches[table])
            let update = try client.update(batches[table])
            for index in 0..<1024 {
                let share = client.staleness == .bulkSynchronous ? rows.values[index] / 8 : 0
                update.values[index] = (activation.floats[index] - Float(index)) / 4 + share
            }
            update.finish()
            _ = consume rows
            activation.release(keep: false)
        }
        client.clock()
    }

    @Test func workersWithDifferentBudgetsTrainTheSameBits() throws {
        let expected = try train(budgets: nil)
        // Everything; half; the least that takes a backward step.
        let least = 8192 + 2 * 4096
        #expect(try train(budgets: [nil, nil]) == expected)
        #expect(try train(budgets: [40_000, least]) == expected)
        #expect(try train(budgets: [least, least]) == expected)
    }

    @Test(arguments: [Staleness.clocks(1), .clocks(3), .unbounded])
    func staleJobsLoseNoUpdate(staleness: Staleness) throws {
        // What a worker adds does not depend on how fresh its rows are.
        let values = try train(budgets: [30_000, 16_384], staleness: staleness, clocks: 8)
        for (table, found) in values.enumerated() {
            // Rank r adds r / 4 a clock.
            let expected = (0..<1024).map { Float($0 % 7 + table) + 8 * 0.25 }
            #expect(found == expected)
        }
    }

    @Test func everyAllocationOfAClientMayFail() throws {
        var failures = 0
        for number in 1...30 {
            let device = HostDevice()
            device.failAllocation(number: number)
            do {
                let cluster = try ManagedCluster(
                    tables: Self.tables, budgets: [nil], isManaged: true,
                    staleness: .bulkSynchronous, device: device)
                cluster.close()
            } catch let error as AccessError {
                #expect(error.code == .outOfMemory)
                failures += 1
            }
            #expect(device.bytesInUse.allSatisfy { $0 == 0 })
            #expect(device.pinnedBytesInUse.allSatisfy { $0 == 0 })
            if failures > 0 { break }
        }
        // Host memory falls back to pageable, and a client needs no device memory before it has a plan.
        #expect(failures == 0)
    }
}

/// Real clients with budgets of their own.
private final class ManagedCluster: Sendable {
    let clients: [Client]
    private let server: Server

    init(
        tables: [TableLayout], budgets: [Int?], isManaged: Bool, staleness: Staleness,
        device: HostDevice? = nil
    ) throws {
        let map = ShardMap(tables: tables, keeperCount: 2, blockBytes: 1024)
        server = try Server(
            configuration: ServerConfiguration(
                map: map, workerCount: budgets.count, staleness: staleness,
                optimizer: OptimizerConfiguration(rule: .add, learningRate: 0, reduction: .sum)),
            keepers: [0, 1], onFailure: { _, _ in })
        var clients: [Client] = []
        for (rank, budget) in budgets.enumerated() {
            var connections: [[any Connection]] = []
            for keeper in 0..<2 {
                let (near, far) = InProcess.pair(names: ("rank \(rank)", "keeper \(keeper)"))
                try server.serve(far, worker: rank, keeper: keeper, lane: 0, laneCount: 1)
                connections.append([near])
            }
            clients.append(
                try Client(
                    configuration: ClientConfiguration(
                        map: map, rank: rank, staleness: staleness, waitTimeout: .seconds(30),
                        memory: isManaged ? MemoryConfiguration(budgetBytes: budget) : nil,
                        learningRate: { _ in 0 }),
                    device: device
                        ?? HostDevice(
                            limitBytes: budget,
                            jitter: Jitter(seed: UInt64(rank), delayMicrosecondsMaximum: 100)),
                    connections: connections))
        }
        self.clients = clients
    }

    func onEveryWorker(_ body: @escaping @Sendable (Client, Int) throws -> Void) throws {
        let box = FailureBox()
        let threads = clients.enumerated().map { rank, client in
            DedicatedThread(name: "worker \(rank)") {
                do { try body(client, rank) } catch { box.set(error) }
            }
        }
        for thread in threads { thread.join() }
        if let error = box.value { throw error }
    }

    func close() {
        let threads = clients.map { client in
            DedicatedThread(name: "closing") { client.close() }
        }
        for thread in threads { thread.join() }
        server.close()
    }
}
