public import GeePSCore
public import GeePSDevice
import Synchronization

/// What the memory room needs from the client: its parameter cache and its update log.
///
/// All methods may be called from the application's, the allocator's and the reclaimer's thread.
public protocol ParameterStore: AnyObject, Sendable {
    /// First row of the table in the parameter cache; rows follow in order.
    func cachedRows(of table: TableIndex) -> UnsafePointer<Float>

    /// Waits until all updates up to `least` of all workers are in the cached rows.
    ///
    /// - Throws: `.peerLost`, `.deadline`, or `.closed` once `stop` is raised.
    func waitForAge(of table: TableIndex, atLeast least: Tick, unless stop: StopFlag?)
        throws(AccessError)

    /// Makes every `waitForAge` look at its stop flag again.
    func wakeWaiters()

    /// Data age of the cached rows and how often they were refreshed; nil before the initial values.
    func freshness(of table: TableIndex) -> Freshness?

    /// Runs `body` while no fresh rows are written to the table's cache.
    func withStableRows<R>(of table: TableIndex, _ body: (UnsafePointer<Float>) -> R) -> R

    /// Runs `body`, which puts work on `stream` that reads the table's cached rows; no fresh rows are written
    /// to them until that work is done.
    ///
    /// Managed memory only: the cached rows are in host memory.
    func lendRows<R>(
        of table: TableIndex, to stream: any DeviceStream,
        _ body: (UnsafePointer<Float>) -> R
    ) -> R

    /// Keeps `mirror` the same as the table's cached rows from now on, beginning with those that are there; nil
    /// ends that.
    ///
    /// Managed memory only.
    func mirror(_ table: TableIndex, into mirror: RowMirror?)

    /// First row of the update log of `table` for `tick`; waits for a free log.
    ///
    /// - Parameter isOverwritten: the caller writes every value; otherwise a new log starts as zeros.
    func log(of table: TableIndex, tick: Tick, isOverwritten: Bool) throws(AccessError)
        -> UnsafeMutablePointer<Float>

    /// Lets rows of `table` that arrive wait until `takeRows`, so that those which are lent do not change.
    ///
    /// Rows of other tables may wait behind them.
    func holdRows(of table: TableIndex)

    /// Ends that.
    func takeRows(of table: TableIndex)

    /// Raises the clock of `table`: the updates of its next tick are complete and may be sent.
    func raiseClock(of table: TableIndex)

    /// Rows change where they are, and when their clock is raised: it may not be while they are lent.
    var stepsInPlace: Bool { get }

    /// Whether rows of `table` are stepped where they are, as soon as their clock is raised.
    func canStepInPlace(_ table: TableIndex) -> Bool

    /// Raises the clock of `table`, whose only update of its next tick is in memory of the caller's and not in the log.
    ///
    /// Only where `canStepInPlace`.
    ///
    /// - Parameter pieces: in order and apart; read before this returns.
    func raiseClock(of table: TableIndex, from pieces: [GradientPiece])
}

/// How new cached rows are.
public struct Freshness: Hashable, Sendable {
    /// Tick up to which the updates of all workers are in.
    public var age: Tick
    /// Grows with every block of rows that arrives.
    public var version: UInt64

    /// An age with a version.
    public init(age: Tick, version: UInt64) {
        self.age = age
        self.version = version
    }
}

/// Tells a waiting thread that nobody needs what it waits for any more.
public final class StopFlag: Sendable {
    private let raised = Atomic(false)

    /// A flag that is down.
    public init() {}

    /// Raises the flag for good.
    ///
    /// Relaxed: the waiter looks at it under the store's lock after `wakeWaiters`.
    public func raise() { raised.store(true, ordering: .relaxed) }

    /// Whether the flag was raised.
    public var isRaised: Bool { raised.load(ordering: .relaxed) }
}
