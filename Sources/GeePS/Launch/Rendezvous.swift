import GeePSCore
import Glibc

/// Where the processes of a job find each other.
public enum Rendezvous {
    /// Joins the job: waits until all `worldSize` processes are at `address`, in any order of start.
    ///
    /// - Parameters:
    ///   - rank: this process's place; rank 0 listens, the others connect.
    ///   - worldSize: processes in the job, at most 4096.
    ///   - address: "host:port" of rank 0, the same everywhere.
    ///   - description: this process, with `rank` as its rank.
    ///   - timeout: how long to wait for all.
    ///   - settings: times and the log.
    /// - Throws: who is missing after the timeout, two processes of one rank, different world sizes or
    ///   agreements with both sides, or an address that does not work. Rank 0 tells its reason to those
    ///   who are there.
    public static func join(
        rank: Int, worldSize: Int, address: String, description: ProcessDescription,
        timeout: Duration, settings: ControlSettings = ControlSettings()
    ) throws(LaunchError) -> Membership {
        let deadline = Deadline.after(timeout)
        try check(rank: rank, worldSize: worldSize, description)
        let place = try ControlAddress(parsing: address)
        guard place.port > 0 || rank == 0 else {
            throw LaunchError(
                .address, "rank \(rank) cannot connect to port 0 of \(address); give rank 0's port")
        }
        let request = JoinRequest(
            worldSize: worldSize, identity: .random(in: .min ... .max), process: description)
        var settings = settings
        if worldSize > 1 {
            settings.secret = try settings.knownSecret()
            settings.tlsContext = try settings.knownTLS()
        }
        return rank == 0
            ? try host(request, place, timeout, deadline, settings)
            : try enter(request, place, timeout, deadline, settings)
    }

    /// Whether the network leads to the host of `address`: somebody listens there, or the host says that nobody does.
    ///
    /// Nothing is sent but what opens a connection. The look-up of a name may take longer than `patience`.
    public static func isReachable(_ address: String, within patience: Duration) -> Bool {
        guard let place = try? ControlAddress(parsing: address) else { return false }
        return ControlSocket.isReachable(place, deadline: .after(patience))
    }

    /// Tells the others that this process cannot take part, in place of `join`: a wrong file here is no
    /// reason for them to wait until their patience ends.
    ///
    /// Does what it can within `patience`: who starts later, or waits elsewhere, is not reached.
    ///
    /// - Parameter pid: of the process that cannot take part; nil for this one.
    public static func decline(
        rank: Int, worldSize: Int, address: String, reason: String, pid: UInt32? = nil,
        patience: Duration = .seconds(5), settings: ControlSettings = ControlSettings()
    ) {
        var process = ProcessDescription(rank: rank, endpoint: [], agreement: "")
        process.pid = pid ?? process.pid
        guard worldSize > 1, let place = try? ControlAddress(parsing: address), place.port > 0,
            (try? check(rank: rank, worldSize: worldSize, process)) != nil,
            let secret = try? settings.knownSecret(),
            let tls = try? Optional.some(settings.knownTLS())
        else { return }
        let deadline = Deadline.after(patience)
        let request = JoinRequest(
            worldSize: worldSize, identity: .random(in: .min ... .max), process: process)
        guard rank == 0 else {
            var guest = RendezvousGuest(
                request: request, address: place, secret: secret, tls: tls, timeout: patience,
                deadline: deadline)
            return guest.decline(reason)
        }
        var settings = settings
        settings.secret = secret
        settings.tlsContext = tls
        settings.listenPatience = patience
        settings.refusalLinger = patience
        let error = LaunchError(
            .peerLost, "\(process.name) could not take part in the job: \(reason)")
        RendezvousHost(
            request: request, secret: secret, timeout: patience, deadline: deadline,
            settings: settings
        ).declineAll(error, at: place)
    }

    /// How long one attempt to come back after a lost connection may take.
    private static let redialPatience = Duration.seconds(1)

    private static func host(
        _ request: JoinRequest, _ address: ControlAddress, _ timeout: Duration,
        _ deadline: Deadline, _ settings: ControlSettings
    ) throws(LaunchError) -> Membership {
        let host = RendezvousHost(
            request: request, secret: settings.secret ?? JobSecret(), timeout: timeout,
            deadline: deadline, settings: settings)
        let (guests, listener) = try host.gather(at: address)
        let (near, far) = try ControlSocket.pair()
        let limit = ControlLimits.payloadBytes
        let own = ControlLink(near, sender: 0, peer: "rank 0", payloadLimit: limit)
        let link = ControlLink(far, sender: 0, peer: "the coordinator", payloadLimit: limit)
        let processes = [request.process] + guests.map(\.process)
        let coordinator = try Coordinator(
            processes,
            sessions: [ControlSession(own, identity: request.identity)]
                + guests.map { ControlSession($0.link, identity: $0.identity) },
            listener: listener, settings: settings)
        let member = try Member(
            rank: 0, processes: processes,
            session: ControlSession(link, identity: request.identity), settings: settings)
        // Last, when nothing can fail here any more.
        let roster = ControlMessage.roster(processes)
        for guest in guests { guest.link.send(roster) }
        return Membership(
            rank: 0, processes: processes, member: member, coordinator: coordinator)
    }

    private static func enter(
        _ request: JoinRequest, _ address: ControlAddress, _ timeout: Duration,
        _ deadline: Deadline, _ settings: ControlSettings
    ) throws(LaunchError) -> Membership {
        var guest = RendezvousGuest(
            request: request, address: address, secret: settings.secret ?? JobSecret(),
            tls: settings.tlsContext, timeout: timeout, deadline: deadline)
        let welcome = try guest.enter()
        let member = try Member(
            rank: request.process.rank, processes: welcome.processes,
            session: ControlSession(welcome.link, identity: request.identity),
            early: welcome.early, settings: settings
        ) { heard in
            RendezvousGuest(
                request: request, address: address, secret: settings.secret ?? JobSecret(),
                tls: settings.tlsContext, timeout: Self.redialPatience,
                deadline: .after(Self.redialPatience)
            ).comeBack(heard: heard)
        }
        return Membership(
            rank: request.process.rank, processes: welcome.processes, member: member,
            coordinator: nil)
    }

    private static func check(
        rank: Int, worldSize: Int, _ process: ProcessDescription
    ) throws(LaunchError) {
        guard (1...Limits.workersMaximum).contains(worldSize) else {
            throw LaunchError(
                .worldSize, "a world size of \(worldSize), expected 1 to \(Limits.workersMaximum)")
        }
        guard (0..<worldSize).contains(rank), process.rank == rank else {
            throw LaunchError(
                .rank,
                "rank \(rank) with a description of rank \(process.rank), expected both equal and "
                    + "0 to \(worldSize - 1)")
        }
        let sizes = [
            ("host name", process.host.utf8.count, ControlLimits.hostBytes),
            ("endpoint", process.endpoint.count, ControlLimits.endpointBytes),
            ("agreement text", process.agreement.utf8.count, ControlLimits.agreementBytes),
        ]
        for (what, size, limit) in sizes where size > limit {
            throw LaunchError(.argument, "the \(what) has \(size) bytes, at most \(limit) fit")
        }
    }
}

/// Writes a line to standard error.
public let logToStandardError: @Sendable (String) -> Void = { line in
    let bytes = Array("geeps: \(line)\n".utf8)
    _ = write(STDERR_FILENO, bytes, bytes.count)
}
