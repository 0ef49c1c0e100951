import GeePSCore

/// What processes say to each other on control connections; docs/formats/control.md is normative.
enum ControlMessage: Hashable, Sendable {
    /// To rank 0: let me in.
    case join(JoinRequest)
    /// From rank 0 to those who joined: whom we wait for.
    case waiting(missing: [Int])
    /// From rank 0: everybody is here, in rank order; agreement texts are left out, they are equal.
    case roster([ProcessDescription])
    /// From rank 0: the job does not start, and why.
    case refusal(LaunchError)
    /// To rank 0 in place of `join`: this process of the job will not come, and why.
    case decline(ProcessDescription, reason: String)
    /// I am alive, and have received so many of your messages since the roster; heartbeats are not among them.
    case heartbeat(heard: UInt64)
    /// To rank 0: my part of a collective.
    case contribution(Contribution)
    /// From rank 0: the collective's result.
    case result(sequence: UInt64, bytes: [UInt8])
    /// From rank 0: the collective failed for everybody, and why.
    case collectiveRefusal(sequence: UInt64, LaunchError)
    /// From rank 0: the first failure of the job. To rank 0: I give up, or I give you up.
    case failure(FailureNews)
    /// To rank 0: I have finished.
    case goodbye
    /// From rank 0: all have finished.
    case farewell
    /// From rank 0, first on every connection: prove that you are of the job.
    case challenge(nonce: [UInt8])
    /// To rank 0: the proof, and what rank 0 is to prove itself with.
    case callerProof(rank: Int, nonce: [UInt8], proof: [UInt8])
    /// From rank 0: its own proof.
    case listenerProof([UInt8])
    /// From rank 0: where do you stand?
    case statusRequest(sequence: UInt64)
    /// To rank 0: here, as docs/formats/status.md has it; nothing where that is more than fits.
    case status(sequence: UInt64, bytes: [UInt8])
    /// To rank 0 in place of `join`: here I am again, after my connection was lost.
    case rejoin(Rejoin)
    /// From rank 0: go on; I have received so many of your messages.
    case rejoined(heard: UInt64)
    /// A kind from 128 on that this program does not know; to be ignored.
    case unknownOptional(UInt8)
}

/// Who wants to join.
struct JoinRequest: Hashable, Sendable {
    /// Processes in the job, as this one was told.
    var worldSize: Int
    /// Drawn at random per call of `join`: tells a second process of a rank from a second attempt.
    var identity: UInt64
    var process: ProcessDescription
}

/// Who comes back.
struct Rejoin: Hashable, Sendable {
    var rank: Int
    /// The one of its `JoinRequest`.
    var identity: UInt64
    /// How many messages of rank 0's it has received since the roster; heartbeats are not among them.
    var heard: UInt64
}

/// One rank's part of a collective.
struct Contribution: Hashable, Sendable {
    /// What is computed.
    enum Operation: UInt8, Sendable, CaseIterable {
        /// Elementwise, in rank order; the payload is doubles.
        case sum = 1
        /// Nothing; no payload.
        case barrier = 2
        /// The payload of rank 0; other ranks send none.
        case broadcast = 3
    }

    /// Counts this rank's collectives from 1.
    var sequence: UInt64
    var operation: Operation
    var label: String
    /// How long the caller is prepared to wait for the others.
    var patienceNanoseconds: UInt64
    var payload: [UInt8]

    /// `sum "loss"`.
    var name: String { "\(operation) \"\(label)\"" }
}

/// Limits of the control format, each with its reason.
enum ControlLimits {
    /// Holds the largest roster: 4096 ranks with 1024 bytes of endpoint and a name each.
    static let payloadBytes = 8 << 20
    /// Of anything before both sides have proven that they know the job's secret, and of what is said then.
    static let handshakePayloadBytes = 4 << 10
    /// Of a join request: agreement text, endpoint, names.
    ///
    /// Who has not joined may not announce more.
    static let joinPayloadBytes = 512 << 10
    /// A line for each table of the largest models.
    static let agreementBytes = 256 << 10
    /// Several addresses and names of shared memory.
    static let endpointBytes = 1024
    /// The longest host name DNS allows.
    static let hostBytes = 255
    /// Labels are for people.
    static let labelBytes = 256
    /// Reasons and refusals; disagreements list lines.
    static let textBytes = 64 << 10
    /// Of a collective's payload: "small numbers", and rank 0 holds one from everybody.
    static let collectiveBytes = 1 << 20
    /// Of a process's status: a line for each table of its keepers.
    static let statusBytes = 1 << 20
}

extension ControlMessage {
    /// The frame: header and payload, ready to send.
    func frame(sender: Int) -> [UInt8] {
        let payload = encoded()
        var header = FrameHeader(.control)
        header.flags = FrameHeader.payloadChecked
        header.sender = UInt32(sender)
        header.payloadBytes = UInt32(payload.count)
        header.payloadChecksum = payload.withUnsafeBytes { crc32c($0) }
        var bytes = [UInt8](repeating: 0, count: Limits.frameHeaderBytes)
        bytes.withUnsafeMutableBytes { header.encode(into: $0) }
        return bytes + payload
    }

    /// The payload.
    func encoded() -> [UInt8] {
        var writer = ByteWriter()
        writer.write(kindByte)
        switch self {
        case .join(let request):
            writer.write(UInt32(request.worldSize))
            writer.write(request.identity)
            writer.write(request.process)
            writer.write(request.process.agreement)
        case .waiting(let missing):
            writer.write(UInt32(missing.count))
            for rank in missing { writer.write(UInt32(rank)) }
        case .roster(let processes):
            writer.write(UInt32(processes.count))
            for process in processes { writer.write(process) }
        case .refusal(let error): writer.write(error)
        case .decline(let process, let reason):
            writer.write(process)
            writer.write(cut(reason))
        case .contribution(let part):
            writer.write(part.sequence)
            writer.write(part.operation.rawValue)
            writer.write(part.patienceNanoseconds)
            writer.write(part.label)
            writer.write(part.payload)
        case .result(let sequence, let bytes):
            writer.write(sequence)
            writer.write(bytes)
        case .collectiveRefusal(let sequence, let error):
            writer.write(sequence)
            writer.write(error)
        case .failure(let news):
            writer.write(UInt32(news.rank))
            writer.write(news.kind.rawValue)
            writer.write(cut(news.detail))
        case .challenge(let nonce): writer.write(nonce)
        case .callerProof(let rank, let nonce, let proof):
            writer.write(UInt32(rank))
            writer.write(nonce)
            writer.write(proof)
        case .listenerProof(let proof): writer.write(proof)
        case .statusRequest(let sequence): writer.write(sequence)
        case .status(let sequence, let bytes):
            writer.write(sequence)
            writer.write(bytes)
        case .heartbeat(let heard), .rejoined(let heard): writer.write(heard)
        case .rejoin(let rejoin):
            writer.write(UInt32(rejoin.rank))
            writer.write(rejoin.identity)
            writer.write(rejoin.heard)
        case .goodbye, .farewell, .unknownOptional: break
        }
        return writer.bytes
    }

    /// Reads a payload from untrusted bytes.
    init(decoding payload: [UInt8]) throws(ByteError) {
        var reader = ByteReader(payload)
        let kind = try reader.uint8("kind")
        switch kind {
        case 1: self = .join(try reader.joinRequest())
        case 2: self = .waiting(missing: try reader.ranks())
        case 3: self = .roster(try reader.roster())
        case 4: self = .refusal(try reader.launchError())
        case 5: self = .heartbeat(heard: try reader.uint64("heard"))
        case 6: self = .contribution(try reader.contribution())
        case 7:
            let sequence = try reader.uint64("sequence")
            let bytes = try reader.block("result", limit: ControlLimits.collectiveBytes)
            self = .result(sequence: sequence, bytes: bytes)
        case 8:
            let sequence = try reader.uint64("sequence")
            self = .collectiveRefusal(sequence: sequence, try reader.launchError())
        case 9: self = .failure(try reader.failureNews())
        case 10: self = .goodbye
        case 11: self = .farewell
        case 12:
            let process = try reader.process()
            self = .decline(
                process, reason: try reader.text("reason", limit: ControlLimits.textBytes))
        case 13: self = .challenge(nonce: try reader.block("nonce", limit: Challenge.nonceBytes))
        case 14:
            let rank = try reader.rank()
            let nonce = try reader.block("nonce", limit: Challenge.nonceBytes)
            let proof = try reader.block("proof", limit: Challenge.proofBytes)
            self = .callerProof(rank: rank, nonce: nonce, proof: proof)
        case 15: self = .listenerProof(try reader.block("proof", limit: Challenge.proofBytes))
        case 16: self = .statusRequest(sequence: try reader.uint64("sequence"))
        case 17:
            let sequence = try reader.uint64("sequence")
            let bytes = try reader.block("status", limit: ControlLimits.statusBytes)
            self = .status(sequence: sequence, bytes: bytes)
        case 18:
            let rank = try reader.rank()
            let identity = try reader.uint64("identity")
            self = .rejoin(
                Rejoin(rank: rank, identity: identity, heard: try reader.uint64("heard")))
        case 19: self = .rejoined(heard: try reader.uint64("heard"))
        case 128...:
            self = .unknownOptional(kind)
            return
        default: throw ByteError("message kind \(kind) is unknown")
        }
        try reader.finish()
    }

    private var kindByte: UInt8 {
        switch self {
        case .join: return 1
        case .waiting: return 2
        case .roster: return 3
        case .refusal: return 4
        case .heartbeat: return 5
        case .contribution: return 6
        case .result: return 7
        case .collectiveRefusal: return 8
        case .failure: return 9
        case .goodbye: return 10
        case .farewell: return 11
        case .decline: return 12
        case .challenge: return 13
        case .callerProof: return 14
        case .listenerProof: return 15
        case .statusRequest: return 16
        case .status: return 17
        case .rejoin: return 18
        case .rejoined: return 19
        case .unknownOptional(let kind): return kind
        }
    }
}

/// `text`, cut to what a reader accepts.
private func cut(_ text: String) -> String {
    guard text.utf8.count > ControlLimits.textBytes else { return text }
    // A character at the cut may become U+FFFD, which takes up to three bytes more than it had.
    return String(decoding: text.utf8.prefix(ControlLimits.textBytes - 12), as: UTF8.self) + "..."
}

extension ByteWriter {
    fileprivate mutating func write(_ process: ProcessDescription) {
        write(UInt32(process.rank))
        write(process.pid)
        write(process.host)
        write(process.endpoint)
    }

    fileprivate mutating func write(_ error: LaunchError) {
        write(error.code.rawValue)
        write(cut(error.message))
    }
}

extension ByteReader {
    fileprivate mutating func rank() throws(ByteError) -> Int {
        let rank = Int(try uint32("rank"))
        guard rank < Limits.workersMaximum else {
            throw ByteError("rank \(rank), at most \(Limits.workersMaximum - 1) is allowed")
        }
        return rank
    }

    fileprivate mutating func ranks() throws(ByteError) -> [Int] {
        let count = try count("ranks", limit: Limits.workersMaximum, elementBytes: 4)
        var ranks: [Int] = []
        for _ in 0..<count { ranks.append(try rank()) }
        return ranks
    }

    fileprivate mutating func process() throws(ByteError) -> ProcessDescription {
        let rank = try rank()
        let pid = try uint32("pid")
        let host = try text("host", limit: ControlLimits.hostBytes)
        let endpoint = try block("endpoint", limit: ControlLimits.endpointBytes)
        return ProcessDescription(
            rank: rank, host: host, pid: pid, endpoint: endpoint, agreement: "")
    }

    fileprivate mutating func joinRequest() throws(ByteError) -> JoinRequest {
        let worldSize = Int(try uint32("world size"))
        let identity = try uint64("identity")
        var process = try process()
        process.agreement = try text("agreement", limit: ControlLimits.agreementBytes)
        return JoinRequest(worldSize: worldSize, identity: identity, process: process)
    }

    fileprivate mutating func roster() throws(ByteError) -> [ProcessDescription] {
        let count = try count("roster", limit: Limits.workersMaximum, elementBytes: 16)
        var processes: [ProcessDescription] = []
        for index in 0..<count {
            let process = try process()
            guard process.rank == index else {
                throw ByteError("roster: rank \(process.rank) at place \(index)")
            }
            processes.append(process)
        }
        return processes
    }

    fileprivate mutating func launchError() throws(ByteError) -> LaunchError {
        let number = try uint8("code")
        guard let code = LaunchError.Code(rawValue: number) else {
            throw ByteError("error code \(number) is unknown")
        }
        return LaunchError(code, try text("message", limit: ControlLimits.textBytes))
    }

    fileprivate mutating func contribution() throws(ByteError) -> Contribution {
        let sequence = try uint64("sequence")
        let number = try uint8("operation")
        guard let operation = Contribution.Operation(rawValue: number) else {
            throw ByteError("operation \(number) is unknown")
        }
        let patience = try uint64("patience")
        let label = try text("label", limit: ControlLimits.labelBytes)
        let payload = try block("payload", limit: ControlLimits.collectiveBytes)
        switch operation {
        case .sum where payload.count % 8 != 0:
            throw ByteError("sum of \(payload.count) bytes, a multiple of 8 expected")
        case .barrier where !payload.isEmpty:
            throw ByteError("barrier with a payload of \(payload.count) bytes")
        default: break
        }
        return Contribution(
            sequence: sequence, operation: operation, label: label,
            patienceNanoseconds: patience, payload: payload)
    }

    fileprivate mutating func failureNews() throws(ByteError) -> FailureNews {
        let rank = try rank()
        let number = try uint8("failure kind")
        guard let kind = PeerFailure.Kind(rawValue: number) else {
            throw ByteError("failure kind \(number) is unknown")
        }
        return FailureNews(
            rank: rank, kind: kind, detail: try text("detail", limit: ControlLimits.textBytes))
    }
}
