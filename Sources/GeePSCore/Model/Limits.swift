/// Every limit of the system, each with its reason.
public enum Limits {
    /// float32 values in a row unless a table says otherwise: 512 bytes, as in GeePS (a.1).
    public static let rowWidthDefault = 128

    /// Bytes of rows in a block, the unit that travels: small enough that sum, optimiser and copy find
    /// it in a core's cache and that push, update and pull of one table overlap; large enough that a
    /// frame's fixed cost, its wake-ups, is small beside its copy (decision 0003 has the measurement).
    public static let blockBytesDefault = 512 << 10

    /// Largest payload a frame may announce; a longer one closes the connection before anything is
    /// allocated.
    ///
    /// A block never exceeds it.
    public static let framePayloadBytesMaximum = 16 << 20

    /// Bytes of a frame header on the wire; see docs/formats/frame.md.
    public static let frameHeaderBytes = 64

    /// Frames that may wait in a keeper's mailbox for each connection before its reader stops reading.
    public static let framesInMailboxPerLane = 8

    /// Workers in a job; a rank travels as 16 bits.
    public static let workersMaximum = 4096

    /// Clocks of staleness a job may ask for: a keeper holds that many updates of every worker.
    public static let stalenessClocksMaximum: UInt64 = 1024

    /// Rows in a table: a row index travels as 64 bits, but an index entry is 32 bits.
    public static let tableRowsMaximum = Int(UInt32.max)
}
