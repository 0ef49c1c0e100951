import GeePSCore
import GeePSTransport
import Glibc

/// How rank 0 gathers the others: accepts whoever comes, hears who they are, drops who is not of the job.
///
/// One thread waits for all connections together, so that none can hold up another.
final class RendezvousHost {
    /// A process that has joined.
    struct Guest {
        let link: ControlLink
        let process: ProcessDescription
        let identity: UInt64
    }

    private let request: JoinRequest
    private let secret: JobSecret
    private let strangers: Strangers
    private let timeout: Duration
    private let deadline: Deadline
    private let settings: ControlSettings
    // Those who have said what they want and were not heard yet.
    private var callers: [Strangers.Caller] = []
    // By rank; rank 0's place stays empty. `departed` joined and went away again.
    private var guests: [Guest?]
    private var departed: [ProcessDescription?]
    // The first process of the job that said it would not come.
    private var declined: ProcessDescription?
    private var isNews = false

    init(
        request: JoinRequest, secret: JobSecret, timeout: Duration, deadline: Deadline,
        settings: ControlSettings
    ) {
        self.request = request
        self.secret = secret
        strangers = Strangers(
            secret: secret, worldSize: request.worldSize, settings: settings,
            consolation: "waiting on for the job's ranks")
        self.timeout = timeout
        self.deadline = deadline
        self.settings = settings
        guests = Array(repeating: nil, count: request.worldSize)
        departed = Array(repeating: nil, count: request.worldSize)
    }

    /// Waits for all other ranks.
    ///
    /// - Returns: ranks 1 and up, in order; each waits for the roster. And where they have come to.
    /// - Throws: what everybody who is there has been told too.
    func gather(at address: ControlAddress) throws(LaunchError) -> ([Guest], Descriptor?) {
        guard request.worldSize > 1 else { return ([], nil) }
        let (listener, port) = try listen(at: address)
        let place = try ControlAddress(parsing: "\(bracketed(address.host)):\(port)")
        settings.onListening(place.description)
        defer { strangers.report() }
        do throws(LaunchError) {
            while !missing.isEmpty {
                guard !deadline.hasPassed else { throw timeoutError(at: place) }
                try turn(listener, until: deadline)
                if isNews { tellWhoIsMissing() }
            }
        } catch {
            refuse(error, listener: listener)
            throw error
        }
        return (guests.compactMap { $0 }, listener)
    }

    /// Listens for those who come, and tells them that the job does not start.
    ///
    /// Ends when all have been told or the linger time of the settings is over.
    func declineAll(_ error: LaunchError, at address: ControlAddress) {
        guard request.worldSize > 1, let (listener, _) = try? listen(at: address) else { return }
        refuse(error, listener: listener)
    }

    private var missing: [Int] { guests.indices.dropFirst().filter { guests[$0] == nil } }

    private func bracketed(_ host: String) -> String { host.contains(":") ? "[\(host)]" : host }

    private func listen(at address: ControlAddress) throws(LaunchError) -> (Descriptor, UInt16) {
        let patience = min(deadline, .after(settings.listenPatience))
        while true {
            do {
                return try ControlSocket.listen(at: address, orAt: settings.interface)
            } catch {
                guard patience.hasPassed else {
                    usleep(50_000)
                    continue
                }
                throw LaunchError(
                    error.code,
                    "rank 0 cannot listen at \(address): \(error.message); is another job using "
                        + "the port, or another process rank 0 as well?")
            }
        }
    }

    /// Waits for something to happen and takes it in.
    private func turn(_ listener: Descriptor, until end: Deadline) throws(LaunchError) {
        var items = [pollfd(fd: listener.number, events: Int16(POLLIN), revents: 0)]
        items += strangers.pollItems + guests.compactMap { $0?.link.pollItem }
        let due = strangers.due.map { min($0, end) } ?? end
        ControlSocket.wait(&items, count: items.count, until: due)
        for guest in guests { if let guest { attend(guest) } }
        // Before accepting: who has said enough makes room.
        callers += strangers.hear()
        while !callers.isEmpty { try attend(callers.removeFirst()) }
        try strangers.takeCallers(listener)
    }

    /// A guest may only wait; one that ends is missing again.
    private func attend(_ guest: Guest) {
        let rank = guest.process.rank
        guest.link.flush()
        do {
            let messages = try guest.link.receive()
            guard messages.contains(where: { !$0.isOptional }) || guest.link.ending != nil else {
                return
            }
        } catch {
            strangers.turnAway(guest.link, error.description)
        }
        guests[rank] = nil
        departed[rank] = guest.process
        isNews = true
    }

    private func attend(_ caller: Strangers.Caller) throws(LaunchError) {
        switch caller.wish {
        case .join(let join): try admit(join, caller.link)
        case .decline(let process, let reason):
            declined = process
            throw LaunchError(
                .peerLost, "\(process.name) could not take part in the job: \(reason)")
        case .rejoin: sendBack(caller.link)
        }
    }

    /// A process of an earlier job that was at this port: its job is over.
    private func sendBack(_ link: ControlLink) {
        link.send(
            .refusal(LaunchError(.peerLost, "rank 0 of this job is gone; another job begins here")))
    }

    private func admit(_ join: JoinRequest, _ link: ControlLink) throws(LaunchError) {
        let newcomer = Guest(link: link, process: join.process, identity: join.identity)
        link.peer = join.process.name
        if let error = objection(to: join) {
            link.send(.refusal(error))
            refused.append(newcomer)
            throw error
        }
        link.payloadLimit = ControlLimits.payloadBytes
        guests[join.process.rank] = newcomer
        departed[join.process.rank] = nil
        isNews = true
    }

    // Guests that were told why they are refused; kept open until the words have arrived.
    private var refused: [Guest] = []

    private func objection(to join: JoinRequest) -> LaunchError? {
        let own = request.process
        let other = join.process
        guard join.worldSize == request.worldSize else {
            return LaunchError(
                .worldSize,
                "\(other.name) was started for a world size of \(join.worldSize), "
                    + "\(own.name) for \(request.worldSize)")
        }
        guard other.rank < request.worldSize else {
            return LaunchError(
                .rank,
                "\(other.name) joined a job whose ranks are 0 to \(request.worldSize - 1)")
        }
        let holder = other.rank == 0 ? own : guests[other.rank]?.process
        if let holder, guests[other.rank]?.identity != join.identity {
            return LaunchError(
                .rank,
                "two processes joined as rank \(other.rank): \(holder.name) and \(other.name); "
                    + "each process needs a rank of its own")
        }
        let differences = agreementDifferences(
            own.agreement, of: "rank 0", other.agreement, of: "rank \(other.rank)")
        guard !differences.isEmpty else { return nil }
        let shown = differences.prefix(40).map { "\n  \($0)" }.joined()
        let hidden =
            differences.count > 40 ? "\n  and \(differences.count - 40) more lines" : ""
        return LaunchError(
            .disagreement, "\(own.name) and \(other.name) do not agree:\(shown)\(hidden)")
    }

    private func tellWhoIsMissing() {
        isNews = false
        let ranks = missing
        guard !ranks.isEmpty else { return }
        for guest in guests { guest?.link.send(.waiting(missing: ranks)) }
    }

    private func timeoutError(at place: ControlAddress) -> LaunchError {
        let time = secondsText(nanoseconds: timeout.nanoseconds)
        var error = missingError(missing, of: request.worldSize, at: place, within: time)
        for rank in missing {
            guard let process = departed[rank] else { continue }
            error.message += "; \(process.name) had joined but went away"
        }
        if strangers.impostors > 0 {
            error.message +=
                "; \(strangers.impostors) connections did not know \(secret): all processes "
                + "need the same"
        }
        if let refusal = strangers.tlsRefusal {
            error.message += "; TLS refused a connection: \(refusal)"
        }
        return error
    }

    /// Tells everybody who is there, and for a while those who still come, why the job does not start.
    private func refuse(_ error: LaunchError, listener: Descriptor) {
        for guest in guests { guest?.link.send(.refusal(error)) }
        var told = Set(refused.map(\.process.rank))
        for guest in guests { if let guest { told.insert(guest.process.rank) } }
        let linger = Deadline.after(error.code == .timeout ? .zero : settings.refusalLinger)
        if let declined { told.insert(declined.rank) }
        for caller in callers { tell(error, caller, &told) }
        while told.count < request.worldSize - 1 && !linger.hasPassed {
            var items = [pollfd(fd: listener.number, events: Int16(POLLIN), revents: 0)]
            items += strangers.pollItems
            ControlSocket.wait(&items, count: items.count, until: linger)
            try? strangers.takeCallers(listener, until: linger)
            for caller in strangers.hear() { tell(error, caller, &told) }
        }
        ControlLink.drain(
            (guests.compactMap { $0 } + refused).map(\.link), until: .after(.seconds(1)))
        guests = []
        refused = []
    }

    private func tell(_ error: LaunchError, _ caller: Strangers.Caller, _ told: inout Set<Int>) {
        switch caller.wish {
        case .join(let join):
            caller.link.send(.refusal(error))
            refused.append(
                Guest(link: caller.link, process: join.process, identity: join.identity))
            told.insert(join.process.rank)
        case .decline(let process, _): told.insert(process.rank)
        case .rejoin: sendBack(caller.link)
        }
    }
}
