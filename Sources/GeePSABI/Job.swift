internal import CGeePS
internal import GeePS
import Synchronization

/// What a handle stands for: a job that is set up, joined and left.
final class Job: @unchecked Sendable {
    // Sendable: guarded by `calls`, but for `node` and `returned`, which are locks of their own.
    private let calls = Signal()
    private var configuration = NodeConfiguration(
        tables: [], optimizer: OptimizerConfiguration(rule: .add, learningRate: 0))
    private var hasKeeperCount = false
    private var deviceChoice = DeviceChoice.host
    private(set) var device = JobDevice.host
    private(set) var tables: [Table] = []
    private var phase = Phase.settingUp
    /// Between the phases of a two-phase clock.
    var held: HeldSteps?
    /// Data of this process only.
    var locals: [LocalBatch] = []
    private let node = Mutex<Node?>(nil)
    private let returned = Mutex(Returned())

    enum Phase: String {
        case settingUp = "not joined"
        case joined
        case closed
    }

    private struct Returned {
        var leases: [Lease] = []
        var isOver = false
    }

    /// A table with what C asks of it.
    struct Table {
        let name: String
        let valueCount: Int
        var rule: OptimizerConfiguration
        let rates: LearningRates
        var batch: RowBatch?
        let stateNames: [StateName]
    }

    /// A name at an address that stays.
    final class StateName: @unchecked Sendable {
        // Sendable: constant.
        let text: UnsafeMutablePointer<CChar>

        init(_ name: String) {
            let bytes = name.utf8CString
            text = .allocate(capacity: bytes.count)
            for (offset, byte) in bytes.enumerated() { text[offset] = byte }
        }

        deinit { text.deallocate() }
    }

    /// The job of a handle.
    static func of(_ handle: OpaquePointer) -> Job {
        Unmanaged<Job>.fromOpaque(UnsafeRawPointer(handle)).takeUnretainedValue()
    }

    /// Runs `body` after every other call, when leases that came back have been taken.
    func call(_ body: (Job) throws(ABIError) -> Void) throws(ABIError) {
        calls.lock()
        defer { calls.unlock() }
        do throws(ABIError) {
            try device.perform { () throws(ABIError) in
                dropReturned()
                try body(self)
            }
        } catch {
            throw named(error)
        }
    }

    /// The error with the name of the process that is gone: a lane may break a moment before the control plane knows.
    private func named(_ error: ABIError) -> ABIError {
        guard error.status == GEEPS_PEER_LOST,
            let failure = node.withLock({ $0 })?.membership.awaitFailure(),
            !error.message.contains(failure.description)
        else { return error }
        return ABIError(GEEPS_PEER_LOST, "\(failure) (\(error.message))")
    }

    // MARK: Setting up

    func requireSettingUp(_ what: String) throws(ABIError) {
        guard phase == .settingUp else {
            throw .argument("\(what) comes before geeps_join; this job is \(phase.rawValue)")
        }
    }

    func set(_ key: String, _ value: String) throws(ABIError) {
        try requireSettingUp("geeps_set(\(key))")
        let option = Option(key: key, value: value)
        if key == "device" {
            deviceChoice = try option.device()
        } else {
            try option.apply(to: &configuration)
        }
        if key == "keepers" { hasKeeperCount = true }
    }

    func addTable(_ name: String, valueCount: UInt64, rule: OptimizerConfiguration)
        throws(ABIError) -> UInt32
    {
        try requireSettingUp("geeps_table_create")
        let most = UInt64(Limits.tableRowsMaximum) * UInt64(Limits.rowWidthDefault)
        guard valueCount > 0, valueCount <= most else {
            throw .argument("table \(name) of \(valueCount) values, expected 1 to \(most)")
        }
        if let other = tables.first(where: { $0.name == name }) {
            throw .argument("there is a table \(name) of \(other.valueCount) values already")
        }
        if let first = tables.first, !rule.isOfKind(of: first.rule) {
            throw .argument(
                "table \(name) has rule \(rule.rule), table \(first.name) \(first.rule.rule): one job "
                    + "has one kind of rule")
        }
        tables.append(
            Table(
                name: name, valueCount: Int(valueCount), rule: rule,
                rates: LearningRates(rule.learningRate),
                stateNames: Node.stateNames(of: rule).map(StateName.init)))
        return UInt32(tables.count - 1)
    }

    func join() throws(ABIError) {
        try requireSettingUp("geeps_join")
        guard !tables.isEmpty else { throw .argument("a job needs at least one table") }
        var configuration = configuration
        try Option.check(configuration)
        if !hasKeeperCount { configuration.keeperCount = configuration.worldSize }
        configuration.tables = tables.map { TableLayout(name: $0.name, valueCount: $0.valueCount) }
        // The rule of the job has all the state that any table needs.
        configuration.tableOptimizers = tables.map(\.rule)
        configuration.optimizer =
            tables.map(\.rule).max {
                Node.stateNames(of: $0).count < Node.stateNames(of: $1).count
            } ?? configuration.optimizer
        let rates = tables.map(\.rates)
        configuration.learningRate = { rates[$0].rate(at: $1) }
        let device = try makeDevice(for: &configuration)
        configuration.isInPlace =
            configuration.worldSize == 1 && configuration.keeperCount == 1
            && deviceChoice == .host && configuration.staleness == .bulkSynchronous
        try device.perform { () throws(ABIError) in
            let joined = try launching { () throws(LaunchError) in
                try Node.join(configuration, device: device.device)
            }
            if case .cuda(_, let stream) = device { joined.client.setApplicationStream(stream) }
            for table in tables.indices { tables[table].batch = joined.client.batch(of: table) }
            node.withLock { $0 = joined }
        }
        self.configuration = configuration
        self.device = device
        phase = .joined
    }

    /// The device with its memory; rows on a GPU are always managed, at hand or not.
    private func makeDevice(for configuration: inout NodeConfiguration) throws(ABIError)
        -> JobDevice
    {
        let device = try JobDevice(deviceChoice)
        guard case .cuda = device else { return device }
        let budget = configuration.memory?.budgetBytes
        guard configuration.memory == nil || budget != nil else {
            throw .argument(
                "managed memory on \(deviceChoice) needs budget_bytes: the rest of the GPU's memory is the "
                    + "application's")
        }
        try device.perform { () throws(ABIError) in
            try device.reserve(
                tableBytes: configuration.tables.map(\.byteCount), budgetBytes: budget)
        }
        configuration.memory = configuration.memory ?? MemoryConfiguration()
        return device
    }

    /// The caller's kernels run on another stream from now on, behind what it has put on the one before.
    func setStream(_ handle: OpaquePointer?) throws(ABIError) {
        guard case .cuda(_, let stream) = device else {
            throw .argument("geeps_set_stream needs a joined job whose device is a GPU")
        }
        do throws(DeviceError) {
            try stream.follow(handle)
        } catch {
            throw ABIError(GEEPS_DEVICE_FAILED, error.message)
        }
    }

    // MARK: Joined

    /// The node, while there is one.
    func joined(for what: String) throws(ABIError) -> Node {
        if phase == .closed { throw ABIError(GEEPS_CLOSED, "\(what): the job has been closed") }
        guard let node = node.withLock({ $0 }) else {
            throw .argument("\(what) comes after geeps_join")
        }
        return node
    }

    func table(_ index: UInt32) throws(ABIError) -> Table {
        guard tables.indices.contains(Int(index)) else {
            throw .argument("table \(index): the job has \(tables.count)")
        }
        return tables[Int(index)]
    }

    func setRule(_ rule: OptimizerConfiguration, of index: UInt32) {
        tables[Int(index)].rule = rule
    }

    /// Waits until all clocks of `table` are applied, so that its keepers are quiet.
    func settled(_ index: UInt32, for what: String) throws(ABIError) -> Node {
        let node = try joined(for: what)
        guard configuration.staleness == .bulkSynchronous else {
            throw .argument("\(what) needs staleness 0, the job has \(configuration.staleness)")
        }
        let bound = configuration.waitTimeout
        let isFresh = try accessing { () throws(AccessError) in
            try node.client.waitUntilFresh(Int(index), within: bound)
        }
        guard isFresh else {
            throw ABIError(
                GEEPS_DEADLINE,
                "\(what): table \(tables[Int(index)].name) is not up to date after \(bound)")
        }
        return node
    }

    // MARK: Ends

    /// Whether everybody left in order.
    func close(within bound: Duration) -> Bool {
        guard let node = node.withLock({ $0 }) else {
            phase = .closed
            return true
        }
        guard phase == .joined else { return true }
        let isComplete = node.leave(within: bound)
        phase = .closed
        returned.withLock { $0.isOver = true }
        dropReturned()
        // The node stays, and with it the memory that somebody may still look at, until the handle is destroyed.
        return isComplete
    }

    /// Lets every wait fail; without the lock, which a waiting call holds.
    func abort(_ reason: String) {
        guard let node = node.withLock({ $0 }) else { return }
        node.client.fail(AccessError(.closed, reason))
        node.membership.abort(reason: reason)
    }

    /// Keeps a lease for the next call, which gives its memory back: that may not be done beside one.
    func takeBack(_ lease: Lease) {
        returned.withLock { if !$0.isOver { $0.leases.append(lease) } }
    }

    private func dropReturned() {
        let leases = returned.withLock { returned -> [Lease] in
            defer { returned.leases.removeAll() }
            return returned.leases
        }
        _ = consume leases
    }
}
