import GeePSClient
import GeePSCore
import GeePSDevice
import GeePSMemory
import GeePSServer
import GeePSTransport
import Glibc
import Synchronization

/// How the clients of a test keep their device memory.
enum ClusterMemory: CaseIterable {
    /// Everything stays on the device.
    case direct
    /// Where placements have it.
    case managed
}

/// Real clients and real keepers in one process, joined by in-process connections.
final class TestCluster: Sendable {
    let clients: [Client]
    let server: Server
    let map: ShardMap

    /// - Parameters:
    ///   - budgets: device memory by worker, where it is managed; nil for no limit.
    ///   - isInPlace: the only worker uses the rows where the only keeper has them.
    ///   - link: what a worker's end of a lane is put into.
    ///   - device: of every worker; nil gives each one of its own, within its budget, whose streams dawdle.
    init(
        memory: ClusterMemory = .direct, budgets: [Int?] = [], device: HostDevice? = nil,
        tables: [TableLayout], workers: Int = 1, keepers: Int = 1, keeperThreads: Int = 1,
        staleness: Staleness = .bulkSynchronous,
        optimizer: OptimizerConfiguration = OptimizerConfiguration(
            rule: .add, learningRate: 0, reduction: .sum),
        blockBytes: Int = 4096, waitTimeout: Duration = .seconds(30), refreshesReads: Bool = true,
        isInPlace: Bool = false,
        link: (_ rank: Int, any Connection) -> any Connection = { $1 }
    ) throws {
        map = ShardMap(tables: tables, keeperCount: keepers, blockBytes: blockBytes)
        var serving = ServerConfiguration(
            map: map, workerCount: workers, staleness: staleness, optimizer: optimizer,
            keeperThreads: keeperThreads)
        serving.isInPlace = isInPlace
        let server = try Server(
            configuration: serving,
            keepers: Array(0..<keepers), onFailure: { _, _ in })
        self.server = server
        var clients: [Client] = []
        for rank in 0..<workers {
            var connections: [[any Connection]] = []
            for keeper in 0..<keepers where !isInPlace {
                connections.append(
                    try (0..<keeperThreads).map { lane in
                        let (near, far) = InProcess.pair(
                            names: ("rank \(rank)", "keeper \(keeper)"))
                        try server.serve(
                            far, worker: rank, keeper: keeper, lane: lane, laneCount: keeperThreads)
                        return link(rank, near)
                    })
            }
            let budget = rank < budgets.count ? budgets[rank] : nil
            let own = HostDevice(
                limitBytes: budget,
                jitter: budgets.isEmpty
                    ? nil : Jitter(seed: UInt64(rank), delayMicrosecondsMaximum: 100))
            var configuration = ClientConfiguration(
                map: map, rank: rank, staleness: staleness, waitTimeout: waitTimeout,
                memory: memory == .managed ? MemoryConfiguration(budgetBytes: budget) : nil,
                learningRate: { optimizer.learningRate(at: $1) })
            configuration.refreshesReads = refreshesReads
            configuration.keeperInPlace = server.keeperInPlace
            clients.append(
                try Client(
                    configuration: configuration, device: device ?? own, connections: connections))
        }
        self.clients = clients
    }

    /// Rank 0 gives `table` its values.
    func initialise(_ table: TableIndex, _ value: (Int) -> Float) throws {
        let values = (0..<map.tables[table].valueCount).map(value)
        try values.withUnsafeBufferPointer { try clients[0].initialise(table, values: $0) }
    }

    /// Runs `body` for every worker on a thread of its own and waits for all; rethrows the first failure.
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

    /// Ends all threads of the cluster; a test that forgets this leaks them.
    func close() {
        let threads = clients.map { client in
            DedicatedThread(name: "closing") { client.close() }
        }
        for thread in threads { thread.join() }
        server.close()
    }
}

final class FailureBox: Sendable {
    private let first = Mutex<(any Error)?>(nil)
    var value: (any Error)? { first.withLock { $0 } }
    func set(_ error: any Error) { first.withLock { if $0 == nil { $0 = error } } }
}

extension Client {
    /// A copy of the whole table as it is lent now.
    func values(of table: TableIndex, staleness: Staleness? = nil) throws -> [Float] {
        let buffer = try read(batch(of: table), staleness: staleness, isPlanned: false)
        return Array(UnsafeBufferPointer(start: buffer.values, count: buffer.count))
    }

    /// Adds the same number to every value of the batch.
    func add(_ value: Float, to batch: RowBatch) throws {
        let buffer = try update(batch)
        for index in 0..<buffer.count { buffer.values[index] = value }
        buffer.finish()
    }

    /// The age of a table, or nil while it has no values, without waiting.
    func age(of table: TableIndex) -> Tick? {
        guard let buffer = try? read(batch(of: table), staleness: .unbounded, isPlanned: false)
        else { return nil }
        return buffer.age
    }
}

/// Looks at `condition` until it holds; false when it never did within a generous bound.
func eventually(_ condition: () -> Bool) -> Bool {
    let deadline = Deadline.after(.seconds(20))
    while !deadline.hasPassed {
        if condition() { return true }
        sleepBriefly()
    }
    return condition()
}

func sleepBriefly(_ milliseconds: UInt32 = 2) { usleep(milliseconds * 1000) }
