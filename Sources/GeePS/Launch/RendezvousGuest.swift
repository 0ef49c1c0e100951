import GeePSCore
import GeePSTransport
import Glibc

/// How a process other than rank 0 joins: connects until somebody answers, says who it is, waits for the
/// roster.
struct RendezvousGuest {
    /// What rank 0 gave.
    struct Welcome {
        let link: ControlLink
        let processes: [ProcessDescription]
        /// What rank 0 said after the roster.
        let early: [ControlMessage]
    }

    let request: JoinRequest
    let address: ControlAddress
    let secret: JobSecret
    /// Nil: connections are not encrypted.
    let tls: TLSContext?
    let timeout: Duration
    let deadline: Deadline
    // When somebody first refused this process without a proof that it was rank 0.
    private var refusedAt: Deadline?
    // What the last attempt came to; whom rank 0 still waits for, when it said so.
    private var obstacle = "no attempt was made"
    private var missing: [Int] = []

    init(
        request: JoinRequest, address: ControlAddress, secret: JobSecret, tls: TLSContext?,
        timeout: Duration, deadline: Deadline
    ) {
        self.request = request
        self.address = address
        self.secret = secret
        self.tls = tls
        self.timeout = timeout
        self.deadline = deadline
    }

    /// Joins.
    ///
    /// - Throws: what rank 0 said, or that it said nothing.
    mutating func enter() throws(LaunchError) -> Welcome {
        repeat {
            if let link = connect(), try authenticate(link), let welcome = try attend(link) {
                return welcome
            }
            let pause = min(deadline.remainingNanoseconds / 1000, 100_000)
            usleep(UInt32(pause))
        } while !deadline.hasPassed
        throw timeoutError()
    }

    /// Tells rank 0 that this process will not come; as well as it can until the deadline.
    mutating func decline(_ reason: String) {
        while !deadline.hasPassed {
            if let link = connect(), (try? authenticate(link)) == true {
                link.send(.decline(request.process, reason: reason))
                ControlLink.drain([link], until: min(deadline, .after(.seconds(1))))
                return
            }
            usleep(50_000)
        }
    }

    /// Comes back over another connection after the last one was lost; one attempt, until the deadline.
    ///
    /// - Parameter heard: how many messages of rank 0's have been received.
    consuming func comeBack(heard: UInt64) -> Member.Redial {
        guard let link = connect(), (try? authenticate(link)) == true else {
            return ControlSocket.isRefused(at: address, deadline: deadline) ? .gone : .notYet
        }
        link.send(
            .rejoin(
                Rejoin(rank: request.process.rank, identity: request.identity, heard: heard)))
        while !deadline.hasPassed, link.ending == nil {
            var item = link.pollItem
            ControlSocket.wait(&item, count: 1, until: deadline)
            link.flush()
            guard let messages = try? link.receive() else { break }
            for (index, message) in messages.enumerated() {
                switch message {
                case .rejoined(let count):
                    return .back(
                        link, heardByPeer: count, early: Array(messages[(index + 1)...]))
                case .refusal: return .gone
                default: continue
                }
            }
        }
        return .notYet
    }

    private mutating func connect() -> ControlLink? {
        do {
            let socket = try ControlSocket.connect(
                to: address, deadline: min(deadline, .after(.seconds(5))))
            return ControlLink(
                socket, sender: request.process.rank, peer: "rank 0",
                payloadLimit: ControlLimits.handshakePayloadBytes,
                secure: tls.map {
                    ControlCipher($0, side: .caller, peer: "rank 0 at \(address)")
                })
        } catch {
            obstacle = error.message
            return nil
        }
    }

    /// Proves to rank 0 that this process is of the job, and has it prove the same.
    ///
    /// Nothing of the job is said before.
    ///
    /// - Returns: false when the connection came to nothing and another one should be tried.
    /// - Throws: when it was refused again and again.
    private mutating func authenticate(_ link: ControlLink) throws(LaunchError) -> Bool {
        obstacle = "it accepted the connection but said nothing"
        var challenge: Challenge?
        while !deadline.hasPassed {
            var item = link.pollItem
            ControlSocket.wait(&item, count: 1, until: deadline)
            let messages: [ControlMessage]
            do {
                messages = try link.receive()
            } catch {
                obstacle = "something other than GeePS answered: \(error.description)"
                return false
            }
            for message in messages {
                switch message {
                case .challenge(let nonce) where challenge == nil:
                    challenge = answer(nonce, on: link)
                case .listenerProof(let proof):
                    guard
                        challenge?.isProven(proof, by: .listener, key: secret.bytes) == true
                    else {
                        try refused(notOfTheJob("it does not know \(secret)"))
                        return false
                    }
                    link.payloadLimit = ControlLimits.payloadBytes
                    return true
                case .refusal(let error):
                    try refused(
                        error.code == .certificate ? error : notOfTheJob(error.message))
                    return false
                case .unknownOptional: break
                default:
                    obstacle = "something other than GeePS answered: a message out of order"
                    return false
                }
            }
            if let failure = link.tlsFailure {
                try refused(LaunchError(.certificate, failure.message))
                return false
            }
            if let ending = link.ending {
                obstacle = "\(ending) without an answer"
                return false
            }
        }
        return false
    }

    private func answer(_ nonce: [UInt8], on link: ControlLink) -> Challenge {
        let rank = request.process.rank
        let challenge = Challenge(
            purpose: .control, rank: UInt32(rank), callerNonce: Challenge.nonce(),
            listenerNonce: nonce, channelBinding: link.channelBinding)
        link.send(
            .callerProof(
                rank: rank, nonce: challenge.callerNonce,
                proof: challenge.proof(by: .caller, key: secret.bytes)))
        return challenge
    }

    /// How long refusals of somebody who has not proven to be rank 0 are taken for another job's that is about to
    /// give up the port.
    private static let refusalPatience = Duration.seconds(2)

    private mutating func refused(_ error: LaunchError) throws(LaunchError) {
        obstacle = error.message
        let end = refusedAt ?? .after(Self.refusalPatience)
        refusedAt = end
        guard end.hasPassed else { return }
        throw error
    }

    private func notOfTheJob(_ why: String) -> LaunchError {
        LaunchError(
            .secret,
            "rank 0 at \(address) and rank \(request.process.rank) cannot prove to each other that they are of one "
                + "job: \(why). Rank \(request.process.rank) has \(secret); all processes need the same, such as a "
                + "file that \(JobSecret.fileVariable) names")
    }

    /// Nil when the connection came to nothing and another one should be tried.
    private mutating func attend(_ link: ControlLink) throws(LaunchError) -> Welcome? {
        missing = []
        link.send(.join(request))
        // Rank 0 may have started its own clock a little later: give it time to say who is missing.
        var last = deadline
        while !last.hasPassed {
            var item = link.pollItem
            ControlSocket.wait(&item, count: 1, until: last)
            link.flush()
            do throws(Answer) {
                if let welcome = try read(link) { return welcome }
            } catch {
                switch error {
                case .told(let refusal): throw refusal
                case .nonsense(let what):
                    obstacle = "something other than GeePS answered: \(what)"
                    return nil
                }
            }
            if let ending = link.ending {
                obstacle = "\(ending) without an answer"
                return nil
            }
            if !missing.isEmpty {
                last = Deadline(nanoseconds: deadline.nanoseconds.saturatingAdd(1_000_000_000))
            }
        }
        obstacle = missing.isEmpty ? "it accepted the connection but said nothing" : obstacle
        return nil
    }

    private enum Answer: Error {
        case told(LaunchError)
        case nonsense(String)
    }

    private mutating func read(_ link: ControlLink) throws(Answer) -> Welcome? {
        let messages: [ControlMessage]
        do { messages = try link.receive() } catch { throw .nonsense(error.description) }
        for (index, message) in messages.enumerated() {
            switch message {
            case .waiting(let ranks): missing = ranks
            case .refusal(let error): throw .told(error)
            case .roster(var processes):
                guard processes.count == request.worldSize else {
                    throw .nonsense("a roster of \(processes.count) processes")
                }
                for rank in processes.indices {
                    processes[rank].agreement = request.process.agreement
                }
                return Welcome(
                    link: link, processes: processes, early: Array(messages[(index + 1)...]))
            case .unknownOptional: break
            default: throw .nonsense("a message that is not for a joining process")
            }
        }
        return nil
    }

    private func timeoutError() -> LaunchError {
        let time = secondsText(nanoseconds: timeout.nanoseconds)
        if !missing.isEmpty {
            return missingError(missing, of: request.worldSize, at: address, within: time)
        }
        return LaunchError(
            .timeout,
            "rank 0 at \(address) did not answer rank \(request.process.rank) within \(time): "
                + "\(obstacle); check that rank 0 was started and that this is its address")
    }
}

/// The error of a rendezvous to which not all came.
func missingError(
    _ ranks: [Int], of worldSize: Int, at address: ControlAddress, within time: String
) -> LaunchError {
    LaunchError(
        .timeout,
        "\(rankList(ranks)) of \(worldSize) did not join within \(time): check that each was "
            + "started, with rank 0's address \(address) and world size \(worldSize)")
}
