import GeePSClient
import GeePSCore
import GeePSDevice
import Glibc
import Testing

@testable import GeePS

@Suite struct StatusTests {
    private static let sample = ProcessStatus(
        rank: 1,
        peers: [ProcessStatus.Peer(host: "a", pid: 7), ProcessStatus.Peer(host: "b", pid: 8)],
        workerCount: 2, ownerOfKeeper: [0, 1, 0], tables: ["conv1", "fc1"],
        worker: WorkerStanding(
            tick: 41, activity: .read, table: 1, neededAge: 41, nanoseconds: 3_200_000_000,
            lacking: [
                WorkerStanding.Lack(keeper: 2, rows: 5..<9, age: 40),
                WorkerStanding.Lack(keeper: 0, rows: 0..<5, age: nil),
            ],
            sending: [
                WorkerStanding.Sending(
                    keeper: 0, table: 0, rows: 0..<4, tick: 41, nanoseconds: 12)
            ]),
        keepers: [
            KeeperStanding(
                keeper: 1,
                tables: [
                    KeeperStanding.Oldest(
                        table: 0, rows: 4..<8, age: 40,
                        missing: [KeeperStanding.Missing(worker: 0, tick: 40)], missingCount: 1,
                        nanoseconds: 5),
                    KeeperStanding.Oldest(
                        table: 1, rows: 0..<1, age: nil, missing: [], missingCount: 0,
                        nanoseconds: nil),
                ])
        ])

    @Test func aStatusSurvivesItsBytes() throws {
        #expect(try ProcessStatus(decoding: Self.sample.encoded()) == Self.sample)
        var keeping = Self.sample
        keeping.worker = nil
        keeping.workerCount = 1
        #expect(try ProcessStatus(decoding: keeping.encoded()) == keeping)
    }

    @Test func noBytesTrap() {
        let bytes = Self.sample.encoded()
        for length in bytes.indices {
            #expect(throws: ByteError.self) { try ProcessStatus(decoding: Array(bytes[..<length])) }
        }
        // Whatever a byte says: a status that holds together, or a reason.
        for index in bytes.indices {
            for value in [0, 1, 0x7F, 0xFF] as [UInt8] {
                var changed = bytes
                changed[index] = value
                guard let status = try? ProcessStatus(decoding: changed) else { continue }
                #expect(status.peers.indices.contains(status.rank))
                for table in status.keepers.flatMap(\.tables) {
                    #expect(status.tables.indices.contains(table.table))
                }
            }
        }
    }

    /// Two nodes whose sockets are in a folder of the test, with initial values.
    private func withNodes(_ body: ([Node], String) throws -> Void) throws {
        var template = Array("/tmp/geeps-status-XXXXXX".utf8CString)
        let made = try #require(mkdtemp(&template))
        let folder = String(cString: made)
        defer { rmdir(folder) }
        let address = try freeAddress()
        let nodes = try joinNodes(2) { rank in
            var configuration = nodeConfiguration(rank, of: 2, at: address, keepers: 2)
            configuration.statusDirectory = folder + "/.status"
            return configuration
        }.map { try $0.get() }
        try initialise(nodes[0])
        try body(nodes, folder + "/.status")
        #expect(leaveAll(nodes) == [true, true])
        // Sockets and their folder are gone with the last one.
        #expect(access(folder + "/.status", F_OK) != 0)
    }

    @Test func whoWaitsSaysForWhatAndItsKeeperForWhom() throws {
        try withNodes { nodes, folder in
            let batches = smallTables.indices.map { nodes[0].client.batch(of: $0) }
            let waiter = DedicatedThread(name: "waiter") {
                for batch in batches {
                    _ = try? nodes[0].client.read(batch)
                    if let update = try? nodes[0].client.update(batch) { update.finish() }
                }
                nodes[0].client.clock()
                _ = try? nodes[0].client.read(batches[0])
            }
            // Until worker 1 pushes, worker 0 waits for clock 1.
            var found: ProcessStatus?
            let deadline = Deadline.after(.seconds(20))
            while found == nil, !deadline.hasPassed {
                let answer = StatusQuery(directory: folder).ask()
                #expect(answer.silent.isEmpty && answer.problems.isEmpty)
                #expect(answer.statuses.map(\.rank) == [0, 1])
                found = answer.statuses.first { status in
                    status.worker?.lacking.isEmpty == false && status.worker?.neededAge == 1
                        && status.keepers.allSatisfy { keeper in
                            keeper.tables.allSatisfy { $0.missing.map(\.worker) == [1] }
                        }
                }
            }
            let status = try #require(found)
            #expect(status.rank == 0 && status.worker?.activity == .read)
            #expect(status.worker?.table == 0 && status.worker?.tick == 1)
            #expect(status.worker?.lacking.allSatisfy { $0.age == 0 } == true)
            #expect(status.keepers.first?.tables.first?.missing.first?.tick == 0)
            #expect(status.peers.map(\.pid) == [UInt32(getpid()), UInt32(getpid())])
            #expect(train(after: nodes[1]))
            waiter.join()
        }
    }

    /// Worker 1's part of the clock.
    private func train(after node: Node) -> Bool {
        for table in smallTables.indices {
            let batch = node.client.batch(of: table)
            guard (try? node.client.read(batch)) != nil,
                let update = try? node.client.update(batch)
            else { return false }
            update.finish()
        }
        node.client.clock()
        return true
    }

    @Test func rankZeroAlsoSaysWhatTheOthersToldIt() throws {
        try withNodes { _, folder in
            // As on another machine: no socket here.
            #expect(unlink(folder + "/1.sock") == 0)
            let answer = StatusQuery(directory: folder).ask()
            #expect(answer.statuses.map(\.rank) == [0, 1])
            #expect(answer.statuses.last?.worker?.activity == .computing)
        }
    }

    @Test func callersThatSayNothingOrNonsenseHarmNobody() throws {
        try withNodes { _, folder in
            let directory = try StatusDirectory(folder)
            let mute = try #require(directory.connect(to: 0))
            let rude = try #require(directory.connect(to: 0))
            StatusMessage.send([99], to: rude, until: .after(.seconds(1)))
            #expect(StatusMessage.receive(1, from: rude, until: .after(.seconds(5))) == [])
            #expect(StatusQuery(directory: folder).ask(patience: .seconds(10)).statuses.count == 2)
            _ = mute
        }
    }

    @Test func onlyTheUserCanConnect() throws {
        try withNodes { _, folder in
            var status = stat()
            #expect(lstat(folder + "/0.sock", &status) == 0 && status.st_mode & 0o777 == 0o600)
            #expect(lstat(folder, &status) == 0 && status.st_mode & 0o777 == 0o700)
        }
    }

    @Test func aSocketWithoutItsProcessIsNobody() throws {
        var template = Array("/tmp/geeps-status-XXXXXX".utf8CString)
        let folder = String(cString: try #require(mkdtemp(&template)))
        _ = try StatusDirectory(folder).listen(rank: 3)
        let answer = StatusQuery(directory: folder).ask()
        #expect(!answer.isAlive && answer.problems.isEmpty)
        #expect(!StatusQuery(directory: folder + "/none").ask().isAlive)
        unlink(folder + "/3.sock")
        rmdir(folder)
    }

    @Test func whereNobodyCanListenTheJobGoesOn() throws {
        let lines = Shared<[String]>([])
        var configuration = NodeConfiguration(
            tables: smallTables,
            optimizer: OptimizerConfiguration(rule: .add, learningRate: 0, reduction: .sum))
        configuration.statusDirectory = "/proc/none/.status"
        configuration.control.log = { line in lines.update { $0.append(line) } }
        let node = try Node.join(configuration, device: HostDevice())
        #expect(node.leave())
        #expect(lines.value.contains { $0.contains("status directory /proc/none/.status") })
    }
}
