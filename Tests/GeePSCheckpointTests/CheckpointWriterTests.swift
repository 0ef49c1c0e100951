import Foundation
import GeePSCore
import GeePSServer
import Testing

@testable import GeePSCheckpoint

@Suite struct CheckpointWriterTests {
    @Test(arguments: [(1, 1), (2, 2), (3, 1), (1, 4), (2, 5)])
    func rowsComeBackWhoeverKeepsThem(writers: Int, readers: Int) throws {
        let folder = try TemporaryFolder()
        try TestShard(keepers: writers).write(7, by: CheckpointWriter(directory: folder.path))
        let checkpoint = try Checkpoint(path: CheckpointDirectory.path(folder.path, 7))
        try checkpoint.verify()
        let reader = try ShardReader(checkpoint)
        let shard = TestShard(keepers: readers, blockBytes: 100)
        try reader.check(tables: shard.map.tables, stateNames: ["momentum_buffer"])
        for keeper in 0..<readers {
            let store = try shard.store(keeper)
            try reader.fill(store)
            #expect(shard.matches(store, tick: 7))
        }
    }

    /// Power fails at every system call in turn, with and without the loss of all that is not synced: what is
    /// found afterwards is whole and no older than what was complete before.
    @Test(arguments: [false, true]) func aCrashAtEveryCallLeavesWholeCheckpoints(isHarsh: Bool)
        throws
    {
        let shard = TestShard(keepers: 2)
        var limit = 1
        while true {
            let folder = try TemporaryFolder()
            let directory = folder.path + "/a/b"
            try shard.write(1, by: CheckpointWriter(directory: directory))
            try shard.write(2, by: CheckpointWriter(directory: directory))
            let files = FailingFiles(limit: limit)
            let isDone: Bool
            do {
                try shard.write(3, by: CheckpointWriter(directory: directory, files: files))
                isDone = true
            } catch {
                isDone = false
            }
            if isHarsh { files.loseUnsynced() }
            let ticks = CheckpointDirectory(directory).ticks
            let newest = try #require(ticks.last)
            #expect(isDone ? newest == 3 : newest >= 2, "call \(limit): \(ticks)")
            for tick in ticks {
                let checkpoint = try Checkpoint(path: CheckpointDirectory.path(directory, tick))
                #expect(throws: Never.self, "call \(limit), tick \(tick)") {
                    try checkpoint.verify()
                }
            }
            // The next attempt, of the same step or another, goes through, and leaves nothing but checkpoints.
            let again = CheckpointWriter(directory: directory)
            try again.clean()
            if newest == 2 { try shard.write(3, by: again) }
            try shard.write(4, by: again)
            #expect(CheckpointDirectory(directory).ticks == [3, 4], "call \(limit)")
            #expect(names(in: directory).count == 2, "call \(limit)")
            if isDone { break }
            limit += 1
        }
        // Directories, three files, their pieces, two renames: were it fewer, the cut would miss some.
        #expect(limit > 30)
    }

    @Test func aFailedWriteLeavesTheOneBefore() throws {
        let folder = try TemporaryFolder()
        let shard = TestShard(keepers: 1)
        try shard.write(1, by: CheckpointWriter(directory: folder.path))
        // A file where the next one's directory should be: as a full disk, a failure of the system.
        try Data().write(to: URL(filePath: CheckpointDirectory.path(folder.path, 2) + ".partial"))
        #expect(throws: CheckpointError.self) {
            try shard.write(2, by: CheckpointWriter(directory: folder.path))
        }
        #expect(CheckpointDirectory(folder.path).ticks == [1])
    }

    @Test func filesOfAnotherAttemptAreNotTakenIn() throws {
        let folder = try TemporaryFolder()
        let writer = CheckpointWriter(directory: folder.path)
        try writer.begin(5)
        for keeper in 0..<3 { _ = try writer.write(TestShard(keepers: 3).capture(keeper, tick: 5)) }
        try TestShard(keepers: 1).write(5, by: writer)
        let path = CheckpointDirectory.path(folder.path, 5)
        #expect(names(in: path) == ["keeper-00000.safetensors", "manifest.json"])
    }

    @Test(arguments: [1, 3]) func onlyTheNewestAreKept(keep: Int) throws {
        let folder = try TemporaryFolder()
        for tick in 1...5 {
            try TestShard(keepers: 1).write(
                UInt64(tick), keep: keep, by: CheckpointWriter(directory: folder.path))
        }
        #expect(
            CheckpointDirectory(folder.path).ticks == Array(1...5).suffix(keep).map { UInt64($0) })
    }
}

@Suite struct CheckpointTests {
    private func written() throws -> (TemporaryFolder, String) {
        let folder = try TemporaryFolder()
        try TestShard(keepers: 2).write(3, by: CheckpointWriter(directory: folder.path))
        return (folder, CheckpointDirectory.path(folder.path, 3))
    }

    /// Flips a bit of every byte, or cuts the file there: nothing gets through, nothing traps.
    @Test(arguments: ["manifest.json", "keeper-00000.safetensors", "keeper-00001.safetensors"])
    func everyDamageIsFound(name: String) throws {
        let (folder, path) = try written()
        defer { _ = folder }
        let url = URL(filePath: path + "/" + name)
        let whole = try Data(contentsOf: url)
        func isFound() -> Bool {
            do throws(CheckpointError) {
                try Checkpoint(path: path).verify()
                return false
            } catch {
                return error.code != .inputOutput
            }
        }
        for position in whole.indices {
            var bytes = whole
            bytes[position] ^= 1 << UInt8(position % 8)
            try bytes.write(to: url)
            #expect(isFound(), "byte \(position)")
            guard position % 7 == 0 else { continue }
            try whole[..<position].write(to: url)
            #expect(isFound(), "cut at \(position)")
        }
        try whole.write(to: url)
        #expect(!isFound())
        try FileManager.default.removeItem(at: url)
        #expect(isFound())
    }

    @Test func theManifestReadsBack() throws {
        let manifest = TestShard(keepers: 2).manifest(
            UInt64(Int.max), [.init(name: "keeper-00000.safetensors", bytes: 12, checksum: .max)])
        #expect(try Manifest(bytes: manifest.bytes) == manifest)
    }

    @Test func anotherVersionIsNotRead() throws {
        let text = String(decoding: TestShard(keepers: 1).manifest(1, []).bytes, as: UTF8.self)
        let newer = Array(text.replacing("\"version\":1", with: "\"version\":2").utf8)
        let error = #expect(throws: CheckpointError.self) { _ = try Manifest(bytes: newer) }
        #expect(error?.code == .mismatch)
    }

    @Test func anotherModelIsRefused() throws {
        let (folder, path) = try written()
        defer { _ = folder }
        let reader = try ShardReader(Checkpoint(path: path))
        let tables = TestShard(keepers: 1).map.tables
        var other = tables
        other[1].rowCount += 1
        #expect(throws: CheckpointError.self) {
            try reader.check(tables: other, stateNames: ["momentum_buffer"])
        }
        #expect(throws: CheckpointError.self) { try reader.check(tables: tables, stateNames: []) }
        #expect(throws: CheckpointError.self) {
            try reader.check(tables: Array(tables.dropLast()), stateNames: ["momentum_buffer"])
        }
    }

    @Test func aDamagedOneIsSetAside() throws {
        let (folder, _) = try written()
        let writer = CheckpointWriter(directory: folder.path)
        try writer.setAside(3)
        #expect(CheckpointDirectory(folder.path).ticks == [])
        try TestShard(keepers: 1).write(3, by: writer)
        try writer.setAside(3)
        #expect(names(in: folder.path).count == 2)
    }
}
