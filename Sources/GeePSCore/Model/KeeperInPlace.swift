/// A keeper in the process of its only worker, who uses the rows where they are and steps them himself: there is no
/// other copy, no lane and no thread.
public protocol KeeperInPlace: AnyObject, Sendable {
    /// The first row of `table`, aligned to 64 bytes; the others follow. Valid while the keeper lives.
    func rows(of table: TableIndex) -> UnsafeMutablePointer<Float>

    /// Hears of every block whose rows are new: its table, its number there, their age.
    ///
    /// Set before anything else; called inside the calls below, and inside the server's that let steps go on.
    func onFresh(_ tell: @escaping @Sendable (TableIndex, _ block: Int, _ age: UInt64) -> Void)

    /// Gives `table` its initial values; those that lie beyond are zero.
    func initialise(_ table: TableIndex, values: UnsafeBufferPointer<Float>)

    /// Takes the update of `tick`, and steps by it where nothing holds that back.
    ///
    /// - Parameter pieces: in order and apart; read before this returns. Nil: there was no update.
    /// - Precondition: the table's rows are of the tick before.
    func take(
        _ pieces: [GradientPiece]?, of table: TableIndex, tick: UInt64, learningRate: Double)
}
