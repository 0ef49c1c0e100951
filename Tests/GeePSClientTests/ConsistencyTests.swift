import GeePSClient
import GeePSCore
import GeePSMemory
import GeePSServer
import Synchronization
import Testing

@Suite struct ConsistencyTests {
    static let sizes = [
        (workers: 1, keepers: 1, threads: 1), (2, 1, 3), (1, 2, 2), (3, 2, 1), (2, 3, 2),
    ]

    @Test(arguments: sizes)
    func initialValuesReachEveryWorkerBitForBit(workers: Int, keepers: Int, threads: Int) throws {
        let cluster = try TestCluster(
            tables: [TableLayout(name: "t", rowCount: 301, rowWidth: 7)], workers: workers,
            keepers: keepers, keeperThreads: threads)
        defer { cluster.close() }
        let value: @Sendable (Int) -> Float = {
            Float(bitPattern: UInt32(truncatingIfNeeded: $0 &* 2_654_435_761) & 0x7F7F_FFFF)
        }
        try cluster.initialise(0, value)
        try cluster.onEveryWorker { client, _ in
            let found = try client.values(of: 0)
            #expect(found.count == 301 * 7)
            for index in found.indices {
                #expect(found[index].bitPattern == value(index).bitPattern)
            }
        }
    }

    @Test(arguments: sizes)
    func afterAClockEveryWorkerReadsTheExactSum(workers: Int, keepers: Int, threads: Int) throws {
        let cluster = try TestCluster(
            tables: [
                TableLayout(name: "a", rowCount: 50, rowWidth: 16),
                TableLayout(name: "b", rowCount: 3, rowWidth: 128),
            ], workers: workers, keepers: keepers, keeperThreads: threads, blockBytes: 512)
        defer { cluster.close() }
        try cluster.initialise(0) { Float($0) }
        try cluster.initialise(1) { Float(-$0) }
        let perClock = Float(workers * (workers + 1) / 2)
        try cluster.onEveryWorker { client, rank in
            let batches = [client.batch(of: 0), client.batch(of: 1)]
            for clock in 1...5 {
                for table in [1, 0] {
                    let rows = try client.read(batches[table])
                    // BSP: all clocks before this one, none of this one.
                    #expect(
                        rows.values[3] == Float(table == 0 ? 3 : -3) + Float(clock - 1) * perClock)
                    try client.add(Float(rank + 1), to: batches[table])
                }
                client.clock()
            }
            let last = try client.values(of: 0)
            for index in last.indices { #expect(last[index] == Float(index) + 5 * perClock) }
        }
    }

    @Test(arguments: [UInt64(0), 1, 3], ClusterMemory.allCases)
    func aPausedWorkerStopsTheOthersExactlyAsManyClocksLaterAsTheStaleness(
        staleness: UInt64, memory: ClusterMemory
    ) throws {
        let cluster = try TestCluster(
            memory: memory, tables: [TableLayout(name: "t", rowCount: 8, rowWidth: 4)], workers: 2,
            staleness: .clocks(staleness))
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 0 }
        let fast = Atomic<UInt64>(0)
        let released = Signal()
        let isReleased = Mutex(false)
        let target = staleness + 4
        let runner = DedicatedThread(name: "watch") {
            // The slow worker completed no clock, so the fast one may complete clocks 1...staleness and then
            // has to wait in the read of the next but one.
            #expect(eventually { fast.load(ordering: .relaxed) == staleness + 1 })
            sleepBriefly(100)
            #expect(fast.load(ordering: .relaxed) == staleness + 1)
            isReleased.withLock { $0 = true }
            released.withLock { released.wakeAll() }
        }
        try cluster.onEveryWorker { client, rank in
            let batch = client.batch(of: 0)
            if rank == 1 {
                released.lock()
                while !isReleased.withLock({ $0 }) { _ = released.wait() }
                released.unlock()
            }
            for _ in 0..<target {
                _ = try client.read(batch)
                try client.add(1, to: batch)
                client.clock()
                if rank == 0 { fast.wrappingAdd(1, ordering: .relaxed) }
            }
            #expect(try client.values(of: 0, staleness: .bulkSynchronous)[0] == Float(2 * target))
        }
        runner.join()
    }

    @Test(arguments: ClusterMemory.allCases)
    func asynchronousReadsNeverWaitForAStraggler(memory: ClusterMemory) throws {
        let cluster = try TestCluster(
            memory: memory,
            tables: [TableLayout(name: "t", rowCount: 8, rowWidth: 4)], workers: 2,
            staleness: .unbounded)
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 5 }
        // Worker 1 never does anything; worker 0 runs a hundred clocks and sees its own updates come back.
        let client = cluster.clients[0]
        let batch = client.batch(of: 0)
        for _ in 0..<100 {
            _ = try client.read(batch)
            try client.add(1, to: batch)
            client.clock()
        }
        #expect(eventually { (try? client.values(of: 0)[0]) == 105 })
        #expect(try client.read(batch, isPlanned: false).age == .zero)
    }

    @Test(arguments: ClusterMemory.allCases)
    func asynchronousTrainingLosesNoUpdate(memory: ClusterMemory) throws {
        let cluster = try TestCluster(
            memory: memory,
            tables: [TableLayout(name: "t", rowCount: 64, rowWidth: 8)], workers: 3, keepers: 2,
            staleness: .unbounded, blockBytes: 256)
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 0 }
        try cluster.onEveryWorker { client, rank in
            let batch = client.batch(of: 0)
            for _ in 0..<50 {
                _ = try client.read(batch)
                try client.add(Float(rank + 1), to: batch)
                client.clock()
            }
            let last = try client.values(of: 0, staleness: .bulkSynchronous)
            for value in last { #expect(value == 50 * 6) }
        }
    }

    @Test(arguments: ClusterMemory.allCases)
    func noReadSeesZerosBeforeTheInitialValues(memory: ClusterMemory) throws {
        let cluster = try TestCluster(
            memory: memory,
            tables: [TableLayout(name: "t", rowCount: 8, rowWidth: 4)], staleness: .unbounded)
        defer { cluster.close() }
        let client = cluster.clients[0]
        let reader = DedicatedThread(name: "reader") {
            #expect((try? client.values(of: 0)) == Array(repeating: 9, count: 32))
        }
        sleepBriefly(20)
        try cluster.initialise(0) { _ in 9 }
        reader.join()
    }

    @Test(arguments: ClusterMemory.allCases)
    func aWorkerWithoutAnUpdateStillLetsTheClockAdvance(memory: ClusterMemory) throws {
        let cluster = try TestCluster(
            memory: memory,
            tables: [TableLayout(name: "t", rowCount: 1000, rowWidth: 8)], workers: 2)
        defer { cluster.close() }
        try cluster.initialise(0) { _ in 1 }
        try cluster.onEveryWorker { client, rank in
            let batch = client.batch(of: 0)
            let before = client.counters.bytesSent
            for _ in 0..<3 {
                _ = try client.read(batch)
                if rank == 0 { try client.add(2, to: batch) }
                client.clock()
            }
            #expect(try client.values(of: 0)[0] == 7)
            if rank == 1 {
                // Empty commits only: frame heads, no rows. A clock's wait is told in one more.
                let frames = UInt64(cluster.map.blocks.count) + 1
                #expect(client.counters.bytesSent - before <= 3 * frames * 64)
            }
        }
    }

    /// Three workers, mixed magnitudes, random pauses: rank order makes every run the same bits.
    @Test(arguments: ClusterMemory.allCases)
    func anyArrivalOrderAndAnyNumberOfKeepersGiveTheSameBits(memory: ClusterMemory) throws {
        var results: Set<[UInt32]> = []
        for run in 0..<20 {
            let cluster = try TestCluster(
                memory: memory,
                tables: [TableLayout(name: "t", rowCount: 40, rowWidth: 8)], workers: 3,
                keepers: 1 + run % 3, keeperThreads: 1 + run % 2, blockBytes: 320)
            defer { cluster.close() }
            try cluster.initialise(0) { Float($0) * 0.001 }
            let final = Mutex<[UInt32]>([])
            try cluster.onEveryWorker { client, rank in
                let batch = client.batch(of: 0)
                for clock in 0..<10 {
                    let rows = try client.read(batch)
                    let update = try client.update(batch)
                    for index in 0..<update.count {
                        let scale: [Float] = [1e-6, 1, 3e5]
                        update.values[index] =
                            (rows.values[index] + Float(index % 17) - 8) * scale[(rank + clock) % 3]
                            * 1e-4
                    }
                    if (run + rank + clock) % 4 == 0 { sleepBriefly(1) }
                    update.finish()
                    client.clock()
                }
                let bits = try client.values(of: 0).map(\.bitPattern)
                if rank == 0 { final.withLock { $0 = bits } }
            }
            results.insert(final.withLock { $0 })
        }
        #expect(results.count == 1)
    }
}
