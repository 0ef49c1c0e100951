public import GeePSClient
internal import GeePSCore
public import GeePSDevice
internal import GeePSMemory
internal import GeePSServer
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
    private let worker: Client?
    /// Who is in the job.
    public let membership: Membership
    /// By keeper: how its rows travel to this worker.
    public let carriers: [String]
    let server: Server
    let configuration: NodeConfiguration
    private let acceptor: LaneAcceptor?

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
    }

    /// Joins the job of `configuration`.
    ///
    /// - Throws: who is missing, who disagrees, or what cannot be reached or allocated. The others are told.
    public static func join(
        _ configuration: NodeConfiguration, device: any Device
    ) throws(LaunchError) -> Node {
        let deadline = Deadline.after(configuration.joinTimeout)
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

    /// Ends this process's part: says goodbye to the keepers, waits until all workers have, ends all threads.
    ///
    /// - Returns: whether everybody left in order.
    @discardableResult
    public func leave(within bound: Duration = .seconds(600)) -> Bool {
        worker?.close()
        let isComplete = membership.leave(within: bound)
        acceptor?.close()
        server.close()
        return isComplete
    }

    private static func listen(_ configuration: NodeConfiguration) throws(LaunchError)
        -> Listener?
    {
        guard configuration.worldSize > 1 else { return nil }
        do throws(TransportError) {
            return try Listener(address: configuration.interface, port: configuration.port)
        } catch {
            throw LaunchError(.address, error.message)
        }
    }

    private static func connect(
        _ configuration: NodeConfiguration, device: any Device, listener: Listener?,
        membership: Membership, deadline: Deadline
    ) throws(LaunchError) -> Node {
        let server = try makeServer(configuration, membership: membership)
        let token = try LaneToken.agree(membership, deadline: deadline)
        let acceptor = listener.map {
            LaneAcceptor(
                listener: $0, server: server, token: token, log: configuration.control.log)
        }
        do throws(LaunchError) {
            var connections: [[any Connection]] = []
            var worker: Client?
            if configuration.rank < configuration.workers {
                connections = try LaneDialer(
                    configuration: configuration, membership: membership, token: token,
                    deadline: deadline
                ).connectAll(to: server)
                worker = try makeClient(configuration, device: device, connections: connections)
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
        _ configuration: NodeConfiguration, membership: Membership
    ) throws(LaunchError) -> Server {
        do throws(RowStoreError) {
            var server = ServerConfiguration(
                map: configuration.map, workerCount: configuration.workers,
                staleness: configuration.staleness, optimizer: configuration.optimizer,
                keeperThreads: configuration.keeperThreads)
            server.tableOptimizers = configuration.tableOptimizers
            return try Server(
                configuration: server,
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
        _ configuration: NodeConfiguration, device: any Device, connections: [[any Connection]]
    ) throws(LaunchError) -> Client {
        do throws(AccessError) {
            return try Client(
                configuration: ClientConfiguration(
                    map: configuration.map, rank: configuration.rank,
                    staleness: configuration.staleness, waitTimeout: configuration.waitTimeout,
                    memory: configuration.memory,
                    learningRate: configuration.learningRates),
                device: device, connections: connections)
        } catch {
            throw LaunchError(.system, error.message)
        }
    }
}
