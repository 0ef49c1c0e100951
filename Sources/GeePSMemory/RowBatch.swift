public import GeePSCore
internal import GeePSDevice

/// A list of rows of one table, prepared once and used every iteration (GeePS §4.3).
///
/// Rows may be in any order and a row may occur more than once. A run of consecutive rows needs no index.
public struct RowBatch: Sendable {
    /// Position among the batches of its manager.
    public let id: Int
    /// The table.
    public let table: TableIndex
    /// Rows in the batch; a buffer for it holds `[rowCount, rowWidth]` values.
    public let rowCount: Int
    /// Values in a row.
    public let rowWidth: Int
    let selection: RowSelection

    /// Values in a buffer for the batch.
    public var valueCount: Int { rowCount * rowWidth }

    /// Bytes of a buffer for the batch.
    var byteCount: Int { valueCount * MemoryLayout<Float>.stride }

    /// Whether the batch is the table's rows, all of them, in order.
    public let isWholeTable: Bool
}

/// Which rows: a run, or an index on the device.
enum RowSelection: Sendable {
    case run(Range<Int>)
    case list(RowIndex)
}

/// A prepared index; shared by all accesses to its batch.
final class RowIndex: Sendable {
    private let buffer: DeviceBuffer
    private let hostBuffer: HostBuffer

    init(rows: some Collection<Int>, on device: any Device) throws(DeviceError) {
        let byteCount = rows.count * MemoryLayout<UInt32>.stride
        buffer = try device.allocate(byteCount: byteCount, for: .indexes)
        hostBuffer = try device.allocateHost(
            byteCount: byteCount, for: .indexes, preferPinned: false)
        let target = hostBuffer.address.assumingMemoryBound(to: UInt32.self)
        for (position, row) in rows.enumerated() { target[position] = UInt32(row) }
        device.write(hostBuffer.address, to: buffer.address, byteCount: byteCount)
    }

    /// In device memory.
    var entries: UnsafePointer<UInt32> {
        UnsafePointer(buffer.address.assumingMemoryBound(to: UInt32.self))
    }

    /// The same in host memory.
    var hostEntries: UnsafePointer<UInt32> {
        UnsafePointer(hostBuffer.address.assumingMemoryBound(to: UInt32.self))
    }

    /// Device memory it takes.
    var byteCount: Int { buffer.byteCount }
}

/// Data of one worker only; never sent anywhere.
public struct LocalBatch: Sendable {
    /// Position among the local batches of its manager.
    public let id: Int
    /// For reports: "conv1 output".
    public let name: String
    /// Bytes.
    public let byteCount: Int
}
