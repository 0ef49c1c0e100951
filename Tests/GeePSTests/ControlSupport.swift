import GeePSCore
import Glibc
import Testing

@testable import GeePS

/// A value that several threads write.
///
/// A pthread mutex rather than `Mutex`, whose futex the thread sanitizer does not see.
final class Shared<Value: Sendable>: @unchecked Sendable {
    // Sendable: `storage` is guarded by `signal`.
    private let signal = Signal()
    private var storage: Value

    init(_ value: Value) { storage = value }

    var value: Value { signal.withLock { storage } }

    func update(_ body: (inout Value) -> Void) { signal.withLock { body(&storage) } }
}

/// Runs `body` for all ranks, each on its own thread; the results in rank order.
@discardableResult
func onRanks<R: Sendable>(_ ranks: Int, _ body: @escaping @Sendable (Int) -> R) -> [R] {
    let results = Shared([R?](repeating: nil, count: ranks))
    let threads = (0..<ranks).map { rank in
        DedicatedThread(name: "rank \(rank)") {
            let result = body(rank)
            results.update { $0[rank] = result }
        }
    }
    for thread in threads { thread.join() }
    return results.value.compactMap { $0 }
}

/// Waits until `condition` holds; false after a bound that only a broken product reaches.
func eventually(within bound: Duration = .seconds(20), _ condition: () -> Bool) -> Bool {
    let deadline = Deadline.after(bound)
    while !condition() {
        if deadline.hasPassed { return false }
        usleep(2000)
    }
    return true
}

/// A port of 127.0.0.1 that was free a moment ago.
func freeAddress() throws -> String {
    let (listener, port) = try ControlSocket.listen(at: ControlAddress(parsing: "127.0.0.1:0"))
    _ = listener
    return "127.0.0.1:\(port)"
}

func describe(_ rank: Int, agreement: String = "optimizer: sgd\n") -> ProcessDescription {
    ProcessDescription(
        rank: rank, host: "node\(rank)", pid: UInt32(100 + rank), endpoint: [UInt8(rank), 7],
        agreement: agreement)
}

/// What all processes of the tests' jobs know.
let testSecret = JobSecret()

func quiet(
    heartbeat: Duration = .milliseconds(500), silence: Duration = .seconds(20),
    handshake: Duration = .seconds(20), linger: Duration = .milliseconds(200)
) -> ControlSettings {
    ControlSettings(
        heartbeat: heartbeat, silence: silence, handshake: handshake,
        listenPatience: .milliseconds(300), refusalLinger: linger, secret: testSecret,
        log: { _ in })
}

typealias Joined = Result<Membership, LaunchError>

func join(
    _ rank: Int, of worldSize: Int, at address: String, agreement: String = "optimizer: sgd\n",
    timeout: Duration = .seconds(60), settings: ControlSettings = quiet()
) -> Joined {
    Result { () throws(LaunchError) in
        try Rendezvous.join(
            rank: rank, worldSize: worldSize, address: address,
            description: describe(rank, agreement: agreement), timeout: timeout,
            settings: settings)
    }
}

/// A job of `ranks` processes in this one.
func job(
    _ ranks: Int, settings: @escaping @Sendable (Int) -> ControlSettings = { _ in quiet() }
) throws -> [Membership] {
    let address = try freeAddress()
    return try onRanks(ranks) { join($0, of: ranks, at: address, settings: settings($0)) }
        .map { try $0.get() }
}

/// Says goodbye at all ranks together.
@discardableResult
func leaveAll(_ members: [Membership]) -> [Bool] {
    onRanks(members.count) { members[$0].leave(within: .seconds(20)) }
}

func message(_ joined: Joined) -> String {
    switch joined {
    case .success: return "joined"
    case .failure(let error): return error.message
    }
}

func code(_ joined: Joined) -> LaunchError.Code? {
    if case .failure(let error) = joined { return error.code }
    return nil
}

/// A connection that speaks the control format by hand, as a process with a defect would.
struct RawPeer {
    let descriptor: Descriptor
    let link: ControlLink

    init(_ address: String, rank: Int = 0) throws {
        let place = try ControlAddress(parsing: address)
        descriptor = try ControlSocket.connect(to: place, deadline: .after(.seconds(20)))
        link = ControlLink(
            descriptor, sender: rank, peer: "rank 0", payloadLimit: ControlLimits.payloadBytes)
    }

    /// Proves that it is of the job.
    ///
    /// - Returns: whether rank 0 has proven the same.
    func authenticate(rank: Int, secret: JobSecret = testSecret) -> Bool {
        var isDone = false
        var challenge: Challenge?
        _ = eventually {
            for message in (try? link.receive()) ?? [] {
                if case .challenge(let nonce) = message {
                    let made = Challenge(
                        purpose: .control, rank: UInt32(rank), callerNonce: Challenge.nonce(),
                        listenerNonce: nonce)
                    challenge = made
                    link.send(
                        .callerProof(
                            rank: rank, nonce: made.callerNonce,
                            proof: made.proof(by: .caller, key: secret.bytes)))
                }
                if case .listenerProof(let proof) = message {
                    isDone =
                        challenge?.isProven(proof, by: .listener, key: secret.bytes) == true
                }
            }
            return isDone || link.ending != nil
        }
        return isDone
    }

    /// Joins; returns when the roster has come.
    static func joined(_ address: String, rank: Int, of worldSize: Int) throws -> RawPeer {
        let deadline = Deadline.after(.seconds(20))
        while true {
            do {
                let peer = try RawPeer(address, rank: rank)
                try #require(peer.authenticate(rank: rank))
                peer.link.send(
                    .join(
                        JoinRequest(
                            worldSize: worldSize, identity: 1, process: describe(rank))))
                try #require(
                    eventually {
                        let messages = (try? peer.link.receive()) ?? []
                        return messages.contains { if case .roster = $0 { true } else { false } }
                    })
                return peer
            } catch let error as LaunchError {
                if deadline.hasPassed { throw error }
                usleep(5000)
            }
        }
    }

    func sendRaw(_ bytes: [UInt8]) {
        _ = send(descriptor.number, bytes, bytes.count, Int32(MSG_NOSIGNAL))
    }
}

/// Numbers that are the same in every run.
struct SplitMix64: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    mutating func bytes(_ count: Int) -> [UInt8] {
        (0..<count).map { _ in UInt8(truncatingIfNeeded: next()) }
    }
}
