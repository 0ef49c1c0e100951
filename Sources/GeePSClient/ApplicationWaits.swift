internal import GeePSCore
import Synchronization

/// What the application is in and how long it has waited: for rows, for anything.
///
/// The application's thread writes, relaxed; who looks may see what belongs to two moments a little apart.
final class ApplicationWaits: Sendable {
    private let activity = Atomic<UInt8>(WorkerStanding.Activity.computing.rawValue)
    private let table = Atomic<Int>(0)
    private let neededAge = Atomic<UInt64>(0)
    private let since = Atomic<UInt64>(monotonicNanoseconds())
    private let stall = Atomic<UInt64>(0)
    private let rowWait = Atomic<UInt64>(0)
    private let startWait = Atomic<UInt64>(0)
    // By table: when its clock was raised last, and for how long the application had waited for rows then.
    private let clocks: Mutex<[ClockMark?]>

    private struct ClockMark {
        var nanoseconds: UInt64
        var waited: UInt64
    }

    init(tableCount: Int) { clocks = Mutex(Array(repeating: nil, count: tableCount)) }

    /// Time inside read, update and local.
    var stallNanoseconds: UInt64 { stall.load(ordering: .relaxed) }
    /// Of that, waits for rows, those for initial values left out.
    var rowWaitNanoseconds: UInt64 { rowWait.load(ordering: .relaxed) }
    /// Of the stall, waits for initial values.
    var startWaitNanoseconds: UInt64 { startWait.load(ordering: .relaxed) }

    /// The application enters the parameter server.
    ///
    /// - Returns: now.
    func enter(
        _ what: WorkerStanding.Activity, table index: TableIndex = 0, neededAge least: UInt64 = 0
    ) -> UInt64 {
        let now = monotonicNanoseconds()
        table.store(index, ordering: .relaxed)
        neededAge.store(least, ordering: .relaxed)
        since.store(now, ordering: .relaxed)
        activity.store(what.rawValue, ordering: .relaxed)
        return now
    }

    /// It goes on.
    ///
    /// - Returns: now.
    func leave(since start: UInt64) -> UInt64 {
        let now = monotonicNanoseconds()
        stall.wrappingAdd(now - start, ordering: .relaxed)
        since.store(now, ordering: .relaxed)
        activity.store(WorkerStanding.Activity.computing.rawValue, ordering: .relaxed)
        return now
    }

    /// It goes on, and what it was inside for does not count.
    func goOn() {
        since.store(monotonicNanoseconds(), ordering: .relaxed)
        activity.store(WorkerStanding.Activity.computing.rawValue, ordering: .relaxed)
    }

    /// Of the time it was inside, it has waited for rows.
    func addRowWait(_ nanoseconds: UInt64, isForInitialValues: Bool) {
        if isForInitialValues {
            startWait.wrappingAdd(nanoseconds, ordering: .relaxed)
        } else {
            rowWait.wrappingAdd(nanoseconds, ordering: .relaxed)
        }
    }

    /// The clock of a table is raised.
    ///
    /// - Returns: how long the worker was busy since it was raised before; waits for rows are no work. Zero for
    ///   the first.
    /// - Complexity: a lock once a table and tick, which nobody else holds for long.
    func noteClock(of table: TableIndex) -> UInt64 {
        let mark = ClockMark(
            nanoseconds: monotonicNanoseconds(), waited: rowWaitNanoseconds + startWaitNanoseconds)
        let last = clocks.withLock { clocks in
            defer { clocks[table] = mark }
            return clocks[table]
        }
        guard let last else { return 0 }
        let time = mark.nanoseconds - last.nanoseconds
        return time - min(time, mark.waited - min(mark.waited, last.waited))
    }

    /// What it shows: the activity, its table, the age it needs, since when.
    var shown:
        (activity: WorkerStanding.Activity, table: TableIndex, neededAge: UInt64, since: UInt64)
    {
        (
            WorkerStanding.Activity(rawValue: activity.load(ordering: .relaxed)) ?? .computing,
            table.load(ordering: .relaxed), neededAge.load(ordering: .relaxed),
            since.load(ordering: .relaxed)
        )
    }
}
