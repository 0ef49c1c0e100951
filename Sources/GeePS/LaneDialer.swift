internal import GeePSClient
internal import GeePSCore
internal import GeePSServer
internal import GeePSTransport
import Glibc
import Synchronization

/// Connects this worker to every keeper of the job, and again when a connection is lost.
struct LaneDialer: Sendable {
    let configuration: NodeConfiguration
    let processes: [ProcessDescription]
    let key: LaneKey
    /// The failure of the job, once it has one.
    let failure: @Sendable () -> PeerFailure?
    private let numbers = ConnectionNumbers()

    /// How long an attempt takes before it is asked whether all are still there and the lane is still wanted.
    private static let patience = Duration.milliseconds(500)
    /// Between connections that break before the lane is open.
    private static let pauseMicroseconds: UInt32 = 10_000

    init(
        configuration: NodeConfiguration, processes: [ProcessDescription], key: LaneKey,
        failure: @escaping @Sendable () -> PeerFailure?
    ) {
        self.configuration = configuration
        self.processes = processes
        self.key = key
        self.failure = failure
    }

    /// Numbers the connections of all lanes of this process: each is higher than those before.
    private final class ConnectionNumbers: Sendable {
        private let last = Atomic<UInt32>(0)
        func next() -> UInt32 { last.wrappingAdd(1, ordering: .relaxed).newValue }
    }

    /// When to give up.
    private struct Patience {
        let deadline: Deadline
        var isCalledOff: () -> Bool = { false }
    }

    /// Connections by keeper and lane; those to keepers of this process do not leave it.
    func connectAll(to server: Server, deadline: Deadline) throws(LaunchError)
        -> [[any Connection]]
    {
        var connections: [[any Connection]] = []
        for keeper in 0..<configuration.keeperCount {
            let owner = configuration.owner(ofKeeper: keeper)
            do throws(TransportError) {
                connections.append(
                    owner == configuration.rank
                        ? try connectInside(server, keeper: keeper)
                        : try connectOutside(keeper: keeper, Patience(deadline: deadline)))
            } catch {
                throw LaunchError(
                    error.code == .certificate ? .certificate : .address,
                    "lane to keeper \(keeper) of \(processes[owner].name): \(error.message)")
            }
        }
        return connections
    }

    /// How lanes get another connection.
    var repair: LaneRepair {
        LaneRepair(
            timeout: configuration.reconnectTimeout,
            dial: { (place, deadline, isCalledOff) throws(TransportError) in
                try withoutActuallyEscaping(isCalledOff) { isCalledOff throws(TransportError) in
                    try open(place, Patience(deadline: deadline, isCalledOff: isCalledOff))
                }
            },
            log: configuration.control.log)
    }

    /// A lane for each of the keeper's threads: what one of them works at keeps its lane waiting.
    private func connectInside(_ server: Server, keeper: Int) throws(TransportError)
        -> [any Connection]
    {
        var lanes: [any Connection] = []
        for lane in 0..<server.keeperThreads {
            let (near, far) = InProcess.pair(
                names: ("rank \(configuration.rank)", "keeper \(keeper)"),
                options: configuration.transport)
            try server.serve(
                far, worker: configuration.rank, keeper: keeper, lane: lane,
                laneCount: server.keeperThreads)
            lanes.append(near)
        }
        return lanes
    }

    private func connectOutside(keeper: Int, _ patience: Patience) throws(TransportError)
        -> [any Connection]
    {
        let first = try call(keeper, configuration.carrier, patience)
        let laneCount = configuration.laneCount ?? defaultLaneCount(first.carrier)
        var lanes: [any Connection] = []
        for lane in 0..<laneCount {
            let place = LanePlace(
                keeper: keeper, lane: lane, laneCount: laneCount, carrier: first.carrier)
            lanes.append(try open(place, using: lane == 0 ? first : nil, patience))
        }
        return lanes
    }

    /// Makes a connection and has it accepted as the lane's newest; again while it breaks in between.
    private func open(
        _ place: LanePlace, using made: (any Connection)? = nil, _ patience: Patience
    ) throws(TransportError) -> any Connection {
        var connection = made
        while true {
            do throws(TransportError) {
                let attempt: any Connection
                if let connection {
                    attempt = connection
                } else {
                    attempt = try call(place.keeper, .fixed(place.carrier), patience)
                }
                connection = attempt
                try introduce(attempt, place, patience)
                return attempt
            } catch {
                connection?.close()
                connection = nil
                guard error.code == .lost, failure() == nil, !patience.deadline.hasPassed,
                    !patience.isCalledOff()
                else { throw error }
                usleep(Self.pauseMicroseconds)
            }
        }
    }

    private func call(
        _ keeper: Int, _ carrier: CarrierChoice, _ patience: Patience
    ) throws(TransportError) -> any Connection {
        let owner = configuration.owner(ofKeeper: keeper)
        let endpoint = try Endpoint(decoding: processes[owner].endpoint)
        var options = configuration.transport
        options.peerName = "rank \(owner)"
        return try whileAllLive(patience) { (deadline) throws(TransportError) in
            try dial(endpoint, carrier: carrier, options: options, deadline: deadline)
        }
    }

    /// Tries until it works or the time is up, and gives up when the job fails: a peer that has died
    /// answers to nobody.
    private func whileAllLive<R: ~Copyable>(
        _ patience: Patience, _ attempt: (Deadline) throws(TransportError) -> R
    ) throws(TransportError) -> R {
        while true {
            do throws(TransportError) {
                return try attempt(min(patience.deadline, .after(Self.patience)))
            } catch {
                if let failure = failure() { throw TransportError(.lost, "\(failure)") }
                let mayWork = error.code == .unreachable || error.code == .deadline
                guard mayWork, !patience.deadline.hasPassed, !patience.isCalledOff() else {
                    throw error
                }
            }
        }
    }

    /// Several sockets share the kernel's copying between cores where there are cores to spare.
    ///
    /// On two cores four are no faster than one (measured). Several keepers are parallel already.
    private func defaultLaneCount(_ carrier: Carrier) -> Int {
        switch carrier {
        case .tcp, .tls, .unixSocket: max(1, 4 / configuration.keeperCount)
        case .sharedMemory, .inProcess, .ucx: 1
        }
    }

    private func introduce(
        _ connection: any Connection, _ place: LanePlace, _ patience: Patience
    ) throws(TransportError) {
        var hello = FrameHeader(.hello)
        hello.sender = UInt32(configuration.rank)
        hello.table = numbers.next()
        hello.tick = UInt64(place.lane)
        hello.second = UInt64(place.laneCount)
        hello.third = UInt64(place.keeper)
        hello.rowCount = LaneWay(of: connection).rawValue
        try whileAllLive(patience) { (deadline) throws(TransportError) in
            try connection.establish(deadline: deadline)
        }
        try LaneHandshake.open(connection, hello: hello, key: key) { () throws(TransportError) in
            try whileAllLive(patience) { (deadline) throws(TransportError) in
                try connection.receive(deadline: deadline)
            }
        }
        try LaneWay.leave(connection, .caller, key: key, deadline: patience.deadline)
    }
}
