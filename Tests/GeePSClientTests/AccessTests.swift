import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSServer
import Testing

@Suite struct AccessTests {
    static let layout = TableLayout(name: "t", rowCount: 24, rowWidth: 4)

    @Test(
        arguments: [
            [5, 0, 23, 7],  // permuted
            [0, 3, 6, 9, 12, 15, 18, 21],  // strided
            [4, 4, 4, 9],  // repeated
            [11],
        ], ClusterMemory.allCases)
    func anyListOfRowsIsReadAndUpdatedByIndex(rows: [Int], memory: ClusterMemory) throws {
        let cluster = try TestCluster(
            memory: memory, tables: [Self.layout], keepers: 2, blockBytes: 64)
        defer { cluster.close() }
        try cluster.initialise(0) { Float($0) }
        let client = cluster.clients[0]
        let batch = try client.batch(of: 0, rows: rows)
        do {
            let buffer = try client.read(batch)
            for (position, row) in rows.enumerated() {
                for lane in 0..<4 {
                    #expect(buffer.values[position * 4 + lane] == Float(row * 4 + lane))
                }
            }
        }
        try client.add(100, to: batch)
        client.clock()
        let after = try client.values(of: 0)
        for row in 0..<24 {
            let times = rows.count { $0 == row }
            #expect(after[row * 4] == Float(row * 4) + 100 * Float(times))
        }
    }

    @Test func aRunOfRowsIsLentInPlaceUnderBSPAndCopiedOtherwise() throws {
        for staleness in [Staleness.clocks(0), .clocks(1)] {
            let cluster = try TestCluster(tables: [Self.layout], staleness: staleness)
            defer { cluster.close() }
            try cluster.initialise(0) { Float($0) }
            let client = cluster.clients[0]
            let buffer = try client.read(client.batch(of: 0, rows: 3..<5))
            #expect(buffer.values[0] == 12)
            #expect(client.counters.access.readsInPlace == (staleness == .clocks(0) ? 1 : 0))
            #expect(client.counters.access.readsCopied == (staleness == .clocks(0) ? 0 : 1))
        }
    }

    /// Under staleness fresh rows may come at any time; a strict read of them must be a copy too.
    @Test(arguments: ClusterMemory.allCases)
    func aStrictReadInAStaleJobIsACopy(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout], staleness: .unbounded)
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 3 }
        let client = cluster.clients[0]
        let batch = client.batch(of: 0)
        let rows = try client.read(batch, staleness: .bulkSynchronous)
        try client.add(1, to: batch)
        client.clock()
        #expect(try client.values(of: 0, staleness: .bulkSynchronous)[0] == 4)
        #expect(rows.values[0] == 3)
        #expect(client.counters.access.readsInPlace == 0)
    }

    @Test(arguments: ClusterMemory.allCases)
    func severalUpdatesOfOneClockTravelAsOne(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout])
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 0 }
        let client = cluster.clients[0]
        let whole = client.batch(of: 0)
        let part = client.batch(of: 0, rows: 4..<8)
        _ = try client.read(whole, isPlanned: false)
        var sent: [UInt64] = []
        for updates in [1, 5] {
            try client.dryRun { recorder in
                recorder.read(whole)
                recorder.endRead(whole)
                for _ in 0..<updates {
                    recorder.update(part)
                    recorder.endUpdate(part)
                }
                recorder.clock()
            }
            let before = client.counters.bytesSent
            _ = try client.read(whole)
            for _ in 0..<updates { try client.add(1, to: part) }
            client.clock()
            _ = try client.read(whole, isPlanned: false)
            sent.append(client.counters.bytesSent - before)
        }
        #expect(sent[0] == sent[1])
        #expect(try client.values(of: 0)[4 * 4] == 6)
        #expect(try client.values(of: 0)[0] == 0)
    }

    /// The commit of the last layer's table is on its way, and back, before the first layer's update exists.
    @Test(arguments: ClusterMemory.allCases)
    func aTableIsCommittedAtItsLastUpdateAndNotAtTheClock(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout, Self.layout])
        defer { cluster.close() }
        for table in 0..<2 { try cluster.initialise(table) { _ in 0 } }
        let client = cluster.clients[0]
        let batches = [client.batch(of: 0), client.batch(of: 1)]
        try client.dryRun { recorder in
            for table in [1, 0] {
                recorder.update(batches[table])
                recorder.endUpdate(batches[table])
            }
            recorder.clock()
        }
        try client.add(1, to: batches[1])
        #expect(eventually { client.age(of: 1) == Tick(1) })
        #expect(client.age(of: 0) == .zero)
        #expect(client.tick == .zero)
        try client.add(1, to: batches[0])
        client.clock()
        #expect(try client.values(of: 0)[0] == 1)
        #expect(client.counters.access.planDeviations == 0)
    }

    /// Rows lent in place must not change: the table is committed only when they have come back.
    @Test(arguments: ClusterMemory.allCases)
    func rowsLentInPlaceHoldTheCommitBack(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout])
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 3 }
        let client = cluster.clients[0]
        let batch = client.batch(of: 0)
        do {
            let rows = try client.read(batch)
            try client.add(1, to: batch)
            client.clock()
            sleepBriefly(50)
            #expect(rows.values[0] == 3)
        }
        #expect(try client.values(of: 0)[0] == 4)
    }

    @Test(arguments: ClusterMemory.allCases)
    func deviatingFromThePlanIsServedCountedAndBecomesTheNextPlan(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout, Self.layout])
        defer { cluster.close() }
        for table in 0..<2 { try cluster.initialise(table) { _ in 0 } }
        let client = cluster.clients[0]
        let list = try client.batch(of: 0, rows: [2, 1])
        let whole = client.batch(of: 0)
        let other = client.batch(of: 1)
        try client.dryRun { recorder in
            recorder.read(list)
            recorder.endRead(list)
            recorder.update(whole)
            recorder.endUpdate(whole)
            recorder.clock()
        }
        func planned() throws {
            _ = try client.read(list)
            try client.add(1, to: whole)
            client.clock()
        }
        func deviating() throws {
            _ = try client.read(other)
            try client.add(10, to: other)
            _ = try client.read(list)
            try client.add(1, to: whole)
            try client.add(1, to: whole)  // after the planned last update: belongs to the next tick
            client.clock()
        }
        try planned()
        try planned()
        #expect(client.counters.access.planDeviations == 0)
        try deviating()
        #expect(client.counters.access.planDeviations > 0)
        #expect(client.counters.access.replans == 1)
        let afterFirst = client.counters.access.planDeviations
        try deviating()
        #expect(client.counters.access.planDeviations == afterFirst)
        try planned()
        #expect(client.counters.access.replans == 2)
        try planned()
        // 2 planned + 2 deviating with two updates + 2 planned, nothing lost; table 1 twice.
        #expect(try client.values(of: 0)[0] == 8)
        #expect(try client.values(of: 1)[0] == 20)
    }

    @Test(arguments: ClusterMemory.allCases)
    func copiesAreMadeAheadAndNothingIsAllocatedAfterTheFirstIterations(memory: ClusterMemory)
        throws
    {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout])
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 0 }
        let client = cluster.clients[0]
        let list = try client.batch(of: 0, rows: [9, 2, 2])
        try client.dryRun { recorder in
            recorder.read(list)
            recorder.endRead(list)
            recorder.update(list)
            recorder.endUpdate(list)
            recorder.clock()
        }
        func iterate(_ count: Int) throws {
            for _ in 0..<count {
                _ = try client.read(list)
                try client.add(1, to: list)
                client.clock()
            }
        }
        try iterate(5)
        let allocations = client.device.allocationCount
        try iterate(50)
        #expect(client.device.allocationCount == allocations)
        #expect(client.counters.access.readsOnDemand == 0)
        #expect(try client.values(of: 0)[9 * 4] == 55)
        #expect(try client.values(of: 0)[2 * 4] == 110)
    }

    /// The original copies eagerly and lends the stalest admissible rows (j-21).
    ///
    /// So does a client that is told to.
    @Test(arguments: ClusterMemory.allCases, [true, false])
    func aPreparedReadIsRefreshedBeforeItIsLent(memory: ClusterMemory, refreshes: Bool) throws {
        let cluster = try TestCluster(
            memory: memory, tables: [Self.layout], workers: 2, staleness: .clocks(3),
            refreshesReads: refreshes)
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 0 }
        let (fast, slow) = (cluster.clients[0], cluster.clients[1])
        let batch = fast.batch(of: 0)
        try fast.dryRun { recorder in
            recorder.read(batch)
            recorder.endRead(batch)
            recorder.update(batch)
            recorder.endUpdate(batch)
            recorder.clock()
        }
        _ = try fast.read(batch)
        try fast.add(1, to: batch)
        fast.clock()
        sleepBriefly(30)  // the allocator has prepared the next read, at age 0
        _ = try slow.read(slow.batch(of: 0))
        try slow.add(1, to: slow.batch(of: 0))
        slow.clock()
        #expect(eventually { fast.age(of: 0) == Tick(1) })
        let buffer = try fast.read(batch)
        #expect(buffer.age == Tick(refreshes ? 1 : 0))
        #expect(buffer.values[0] == (refreshes ? 2 : 0))
        #expect((fast.counters.access.refreshes >= 1) == refreshes)
    }

    @Test(arguments: ClusterMemory.allCases)
    func stalenessCanBeChangedBetweenReads(memory: ClusterMemory) throws {
        let cluster = try TestCluster(
            memory: memory, tables: [Self.layout], workers: 2, staleness: .clocks(2))
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 0 }
        let client = cluster.clients[0]
        let batch = client.batch(of: 0)
        try client.add(1, to: batch)
        client.clock()
        #expect(try client.read(batch).age == .zero)  // two clocks may be missing
        client.staleness = .bulkSynchronous
        let waiting = DedicatedThread(name: "reader") {
            #expect((try? client.read(batch).age) == Tick(1))
        }
        sleepBriefly(30)
        cluster.clients[1].clock()
        waiting.join()
    }

    @Test(arguments: ClusterMemory.allCases)
    func anUpdateBufferThatIsDroppedCountsAsNone(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout])
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 1 }
        let client = cluster.clients[0]
        let batch = client.batch(of: 0)
        for _ in 0..<2 {  // the second time straight in the log
            do {
                let update = try client.update(batch)
                for index in 0..<update.count { update.values[index] = 77 }
            }
            client.clock()
        }
        #expect(try client.values(of: 0)[0] == 1)
        #expect(client.counters.access.updatesDiscarded == 2)
    }

    @Test(arguments: ClusterMemory.allCases)
    func aWaitThatExpiresNamesTableRowsAgeAndPeer(memory: ClusterMemory) throws {
        let cluster = try TestCluster(
            memory: memory,
            tables: [TableLayout(name: "conv1", rowCount: 8, rowWidth: 4)], workers: 2,
            waitTimeout: .milliseconds(50))
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 0 }
        let client = cluster.clients[0]
        _ = try client.read(client.batch(of: 0), isPlanned: false)
        client.clock()
        let error = #expect(throws: AccessError.self) { try client.values(of: 0) }
        #expect(error?.code == .deadline)
        let message = error?.message ?? ""
        for part in ["conv1", "rows 0..<8", "age 1", "keeper 0", "have age 0"] {
            #expect(message.contains(part), "\(message)")
        }
    }

    @Test(arguments: ClusterMemory.allCases)
    func failingTheClientWakesEveryWait(memory: ClusterMemory) throws {
        let cluster = try TestCluster(memory: memory, tables: [Self.layout], workers: 2)
        defer { cluster.close() }
        let client = cluster.clients[0]
        let reader = DedicatedThread(name: "reader") {
            let error = #expect(throws: AccessError.self) { try client.values(of: 0) }
            #expect(error?.message == "rank 1 is gone")
        }
        sleepBriefly(20)
        client.fail(AccessError(.peerLost, "rank 1 is gone"))
        reader.join()
    }

    @Test func localDataKeepsItsContentAndItsPlace() throws {
        let cluster = try TestCluster(tables: [Self.layout])
        defer { cluster.close() }
        let client = cluster.clients[0]
        let batch = try client.localBatch(name: "activations", byteCount: 4096)
        // A lane says at its start where it stands.
        #expect(eventually { client.counters.bytesSent > 0 })
        let sent = client.counters.bytesSent
        var address: UnsafeMutableRawPointer?
        for round in 0..<3 {
            let buffer = try client.local(batch, fetch: round > 0)
            if round > 0 { #expect(buffer.floats[1000] == Float(round)) }
            #expect(address == nil || address == buffer.address)
            address = buffer.address
            buffer.floats[1000] = Float(round + 1)
            buffer.release(keep: true)
        }
        #expect(client.counters.bytesSent == sent)
    }
}
