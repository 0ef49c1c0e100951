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
        let cluster = try TestCluster(
            memory: budgets == nil ? .direct : .managed, budgets: budgets ?? [],
            tables: Self.tables, workers: 2, keepers: 2, keeperThreads: 2,
            staleness: staleness, blockBytes: 1024)
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
                let cluster = try TestCluster(
                    memory: .managed, device: device, tables: Self.tables)
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
