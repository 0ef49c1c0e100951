internal import GeePSCore
internal import GeePSMemory
import Synchronization

/// The clocks of tables whose rows are the keeper's own: raising one steps them, on the thread that raises it.
///
/// A clock that is raised before the rows are of the tick before waits: before the initial values, or while the keeper
/// holds the step of a two-phase clock. Nothing happens by itself here, so who needs the rows catches up.
final class StepsInPlace: Sendable {
    private let keeper: any KeeperInPlace
    private let tables: [TableCopy]
    private let learningRate: @Sendable (TableIndex, UInt64) -> Double
    // Held while a table steps.
    private let clocks: Mutex<[Clock]>

    /// Ticks of a table.
    private struct Clock {
        var raised: UInt64 = 0
        var taken: UInt64 = 0
    }

    init(
        _ keeper: any KeeperInPlace, tables: [TableCopy],
        learningRate: @escaping @Sendable (TableIndex, UInt64) -> Double
    ) {
        self.keeper = keeper
        self.tables = tables
        self.learningRate = learningRate
        clocks = Mutex(Array(repeating: Clock(), count: tables.count))
        keeper.setUser(Tables(tables: tables))
    }

    /// What the keeper asks of tables; apart, since the keeper is held here.
    private final class Tables: RowUser {
        let tables: [TableCopy]

        init(tables: [TableCopy]) { self.tables = tables }

        func change(_ table: TableIndex, rows: Range<Int>, _ body: () -> Void) {
            tables[table].change(rows, body)
        }

        func noteFresh(_ table: TableIndex, block: Int, age: UInt64) {
            tables[table].note(block: block, age: age, acknowledged: age)
        }
    }

    func initialise(_ table: TableIndex, values: UnsafeBufferPointer<Float>) {
        clocks.withLock { clocks in
            keeper.initialise(table, values: values)
            catchUp(table, &clocks[table])
        }
    }

    /// Raises the clock of `table`, whose update is in the log.
    func raiseClock(of table: TableIndex) {
        clocks.withLock { clocks in
            clocks[table].raised += 1
            catchUp(table, &clocks[table])
        }
    }

    /// Raises the clock of `table`, whose update lies in `pieces`.
    ///
    /// - Precondition: `canStep`.
    func raiseClock(of table: TableIndex, from pieces: [GradientPiece]) {
        clocks.withLock { clocks in
            clocks[table].raised += 1
            step(table, &clocks[table], by: pieces)
        }
    }

    /// Whether a clock of `table` that is raised now does not wait.
    func canStep(_ table: TableIndex) -> Bool {
        clocks.withLock { clocks in
            catchUp(table, &clocks[table])
            return clocks[table].taken == clocks[table].raised && canStep(table, clocks[table])
        }
    }

    /// Takes the steps of `table` that have become possible.
    func catchUp(_ table: TableIndex) {
        clocks.withLock { catchUp(table, &$0[table]) }
    }

    // MARK: Inside, under the lock

    private func catchUp(_ table: TableIndex, _ clock: inout Clock) {
        while clock.taken < clock.raised, canStep(table, clock) {
            step(table, &clock, by: logged(table, tick: clock.taken + 1))
        }
    }

    private func canStep(_ table: TableIndex, _ clock: Clock) -> Bool {
        tables[table].freshness?.age.count == clock.taken
    }

    private func step(_ table: TableIndex, _ clock: inout Clock, by pieces: [GradientPiece]?) {
        clock.taken += 1
        keeper.take(
            pieces, of: table, tick: clock.taken, learningRate: learningRate(table, clock.taken))
    }

    /// The update in the log of `tick`; nil where there is none.
    private func logged(_ table: TableIndex, tick: UInt64) -> [GradientPiece]? {
        tables[table].update(ofTick: tick).map {
            [GradientPiece(values: $0, range: 0..<tables[table].layout.valueCount)]
        }
    }
}
