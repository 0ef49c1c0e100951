public import GeePSCore

/// A lane as it is named towards the keeper.
public struct LanePlace: Hashable, Sendable {
    /// The keeper it leads to.
    public var keeper: Int
    /// Which of the worker's lanes to that keeper.
    public var lane: Int
    /// How many there are.
    public var laneCount: Int
    /// How its frames travel.
    public var carrier: Carrier

    /// A place.
    public init(keeper: Int, lane: Int, laneCount: Int, carrier: Carrier) {
        self.keeper = keeper
        self.lane = lane
        self.laneCount = laneCount
        self.carrier = carrier
    }
}

/// How lanes whose connection is lost get another.
public struct LaneRepair: Sendable {
    /// Most time from the loss until both sides know again what the other has; then the lane has failed.
    public var timeout: Duration
    /// Makes a connection on which only the resume points remain to be said.
    ///
    /// Waits until the deadline, and ends soon after the closure says that nobody wants it any more. Called by the
    /// lane's puller.
    public var dial:
        @Sendable (LanePlace, Deadline, _ isCalledOff: () -> Bool) throws(TransportError) ->
            any Connection
    /// Takes a line for each lane that was mended.
    public var log: @Sendable (String) -> Void

    /// A way to mend lanes.
    public init(
        timeout: Duration,
        dial:
            @escaping @Sendable (LanePlace, Deadline, _ isCalledOff: () -> Bool)
            throws(TransportError) -> any Connection,
        log: @escaping @Sendable (String) -> Void
    ) {
        self.timeout = timeout
        self.dial = dial
        self.log = log
    }
}

/// How often and for how long lanes were without a connection.
public struct RepairCounters: Hashable, Sendable {
    /// Connections made in place of lost ones.
    public var reconnects: UInt64 = 0
    /// Nanoseconds from the loss until the lane went on, all lanes together.
    public var nanoseconds: UInt64 = 0

    /// No loss.
    public init() {}

    static func + (a: RepairCounters, b: RepairCounters) -> RepairCounters {
        var sum = a
        sum.reconnects += b.reconnects
        sum.nanoseconds += b.nanoseconds
        return sum
    }
}

// What happens when a connection is lost.
extension Lane {
    /// A time without a connection, which may take several attempts to end.
    struct Outage {
        let cause: TransportError
        let begun: UInt64
        let deadline: Deadline
        var attempts = 0
    }

    /// Between attempts: doubled from the first to the last.
    private static let pauseFirst: UInt64 = 1_000_000
    private static let pauseLast: UInt64 = 200_000_000

    /// The pusher could not send: the connection is closed, so that the puller notices.
    func lose(_ connection: any Connection, _ error: TransportError) {
        signal.withLock {
            state.isSending = false
            if state.link === connection { state.link = nil }
            if state.loss == nil { state.loss = error }
            signal.wakeAll()
        }
        connection.close()
    }

    /// Makes a connection in place of `connection`; nil when the lane is over or cannot be mended, which is then
    /// reported.
    func mend(
        _ connection: any Connection, after error: TransportError, _ outage: inout Outage?
    ) -> (any Connection)? {
        connection.close()
        guard let cause = retire(connection, error) else { return nil }
        guard let repair, isOutside, cause.code != .malformed else {
            report(cause)
            return nil
        }
        var current =
            outage
            ?? Outage(
                cause: cause, begun: monotonicNanoseconds(), deadline: .after(repair.timeout))
        defer { outage = current }
        guard pause(&current) else { return nil }
        do throws(TransportError) {
            let place = LanePlace(
                keeper: keeper, lane: laneIndex, laneCount: laneCount, carrier: first.carrier)
            let next = try repair.dial(place, current.deadline) {
                signal.withLock { state.isOver }
            }
            guard adopt(next) else { return nil }
            return next
        } catch {
            report(
                TransportError(
                    .lost,
                    "\(current.cause.message); it was not made anew within \(repair.timeout): "
                        + "\(error.message)"))
            return nil
        }
    }

    /// Takes `connection` out of use and waits until the pusher has left it; it is closed, so that is soon.
    ///
    /// - Returns: why it was lost; nil when the lane is over.
    private func retire(_ connection: any Connection, _ error: TransportError) -> TransportError? {
        signal.withLock {
            state.link = nil
            while state.isSending { _ = signal.wait() }
            defer { state.loss = nil }
            if state.isOver { return nil }
            // Closed by the pusher: it knows why.
            return error.code == .closed ? state.loss ?? error : error
        }
    }

    /// Waits a little longer before each attempt but the first; false when the lane is over.
    private func pause(_ outage: inout Outage) -> Bool {
        let shift = min(outage.attempts, 20)
        let pause = shift == 0 ? 0 : min(Self.pauseFirst << UInt64(shift), Self.pauseLast)
        outage.attempts += 1
        let end = min(
            Deadline(nanoseconds: monotonicNanoseconds() + pause), outage.deadline)
        return signal.withLock {
            while !state.isOver, !end.hasPassed { _ = signal.wait(until: end) }
            return !state.isOver
        }
    }

    /// Makes `connection` the lane's, unless the lane is over.
    private func adopt(_ connection: any Connection) -> Bool {
        let isWanted = signal.withLock {
            guard !state.isOver else { return false }
            state.bytesSentBefore += state.connection.bytesSent
            state.bytesReceivedBefore += state.connection.bytesReceived
            state.connection = connection
            return true
        }
        if !isWanted { connection.close() }
        return isWanted
    }

    /// The lane goes on.
    func noteMended(_ outage: Outage) {
        let nanoseconds = monotonicNanoseconds() - outage.begun
        let count = signal.withLock {
            state.repairs.reconnects += 1
            state.repairs.nanoseconds += nanoseconds
            return state.repairs.reconnects
        }
        repair?.log(
            "lane \(laneIndex) of rank \(rank) to keeper \(keeper) was lost and is there again after "
                + "\(nanoseconds / 1_000_000) ms (number \(count)): \(outage.cause.message)")
    }
}
