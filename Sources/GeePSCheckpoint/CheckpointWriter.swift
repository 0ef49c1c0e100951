internal import CGeePSShims
internal import GeePSCore
public import GeePSServer
public import Safetensors

/// Writes checkpoints into a directory, so that whatever happens it has only whole ones.
///
/// All goes into `step-N.partial`, every file synced; the manifest comes last, then the directory gets its name.
/// A crash leaves a `.partial` that the next one of that step uses again and `clean` removes.
public struct CheckpointWriter: Sendable {
    /// Where the checkpoints are.
    public let directory: String
    private let files: any FileSystem

    /// A writer into `directory`.
    public init(directory: String, files: any FileSystem = SystemFiles()) {
        self.directory = directory
        self.files = files
    }

    private func partial(_ tick: UInt64) -> String {
        CheckpointDirectory.path(directory, tick) + CheckpointDirectory.partialSuffix
    }

    /// Makes room for the checkpoint of `tick`; any process may, several may.
    public func begin(_ tick: UInt64) throws(CheckpointError) {
        var prefix = directory.hasPrefix("/") ? "/" : ""
        for part in directory.split(separator: "/") {
            prefix += part + "/"
            try files.makeDirectory(prefix)
        }
        try files.makeDirectory(partial(tick))
    }

    /// Writes a keeper's rows, state and steps.
    public func write(_ shard: ShardCapture) throws(CheckpointError) -> Manifest.File {
        try write(
            Manifest.fileName(ofKeeper: shard.keeper), of: shard.tick, shard.tensors,
            metadata: shard.metadata)
    }

    /// Writes a file of tensors and syncs it.
    public func write(
        _ name: String, of tick: UInt64, _ tensors: [TensorSource], metadata: [String: String]
    ) throws(CheckpointError) -> Manifest.File {
        let path = partial(tick) + "/" + name
        let file = try files.create(path)
        defer { files.close(file) }
        var length: UInt64 = 0
        var register: UInt32 = ~0
        var failure: CheckpointError?
        do throws(SafetensorsError) {
            try SafetensorsWriter.produce(path: path, tensors: tensors, metadata: metadata) {
                (bytes) throws(SafetensorsError) in
                guard failure == nil else { return }
                length += UInt64(bytes.count)
                register = geeps_crc32c(register, bytes.baseAddress, bytes.count)
                do throws(CheckpointError) {
                    try files.write(bytes, to: file, path)
                } catch {
                    failure = error
                }
            }
        } catch {
            throw CheckpointError(.inputOutput, error.message)
        }
        if let failure { throw failure }
        try files.sync(file, path)
        return Manifest.File(name: name, bytes: length, checksum: ~register)
    }

    /// Makes the checkpoint of `manifest.tick` count, when all its files are written: from here on it is complete.
    public func publish(_ manifest: Manifest) throws(CheckpointError) {
        let partial = partial(manifest.tick)
        let known = Set(manifest.files.map(\.name))
        for name in names(in: partial) where !known.contains(name) {
            // Of an earlier attempt that had more keepers or workers.
            try files.removeFile(partial + "/" + name)
        }
        let path = partial + "/" + Manifest.fileName
        try writeManifest(manifest.bytes, to: path)
        // The names of all files must be on disk before the directory's own.
        try files.syncDirectory(partial)
        try files.rename(partial, to: CheckpointDirectory.path(directory, manifest.tick))
        try files.syncDirectory(directory)
    }

    private func writeManifest(_ bytes: [UInt8], to path: String) throws(CheckpointError) {
        let file = try files.create(path)
        defer { files.close(file) }
        let failure = bytes.withUnsafeBytes { bytes -> CheckpointError? in
            do throws(CheckpointError) {
                try files.write(bytes, to: file, path)
                return nil
            } catch {
                return error
            }
        }
        if let failure { throw failure }
        try files.sync(file, path)
    }

    /// Removes all complete checkpoints but the `keep` newest.
    public func prune(keeping keep: Int) throws(CheckpointError) {
        let old = CheckpointDirectory(directory).ticks.dropLast(max(1, keep))
        for tick in old {
            let path = CheckpointDirectory.path(directory, tick)
            // A checkpoint loses its name before the first of its files.
            let doomed = path + CheckpointDirectory.removedSuffix
            try files.rename(path, to: doomed)
            try files.syncDirectory(directory)
            try remove(doomed)
        }
    }

    /// Removes what attempts that did not end well have left; nobody is writing.
    public func clean() throws(CheckpointError) {
        for name in names(in: directory)
        where name.hasPrefix("step-")
            && (name.hasSuffix(CheckpointDirectory.partialSuffix)
                || name.hasSuffix(CheckpointDirectory.removedSuffix))
        { try remove(directory + "/" + name) }
    }

    /// Removes what is written of the checkpoint of `tick`, which will not be completed.
    public func abandon(_ tick: UInt64) throws(CheckpointError) { try remove(partial(tick)) }

    /// Puts a damaged checkpoint out of the way of the next one of its step; it is kept for who wants to know.
    public func setAside(_ tick: UInt64) throws(CheckpointError) {
        let path = CheckpointDirectory.path(directory, tick)
        let taken = Set(names(in: directory))
        for number in 1...1000 {
            let target = "\(path).damaged-\(number)"
            if taken.contains(target.split(separator: "/").last.map(String.init) ?? "") { continue }
            try files.rename(path, to: target)
            return try files.syncDirectory(directory)
        }
    }

    private func remove(_ path: String) throws(CheckpointError) {
        for name in names(in: path) { try files.removeFile(path + "/" + name) }
        try files.removeDirectory(path)
    }
}

extension ShardCapture {
    /// By table of this keeper: its blocks.
    private var runs: [(table: TableIndex, blocks: [Int])] {
        var runs: [(table: TableIndex, blocks: [Int])] = []
        for (index, block) in blocks.enumerated() {
            if runs.last?.table == block.table {
                runs[runs.count - 1].blocks.append(index)
            } else {
                runs.append((block.table, [index]))
            }
        }
        return runs
    }

    /// "rows/T", a tensor for each state array, "steps/T" with a number for each row, so that any other cut of
    /// the rows finds its own.
    var tensors: [TensorSource] {
        runs.flatMap { run -> [TensorSource] in
            let layout = shardMap.tables[run.table]
            let all = blocks
            let rowCount = run.blocks.reduce(0) { $0 + all[$1].rows.count }
            let arrays = ["rows"] + stateNames
            let floats = arrays.enumerated().map { array, name in
                TensorSource(
                    name: "\(name)/\(layout.name)", elementType: .float32,
                    shape: [rowCount, layout.rowWidth]
                ) { (sink) throws(SafetensorsError) in
                    for block in run.blocks {
                        let values =
                            array == 0 ? self.values(block) : self.state(block, kind: array - 1)
                        // In pieces, as disks and checksums like them.
                        let bytes = UnsafeRawBufferPointer(values)
                        for start in stride(from: 0, to: bytes.count, by: 1 << 20) {
                            let end = min(start + 1 << 20, bytes.count)
                            try sink(UnsafeRawBufferPointer(rebasing: bytes[start..<end]))
                        }
                    }
                }
            }
            let steps = run.blocks.flatMap { block in
                Array(repeating: stepCount(block).littleEndian, count: all[block].rows.count)
            }
            return floats + [
                TensorSource(
                    name: "steps/\(layout.name)", elementType: .uint64, shape: [rowCount],
                    bytes: steps.withUnsafeBytes(Array.init))
            ]
        }
    }

    /// "first/T": the first row of each table that is here.
    var metadata: [String: String] {
        var metadata = ["format": "geeps-keeper", "tick": "\(tick)", "keeper": "\(keeper)"]
        for run in runs {
            guard let first = run.blocks.first else { continue }
            metadata["first/\(shardMap.tables[run.table].name)"] =
                "\(blocks[first].rows.lowerBound)"
        }
        return metadata
    }
}
