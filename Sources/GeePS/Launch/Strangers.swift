import GeePSCore
import GeePSTransport
import Glibc

/// Who is at rank 0's port and has not said yet what it wants, which takes a proof first that it is of the job.
///
/// Used by one thread at a time, which waits for all together, so that none can hold up another.
final class Strangers {
    /// What somebody of the job asks for.
    enum Wish {
        case join(JoinRequest)
        case decline(ProcessDescription, reason: String)
        case rejoin(Rejoin)
    }

    /// Somebody of the job.
    struct Caller {
        let link: ControlLink
        let wish: Wish
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
    private static let countBeyondRanks = 128

    private let secret: JobSecret
    private let worldSize: Int
    private let settings: ControlSettings
    /// "waiting on for the job's ranks".
    private let consolation: String
    private var strangers: [Stranger] = []
    private var turnedAway = 0
    /// Connections that tried to prove themselves and could not.
    private(set) var impostors = 0
    /// Why the first connection came to nothing that TLS refused.
    private(set) var tlsRefusal: String?

    /// Nobody yet.
    ///
    /// - Parameter consolation: what is said of the job when somebody is turned away.
    init(secret: JobSecret, worldSize: Int, settings: ControlSettings, consolation: String) {
        self.secret = secret
        self.worldSize = worldSize
        self.settings = settings
        self.consolation = consolation
    }

    /// What to wait for.
    var pollItems: [pollfd] { strangers.map(\.link.pollItem) }

    /// When the first has had its time.
    var due: Deadline? { strangers.map(\.deadline).min() }

    /// Accepts who is there and challenges them; who has been silent for longest makes room.
    ///
    /// - Parameter end: until when they may say what they want; nil for the handshake time.
    func takeCallers(_ listener: Descriptor, until end: Deadline? = nil) throws(LaunchError) {
        while let (socket, name) = try ControlSocket.accept(from: listener) {
            let link = ControlLink(
                socket, sender: 0, peer: name, payloadLimit: ControlLimits.handshakePayloadBytes,
                secure: settings.tlsContext.map {
                    ControlCipher($0, side: .listener, peer: name)
                })
            let stranger = Stranger(link: link, deadline: end ?? .after(settings.handshake))
            link.send(.challenge(nonce: stranger.nonce))
            strangers.append(stranger)
            if strangers.count > worldSize + Self.countBeyondRanks {
                turnAway(strangers.removeFirst().link, "too many connections said nothing")
            }
        }
    }

    /// Those who have proven themselves and said what they want.
    func hear() -> [Caller] {
        let present = strangers
        strangers = []
        return present.compactMap { stranger in
            hear(stranger).map { Caller(link: stranger.link, wish: $0) }
        }
    }

    /// Drops a connection; the first is logged, the rest counted.
    func turnAway(_ link: ControlLink, _ why: String) {
        turnedAway += 1
        guard turnedAway == 1 else { return }
        settings.log("rendezvous: turned away \(link.peer): \(why); \(consolation)")
    }

    /// Logs how many were turned away, where that was not said yet.
    func report() {
        guard turnedAway > 1 else { return }
        settings.log("rendezvous: turned away \(turnedAway) connections in all")
    }

    /// What a stranger asks for; nil while it has not, or when it was turned away.
    private func hear(_ caller: Stranger) -> Wish? {
        var stranger = caller
        let link = stranger.link
        do throws(ByteError) {
            for message in try link.receive() where !message.isOptional {
                switch message {
                case .callerProof(let rank, let nonce, let proof) where stranger.provenRank == nil:
                    guard prove(rank, nonce, proof, stranger) else { return nil }
                    stranger.provenRank = rank
                case .join(let join) where stranger.provenRank == join.process.rank:
                    return .join(join)
                case .decline(let process, let reason) where stranger.provenRank == process.rank:
                    return .decline(process, reason: reason)
                case .rejoin(let rejoin) where stranger.provenRank == rejoin.rank:
                    return .rejoin(rejoin)
                default: throw ByteError("a message that is not for this moment")
                }
            }
        } catch {
            link.send(
                .refusal(LaunchError(.argument, "rank 0 did not understand: \(error.description)")))
            turnAway(link, error.description)
            return nil
        }
        if let why = judge(stranger) {
            turnAway(link, why)
        } else {
            strangers.append(stranger)
        }
        return nil
    }

    /// Why a stranger that has not said everything is turned away; nil when it may go on.
    private func judge(_ stranger: Stranger) -> String? {
        let link = stranger.link
        if let failure = link.tlsFailure {
            tlsRefusal = tlsRefusal ?? failure.message
            return failure.message
        }
        if let ending = link.ending { return "\(ending) before it said who it is" }
        guard stranger.deadline.hasPassed else { return nil }
        link.refuseInClear(
            .refusal(
                LaunchError(
                    .certificate,
                    "rank 0 speaks TLS and this process does not: give all processes of the job cluster.tls, or none"
                )))
        let time = secondsText(nanoseconds: settings.handshake.nanoseconds)
        return "it did not say who it is within \(time)"
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
}

extension ControlMessage {
    /// Whether a receiver may ignore it.
    var isOptional: Bool {
        if case .unknownOptional = self { return true }
        return false
    }
}
