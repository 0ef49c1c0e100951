public import GeePSCore
public import GeePSServer
internal import Safetensors

/// Reads the rows of a checkpoint, however many keepers wrote it, into keepers that cut them otherwise.
public final class ShardReader: Sendable {
    private struct Piece {
        var rows: Range<Int>
        var file: SafetensorsFile
    }

    /// What is read.
    public let checkpoint: Checkpoint
    // By table: its pieces, ascending.
    private let pieces: [[Piece]]

    /// Opens the keepers' files.
    ///
    /// - Throws: `.damaged` when one is missing or the rows are not all there.
    public init(_ checkpoint: Checkpoint) throws(CheckpointError) {
        self.checkpoint = checkpoint
        let manifest = checkpoint.manifest
        var pieces = [[Piece]](repeating: [], count: manifest.tables.count)
        for keeper in 0..<manifest.keepers {
            let path = try checkpoint.path(ofFile: Manifest.fileName(ofKeeper: keeper))
            let file: SafetensorsFile
            do throws(SafetensorsError) {
                file = try SafetensorsFile(path: path)
            } catch {
                throw CheckpointError(.damaged, error.message)
            }
            for (index, table) in manifest.tables.enumerated() {
                guard let info = file.header["rows/\(table.name)"] else { continue }
                guard let first = file.header.metadata["first/\(table.name)"].flatMap({ Int($0) }),
                    info.elementType == .float32, info.shape.count == 2,
                    info.shape[1] == table.rowWidth, first >= 0,
                    first <= table.rowCount - info.shape[0]
                else {
                    throw CheckpointError(.damaged, "\(path): the rows of \(table.name) do not fit")
                }
                pieces[index].append(Piece(rows: first..<(first + info.shape[0]), file: file))
            }
        }
        for (index, table) in manifest.tables.enumerated() {
            pieces[index].sort { $0.rows.lowerBound < $1.rows.lowerBound }
            var next = 0
            for piece in pieces[index] where piece.rows.lowerBound == next {
                next = piece.rows.upperBound
            }
            guard next == table.rowCount else {
                throw CheckpointError(
                    .damaged,
                    "\(checkpoint.path): rows \(next)..<\(table.rowCount) of \(table.name) are missing"
                )
            }
        }
        self.pieces = pieces
    }

    /// Whether the rows are those of a job with `tables` and state arrays `stateNames`.
    ///
    /// - Throws: `.mismatch`, naming the first difference.
    public func check(tables: [TableLayout], stateNames: [String]) throws(CheckpointError) {
        let manifest = checkpoint.manifest
        for (found, expected) in zip(manifest.tables, tables) where found != expected {
            throw CheckpointError(
                .mismatch,
                "\(checkpoint.path) has table \(found.name) of \(found.rowCount) x \(found.rowWidth), the "
                    + "job \(expected.name) of \(expected.rowCount) x \(expected.rowWidth)")
        }
        guard manifest.tables.count == tables.count else {
            throw CheckpointError(
                .mismatch,
                "\(checkpoint.path) has \(manifest.tables.count) tables, the job \(tables.count)")
        }
        guard manifest.stateNames == stateNames else {
            throw CheckpointError(
                .mismatch,
                "\(checkpoint.path) has optimiser state \(manifest.stateNames), the job's rule keeps "
                    + "\(stateNames)")
        }
    }

    /// Fills a keeper.
    ///
    /// - Precondition: `check` passed for its map and optimiser.
    public func fill(_ store: RowStore) throws(RowStoreError) {
        let names = store.optimizer.stateKinds.map(\.name)
        for index in 0..<store.blockCount {
            let block = store.block(index)
            try read(
                "rows", block.table, block.rows,
                into: UnsafeMutableRawBufferPointer(store.values(index)))
            for (kind, name) in names.enumerated() {
                try read(
                    name, block.table, block.rows,
                    into: UnsafeMutableRawBufferPointer(store.state(index, kind: kind)))
            }
            var steps = [UInt64](repeating: 0, count: block.rows.count)
            let failure = steps.withUnsafeMutableBytes { bytes -> RowStoreError? in
                do throws(RowStoreError) {
                    try read("steps", block.table, block.rows, into: bytes)
                    return nil
                } catch {
                    return error
                }
            }
            if let failure { throw failure }
            // Blocks that were cut otherwise may have had different numbers of steps; the most is the safest: the
            // corrections of a moving average only fade.
            store.setStepCount(steps.map { UInt64(littleEndian: $0) }.max() ?? 0, of: index)
        }
    }

    /// Reads array `name` of `rows` of a table.
    ///
    /// - Parameter target: exactly their size.
    public func read(
        _ name: String, _ table: TableIndex, _ rows: Range<Int>,
        into target: UnsafeMutableRawBufferPointer
    ) throws(RowStoreError) {
        let tensor = "\(name)/\(checkpoint.manifest.tables[table].name)"
        let rowBytes = target.count / max(1, rows.count)
        for piece in pieces[table] where piece.rows.overlaps(rows) {
            let part = piece.rows.clamped(to: rows)
            let start = (part.lowerBound - rows.lowerBound) * rowBytes
            let destination = UnsafeMutableRawBufferPointer(
                rebasing: target[start..<(start + part.count * rowBytes)])
            do throws(SafetensorsError) {
                try piece.file.read(
                    tensor, from: (part.lowerBound - piece.rows.lowerBound) * rowBytes,
                    into: destination)
            } catch {
                throw RowStoreError(message: error.message)
            }
        }
    }
}
