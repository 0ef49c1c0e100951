/// Index of a table in the job's list of tables.
public typealias TableIndex = Int

/// Name and shape of a table: the rows that share one clock and one data age.
public struct TableLayout: Hashable, Sendable {
    /// Unique in a job; by default the name of the layer whose parameters it holds.
    public var name: String
    /// Rows.
    public var rowCount: Int
    /// float32 values in a row.
    public var rowWidth: Int

    /// A table of `rowCount` rows of `rowWidth` values.
    public init(name: String, rowCount: Int, rowWidth: Int = Limits.rowWidthDefault) {
        precondition(rowCount > 0, "table \(name) needs at least one row, got \(rowCount)")
        precondition(
            rowCount <= Limits.tableRowsMaximum,
            "table \(name) of \(rowCount) rows, at most \(Limits.tableRowsMaximum) can be indexed")
        precondition(rowWidth > 0, "table \(name) needs a positive row width, got \(rowWidth)")
        self.name = name
        self.rowCount = rowCount
        self.rowWidth = rowWidth
    }

    /// A table that holds `valueCount` values, padded to whole rows.
    public init(name: String, valueCount: Int, rowWidth: Int = Limits.rowWidthDefault) {
        self.init(
            name: name, rowCount: (valueCount + rowWidth - 1) / rowWidth, rowWidth: rowWidth)
    }

    /// Bytes of one row.
    public var rowBytes: Int { rowWidth * MemoryLayout<Float>.stride }

    /// Values in the whole table, padding included.
    public var valueCount: Int { rowCount * rowWidth }

    /// Bytes of the whole table.
    public var byteCount: Int { rowCount * rowBytes }
}
