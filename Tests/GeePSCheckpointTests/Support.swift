import Foundation
import GeePSCore
import GeePSServer
import Synchronization
import Testing

@testable import GeePSCheckpoint

/// A folder that goes with its owner.
final class TemporaryFolder: Sendable {
    let path: String

    init() throws {
        let url = FileManager.default.temporaryDirectory
            .appending(path: "geeps-checkpoint-\(UUID().uuidString)")
        try FileManager.default.createDirectory(at: url, withIntermediateDirectories: true)
        path = url.path()
    }

    deinit { try? FileManager.default.removeItem(atPath: path) }
}

/// The system's files until call number `limit`, which is half done or not at all: then the power is gone.
///
/// What was not synced is lost: `loseUnsynced` empties files and takes names back, as the harshest disk would.
final class FailingFiles: FileSystem {
    private struct State {
        var calls = 0
        var unsyncedFiles: [Int32: String] = [:]
        var lostFiles: [String] = []
        // Newest last; what undoes each.
        var unsyncedNames: [(directory: String, from: String, to: String)] = []
    }

    private let real = SystemFiles()
    private let limit: Int
    private let state = Mutex(State())

    init(limit: Int) { self.limit = limit }

    var calls: Int { state.withLock { $0.calls } }

    private var isPowered: Bool {
        state.withLock {
            $0.calls += 1
            return $0.calls < limit
        }
    }

    private func check() throws(CheckpointError) {
        guard isPowered else { throw CheckpointError(.inputOutput, "the power is gone") }
    }

    private func parent(_ path: String) -> String {
        String(path[..<(path.lastIndex(of: "/") ?? path.startIndex)])
    }

    func makeDirectory(_ path: String) throws(CheckpointError) {
        try check()
        try real.makeDirectory(path)
    }

    func create(_ path: String) throws(CheckpointError) -> Int32 {
        try check()
        let file = try real.create(path)
        state.withLock { $0.unsyncedFiles[file] = path }
        return file
    }

    func write(_ bytes: UnsafeRawBufferPointer, to file: Int32, _ path: String)
        throws(CheckpointError)
    {
        guard isPowered else {
            try real.write(
                UnsafeRawBufferPointer(rebasing: bytes[..<(bytes.count / 2)]), to: file, path)
            throw CheckpointError(.inputOutput, "the power went in the middle of a write")
        }
        try real.write(bytes, to: file, path)
    }

    func sync(_ file: Int32, _ path: String) throws(CheckpointError) {
        try check()
        try real.sync(file, path)
        state.withLock { $0.unsyncedFiles[file] = nil }
    }

    func close(_ file: Int32) {
        real.close(file)
        state.withLock { state in
            if let path = state.unsyncedFiles.removeValue(forKey: file) {
                state.lostFiles.append(path)
            }
        }
    }

    func rename(_ path: String, to target: String) throws(CheckpointError) {
        try check()
        try real.rename(path, to: target)
        state.withLock { state in
            state.unsyncedNames.append((parent(target), path, target))
            // What was not synced stays so under its new name.
            state.lostFiles = state.lostFiles.map {
                $0.hasPrefix(path + "/") ? target + $0.dropFirst(path.count) : $0
            }
        }
    }

    func syncDirectory(_ path: String) throws(CheckpointError) {
        try check()
        try real.syncDirectory(path)
        state.withLock { $0.unsyncedNames.removeAll { $0.directory == path } }
    }

    func removeFile(_ path: String) throws(CheckpointError) {
        try check()
        try real.removeFile(path)
    }

    func removeDirectory(_ path: String) throws(CheckpointError) {
        try check()
        try real.removeDirectory(path)
    }

    func loseUnsynced() {
        state.withLock { state in
            for path in state.lostFiles + Array(state.unsyncedFiles.values) { truncate(path, 0) }
            for change in state.unsyncedNames.reversed() {
                _ = Glibc.rename(change.to, change.from)
            }
        }
    }
}

/// A keeper's rows, made up from a seed, and what is copied of them.
struct TestShard {
    let map: ShardMap
    let optimizer = Optimizer(
        OptimizerConfiguration(
            rule: .sgd(momentum: 0.9, dampening: 0, nesterov: false), learningRate: 0.1))

    init(keepers: Int, blockBytes: Int = 256) {
        map = ShardMap(
            tables: [
                TableLayout(name: "conv1.weight", rowCount: 37, rowWidth: 8),
                TableLayout(name: "fc \"odd\" / ü", rowCount: 5, rowWidth: 3),
                TableLayout(name: "one", rowCount: 1, rowWidth: 1),
            ], keeperCount: keepers, blockBytes: blockBytes)
    }

    func store(_ keeper: Int) throws -> RowStore {
        try RowStore(shardMap: map, keeper: keeper, optimizer: optimizer)
    }

    /// The value that belongs to a place, whoever keeps it.
    static func value(_ table: Int, _ position: Int, kind: Int, tick: UInt64) -> Float {
        Float(table * 10_000 + position) + Float(kind) * 0.25 + Float(tick) * 0.001
    }

    func capture(_ keeper: Int, tick: UInt64) throws -> ShardCapture {
        let store = try store(keeper)
        for index in 0..<store.blockCount {
            let block = store.block(index)
            let first = block.rows.lowerBound * map.tables[block.table].rowWidth
            for offset in 0..<store.valueCount(index) {
                store.values(index)[offset] = Self.value(
                    block.table, first + offset, kind: 0, tick: tick)
                store.state(index, kind: 0)[offset] =
                    Self.value(block.table, first + offset, kind: 1, tick: tick)
            }
            store.setStepCount(tick + UInt64(block.table), of: index)
        }
        return try ShardCapture(whole: store, tick: tick)
    }

    /// Whether `store` has what belongs to it at `tick`.
    func matches(_ store: RowStore, tick: UInt64) -> Bool {
        (0..<store.blockCount).allSatisfy { index in
            let block = store.block(index)
            let first = block.rows.lowerBound * map.tables[block.table].rowWidth
            return store.stepCount(index) == tick + UInt64(block.table)
                && (0..<store.valueCount(index)).allSatisfy {
                    store.values(index)[$0]
                        == Self.value(block.table, first + $0, kind: 0, tick: tick)
                        && store.state(index, kind: 0)[$0]
                            == Self.value(block.table, first + $0, kind: 1, tick: tick)
                }
        }
    }

    /// Writes the checkpoint of `tick` as all keepers together do.
    func write(_ tick: UInt64, keep: Int = 2, by writer: CheckpointWriter) throws {
        try writer.begin(tick)
        var files: [Manifest.File] = []
        for keeper in 0..<map.keeperCount {
            files.append(try writer.write(try capture(keeper, tick: tick)))
        }
        try writer.publish(manifest(tick, files))
        try writer.prune(keeping: keep)
    }

    func manifest(_ tick: UInt64, _ files: [Manifest.File]) -> Manifest {
        Manifest(
            tick: tick, workers: 1, keepers: map.keeperCount, samplesPerClock: 8,
            tables: map.tables,
            stateNames: optimizer.stateKinds.map(\.name), agreement: "a: 1\nb: \"2\"", files: files)
    }
}
