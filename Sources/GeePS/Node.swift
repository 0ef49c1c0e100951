public import GeePSClient
internal import GeePSCore
public import GeePSDevice
internal import GeePSMemory
public import GeePSServer
internal import GeePSTransport

/// A process's part in a job: a worker, its share of the keepers, and the connections between all.
///
/// `join` returns when every process is there and connected. From then on a process that dies, or is silent
/// for too long, makes every wait of every other process fail with its name.
public final class Node: Sendable {
    /// The worker's side.
    ///
    /// - Precondition: this process works, and does not only keep.
    public var client: Client {
        guard let worker else { preconditionFailure("rank \(membership.rank) only keeps rows") }
        return worker
    }
    let worker: Client?
    /// Who is in the job.
    public let membership: Membership
    /// By keeper: how its rows travel to this worker; empty where they are used in place.
    public let carriers: [String]
    let server: Server
    let configuration: NodeConfiguration
    private let acceptor: LaneAcceptor?
    private let statusSocket: StatusSocket?

    private init(
        worker: Client?, membership: Membership, carriers: [String], server: Server,
        acceptor: LaneAcceptor?, configuration: NodeConfiguration
    ) {
        self.configuration = configuration
        self.worker = worker
        self.membership = membership
        self.carriers = carriers
        self.server = server
        self.acceptor = acceptor
        let source = StatusSource(
            configuration: configuration, processes: membership.processes, worker: worker,
            server: server)
        membership.setStatusSource { source.status().encoded() }
        statusSocket = source.serve(for: membership)
    }

    /// Joins the job of `configuration`.
    ///
    /// - Throws: who is missing, who disagrees, or what cannot be reached or allocated. The others are told.
    public static func join(
        _ configuration: NodeConfiguration, device: any Device
    ) throws(LaunchError) -> Node {
        let deadline = Deadline.after(configuration.joinTimeout)
        let configuration = try prepared(configuration, deadline: deadline)
        let listener = try listen(configuration)
        let description = ProcessDescription(
            rank: configuration.rank, endpoint: listener?.endpoint.encoded() ?? [],
            agreement: configuration.fullAgreement)
        let membership = try Rendezvous.join(
            rank: configuration.rank, worldSize: configuration.worldSize,
            address: configuration.rendezvous, description: description,
            timeout: configuration.joinTimeout, settings: configuration.control)
        do throws(LaunchError) {
            return try connect(
                configuration, device: device, listener: listener, membership: membership,
                deadline: deadline)
        } catch {
            listener?.close()
            let failure = error.code == .address ? membership.awaitFailure() : membership.failure
            if failure == nil { membership.abort(reason: error.message) }
            membership.leave(within: .seconds(1))
            throw failure.map { LaunchError(.peerLost, "\($0)") } ?? error
        }
    }

    /// Keepers of this process.
    public var ownKeepers: [Int] { configuration.ownKeepers }

    /// Copies rows and optimiser state of this process's keepers as they are after `tick`, while training goes on.
    ///
    /// All processes ask for the same ticks, each before its worker's clock `tick`, and when the copies of the
    /// last cut are not read any more. `Server.cut` says more.
    ///
    /// - Parameter onShard: gets the copy of each keeper, on one of its threads, or why there is none.
    public func cut(
        at tick: UInt64,
        onShard: @escaping @Sendable (_ keeper: Int, Result<ShardCapture, RowStoreError>) -> Void
    ) {
        for keeper in ownKeepers {
            do throws(RowStoreError) {
                try server.cut(keeper: keeper, at: tick) { onShard(keeper, .success($0)) }
            } catch {
                onShard(keeper, .failure(error))
            }
        }
    }

    /// Ends this process's part: says goodbye to the keepers, waits until all workers have, ends all threads.
    ///
    /// - Returns: whether everybody left in order.
    @discardableResult
    public func leave(within bound: Duration = .seconds(600)) -> Bool {
        worker?.close()
        let isComplete = membership.leave(within: bound)
        statusSocket?.close()
        acceptor?.close()
        server.close()
        return isComplete
    }

    /// The configuration with the secret found, once, and with an interface.
    private static func prepared(
        _ configuration: NodeConfiguration, deadline: Deadline
    ) throws(LaunchError) -> NodeConfiguration {
        guard configuration.worldSize > 1 else { return configuration }
        var configuration = configuration
        configuration.control.isGone = { process in
            guard let endpoint = try? Endpoint(decoding: process.endpoint) else { return false }
            return ControlSocket.isRefused(
                at: ControlAddress(host: endpoint.host, port: endpoint.port),
                deadline: .after(.milliseconds(250)))
        }
        configuration.control.secret = try configuration.control.knownSecret()
        configuration.control.tlsContext = try configuration.control.knownTLS()
        configuration.transport.tls = configuration.control.tlsContext
        if configuration.interface == NodeConfiguration.automaticInterface {
            configuration.interface = try ControlSocket.localAddress(
                toward: ControlAddress(parsing: configuration.rendezvous), deadline: deadline)
        } else {
            configuration.control.interface =
                configuration.control.interface ?? configuration.interface
        }
        return configuration
    }

    private static func listen(_ configuration: NodeConfiguration) throws(LaunchError)
        -> Listener?
    {
        guard configuration.worldSize > 1 else { return nil }
        do throws(TransportError) {
            return try Listener(
                address: configuration.interface, port: configuration.port,
                options: configuration.transport)
        } catch {
            throw LaunchError(.address, error.message)
        }
    }

    private static func connect(
        _ configuration: NodeConfiguration, device: any Device, listener: Listener?,
        membership: Membership, deadline: Deadline
    ) throws(LaunchError) -> Node {
        var restored: RestoredRows?
        if let restore = configuration.restore { restored = try restore(membership) }
        // What was read may have taken long.
        let deadline = restored == nil ? deadline : .after(configuration.joinTimeout)
        let server = try makeServer(
            configuration, restored: restored, membership: membership)
        let key = try LaneKey.agree(
            membership, secret: configuration.control.secret ?? JobSecret(), deadline: deadline)
        let acceptor = listener.map {
            LaneAcceptor(
                listener: $0, server: server, key: key, log: configuration.control.log)
        }
        do throws(LaunchError) {
            var connections: [[any Connection]] = []
            var worker: Client?
            if configuration.rank < configuration.workers {
                let dialer = LaneDialer(
                    configuration: configuration, processes: membership.processes, key: key,
                    // Weak: the membership's failure handler holds the worker, which holds this.
                    failure: { [weak membership] in membership?.failure })
                if !configuration.isInPlace {
                    connections = try dialer.connectAll(to: server, deadline: deadline)
                }
                worker = try makeClient(
                    configuration, device: device, connections: connections,
                    keeperInPlace: server.keeperInPlace, repair: dialer.repair,
                    firstTick: Tick(restored?.tick ?? 0))
            }
            membership.onFailure { [worker] failure in
                worker?.fail(AccessError(.peerLost, failure.description))
            }
            return Node(
                worker: worker, membership: membership,
                carriers: connections.map { "\($0[0].carrier.rawValue) x\($0.count)" },
                server: server, acceptor: acceptor, configuration: configuration)
        } catch {
            acceptor?.close()
            server.close()
            throw error
        }
    }

    private static func makeServer(
        _ configuration: NodeConfiguration, restored: RestoredRows?, membership: Membership
    ) throws(LaunchError) -> Server {
        var keeping = ServerConfiguration(
            map: configuration.map, workerCount: configuration.workers,
            staleness: configuration.staleness, optimizer: configuration.optimizer,
            keeperThreads: configuration.keeperThreads)
        keeping.restored = restored
        keeping.tableOptimizers = configuration.tableOptimizers
        keeping.isInPlace = configuration.isInPlace
        do throws(RowStoreError) {
            return try Server(
                configuration: keeping,
                keepers: configuration.ownKeepers
            ) { [weak membership] worker, error in
                // Who is gone, the control plane tells; here is what it cannot notice.
                guard error.code == .malformed, let membership else { return }
                configuration.control.log(error.message)
                let name = membership.processes[worker].name
                membership.abort(reason: "\(name) broke the protocol: \(error.message)")
            }
        } catch {
            throw LaunchError(.system, "\(error)")
        }
    }

    private static func makeClient(
        _ configuration: NodeConfiguration, device: any Device, connections: [[any Connection]],
        keeperInPlace: (any KeeperInPlace)?, repair: LaneRepair, firstTick: Tick
    ) throws(LaunchError) -> Client {
        var working = ClientConfiguration(
            map: configuration.map, rank: configuration.rank,
            staleness: configuration.staleness, waitTimeout: configuration.waitTimeout,
            memory: configuration.memory, learningRate: configuration.learningRates)
        working.firstTick = firstTick
        working.repair = repair
        working.keeperInPlace = keeperInPlace
        working.refreshesReads = configuration.refreshesReads
        do throws(AccessError) {
            return try Client(
                configuration: working, device: device, connections: connections)
        } catch {
            throw LaunchError(.system, error.message)
        }
    }
}
