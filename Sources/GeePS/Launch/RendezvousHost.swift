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

    // A connection that has not said yet who it is.
    private struct Stranger {
        let link: ControlLink
        let deadline: Deadline
        /// What it must prove itself with.
        let nonce = Challenge.nonce()
        /// As which rank it has proven to be of the job.
        var provenRank: Int?
    }

    /// Connections that may be undecided at a time, beside one for each rank.
    private static let strangersBeyondRanks = 128

    private let request: JoinRequest
    private let secret: JobSecret
    private let timeout: Duration
    private let deadline: Deadline
    private let settings: ControlSettings
    private var strangers: [Stranger] = []
    // By rank; rank 0's place stays empty. `departed` joined and went away again.
    private var guests: [Guest?]
    private var departed: [ProcessDescription?]
    // The first process of the job that said it would not come, and why.
    private var declined: (ProcessDescription, reason: String)?
    private var turnedAway = 0
    // Connections that tried to prove themselves and could not.
    private var impostors = 0
    // Why the first connection came to nothing that TLS refused.
    private var tlsRefusal: String?
    private var isNews = false

    init(
        request: JoinRequest, secret: JobSecret, timeout: Duration, deadline: Deadline,
        settings: ControlSettings
    ) {
        self.request = request
        self.secret = secret
        self.timeout = timeout
        self.deadline = deadline
        self.settings = settings
        guests = Array(repeating: nil, count: request.worldSize)
        departed = Array(repeating: nil, count: request.worldSize)
    }

    /// Waits for all other ranks.
    ///
    /// - Returns: ranks 1 and up, in order; each waits for the roster.
    /// - Throws: what everybody who is there has been told too.
    func gather(at address: ControlAddress) throws(LaunchError) -> [Guest] {
        guard request.worldSize > 1 else { return [] }
        let (listener, port) = try listen(at: address)
        let place = try ControlAddress(parsing: "\(bracketed(address.host)):\(port)")
        settings.onListening(place.description)
        defer { reportTurnedAway() }
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
        return guests.compactMap { $0 }
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
        items += strangers.map(\.link.pollItem) + guests.compactMap { $0?.link.pollItem }
        let due = strangers.map(\.deadline).min().map { min($0, end) } ?? end
        ControlSocket.wait(&items, count: items.count, until: due)
        for guest in guests { if let guest { attend(guest) } }
        // Before accepting: who has said enough makes room.
        try hearStrangers()
        try takeCallers(listener, until: nil)
    }

    /// Accepts who is there and challenges them; who has been silent for longest makes room.
    private func takeCallers(_ listener: Descriptor, until end: Deadline?) throws(LaunchError) {
        while let (socket, name) = try ControlSocket.accept(from: listener) {
            let link = ControlLink(
                socket, sender: 0, peer: name, payloadLimit: ControlLimits.handshakePayloadBytes,
                secure: settings.tlsContext.map {
                    ControlCipher($0, side: .listener, peer: name)
                })
            let stranger = Stranger(link: link, deadline: end ?? .after(settings.handshake))
            link.send(.challenge(nonce: stranger.nonce))
            strangers.append(stranger)
            if strangers.count > request.worldSize + Self.strangersBeyondRanks {
                turnAway(strangers.removeFirst().link, "too many connections said nothing")
            }
        }
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
            turnAway(guest.link, error.description)
        }
        guests[rank] = nil
        departed[rank] = guest.process
        isNews = true
    }

    private func hearStrangers() throws(LaunchError) {
        let present = strangers
        strangers = []
        for (index, stranger) in present.enumerated() {
            do throws(LaunchError) {
                if let join = hear(stranger) { try admit(join, stranger.link) }
                if let (process, reason) = declined {
                    throw LaunchError(
                        .peerLost, "\(process.name) could not take part in the job: \(reason)")
                }
            } catch {
                // The others still get the refusal.
                strangers += present[(index + 1)...]
                throw error
            }
        }
    }

    /// What a stranger asks for; nil while it has not, or when it was turned away.
    private func hear(_ caller: Stranger) -> JoinRequest? {
        var stranger = caller
        let link = stranger.link
        do throws(ByteError) {
            for message in try link.receive() where !message.isOptional {
                switch message {
                case .callerProof(let rank, let nonce, let proof) where stranger.provenRank == nil:
                    guard prove(rank, nonce, proof, stranger) else { return nil }
                    stranger.provenRank = rank
                case .join(let join) where stranger.provenRank == join.process.rank: return join
                case .decline(let process, let reason) where stranger.provenRank == process.rank:
                    declined = (process, reason)
                    return nil
                default: throw ByteError("a message that is not for this moment")
                }
            }
        } catch {
            link.send(
                .refusal(LaunchError(.argument, "rank 0 did not understand: \(error.description)")))
            turnAway(link, error.description)
            return nil
        }
        if let failure = link.tlsFailure {
            tlsRefusal = tlsRefusal ?? failure.message
            turnAway(link, failure.message)
        } else if let ending = link.ending {
            turnAway(link, "\(ending) before it said who it is")
        } else if stranger.deadline.hasPassed {
            link.refuseInClear(
                .refusal(
                    LaunchError(
                        .certificate,
                        "rank 0 speaks TLS and this process does not: give all processes of the job cluster.tls, or none"
                    )))
            let time = secondsText(nanoseconds: settings.handshake.nanoseconds)
            turnAway(link, "it did not say who it is within \(time)")
        } else {
            strangers.append(stranger)
        }
        return nil
    }

    /// Checks a stranger's proof and gives our own, or turns it away.
    private func prove(
        _ rank: Int, _ nonce: [UInt8], _ proof: [UInt8], _ stranger: Stranger
    ) -> Bool {
        let challenge = Challenge(
            purpose: .control, rank: UInt32(rank), callerNonce: nonce,
            listenerNonce: stranger.nonce, channelBinding: stranger.link.channelBinding)
        let link = stranger.link
        guard challenge.isProven(proof, by: .caller, key: secret.bytes) else {
            impostors += 1
            let why = "it says it is rank \(rank) but does not know \(secret)"
            // The first stranger is logged in any case.
            if impostors == 1 && turnedAway > 0 {
                settings.log("rendezvous: \(link.peer): \(why)")
            }
            link.send(
                .refusal(
                    LaunchError(.secret, "rank 0 has another job secret, from \(secret.origin)")))
            turnAway(link, why)
            return false
        }
        link.send(.listenerProof(challenge.proof(by: .listener, key: secret.bytes)))
        link.payloadLimit = ControlLimits.joinPayloadBytes
        return true
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
        if impostors > 0 {
            error.message +=
                "; \(impostors) connections did not know \(secret): all processes need the same"
        }
        if let tlsRefusal { error.message += "; TLS refused a connection: \(tlsRefusal)" }
        return error
    }

    /// Tells everybody who is there, and for a while those who still come, why the job does not start.
    private func refuse(_ error: LaunchError, listener: Descriptor) {
        for guest in guests { guest?.link.send(.refusal(error)) }
        var told = Set(refused.map(\.process.rank))
        for guest in guests { if let guest { told.insert(guest.process.rank) } }
        let linger = Deadline.after(error.code == .timeout ? .zero : settings.refusalLinger)
        if let (process, _) = declined { told.insert(process.rank) }
        while told.count < request.worldSize - 1 && !linger.hasPassed {
            var items = [pollfd(fd: listener.number, events: Int16(POLLIN), revents: 0)]
            items += strangers.map(\.link.pollItem)
            ControlSocket.wait(&items, count: items.count, until: linger)
            try? takeCallers(listener, until: linger)
            let present = strangers
            strangers = []
            for stranger in present {
                guard let join = hear(stranger) else {
                    if let (process, _) = declined { told.insert(process.rank) }
                    continue
                }
                stranger.link.send(.refusal(error))
                refused.append(
                    Guest(link: stranger.link, process: join.process, identity: join.identity))
                told.insert(join.process.rank)
            }
        }
        ControlLink.drain(
            (guests.compactMap { $0 } + refused).map(\.link), until: .after(.seconds(1)))
        guests = []
        refused = []
    }

    /// Drops a connection; the first is logged, the rest counted.
    private func turnAway(_ link: ControlLink, _ why: String) {
        turnedAway += 1
        guard turnedAway == 1 else { return }
        settings.log("rendezvous: turned away \(link.peer): \(why); waiting on for the job's ranks")
    }

    private func reportTurnedAway() {
        guard turnedAway > 1 else { return }
        settings.log("rendezvous: turned away \(turnedAway) connections in all")
    }
}

extension ControlMessage {
    fileprivate var isOptional: Bool {
        if case .unknownOptional = self { return true }
        return false
    }
}
