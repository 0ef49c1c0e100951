/// A keeper in the process of its only worker, who uses the rows where they are and steps them himself: there is no
/// other copy, no lane and no thread.
public protocol KeeperInPlace: AnyObject, Sendable {
    /// The first row of `table`, aligned to 64 bytes; the others follow. Valid while the keeper lives.
    func rows(of table: TableIndex) -> UnsafeMutablePointer<Float>

    /// Sets who uses the rows; before anything else.
    func setUser(_ user: any RowUser)

    /// Gives `table` its initial values; those that lie beyond are zero.
    func initialise(_ table: TableIndex, values: UnsafeBufferPointer<Float>)

    /// Takes the update of `tick`, and steps by it where nothing holds that back.
    ///
    /// - Parameter pieces: in order and apart; read before this returns. Nil: there was no update.
    /// - Precondition: the table's rows are of the tick before.
    func take(
        _ pieces: [GradientPiece]?, of table: TableIndex, tick: UInt64, learningRate: Double)
}

/// Who uses a keeper's rows where they are.
///
/// Asked inside the calls of `KeeperInPlace`, and inside the server's that let steps go on.
public protocol RowUser: AnyObject, Sendable {
    /// Runs `body`, which changes these rows of `table` where they are, while nobody reads them.
    func change(_ table: TableIndex, rows: Range<Int>, _ body: () -> Void)

    /// Hears, after the change, that the rows of a block, by its number in `table`, are of this age.
    func noteFresh(_ table: TableIndex, block: Int, age: UInt64)
}
