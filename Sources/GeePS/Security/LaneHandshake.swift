internal import GeePSCore

/// The key of a job's data lanes: made from the job secret and a number that rank 0 draws for this job, so that a lane
/// of one job opens no other job of the same secret.
struct LaneKey: Sendable, Equatable {
    let bytes: [UInt8]

    /// All processes come to the same key; who only listens does not, because the secret does not travel.
    static func agree(
        _ membership: Membership, secret: JobSecret, deadline: Deadline
    ) throws(LaunchError) -> LaneKey {
        let salt = try membership.broadcast(
            randomBytes(32), label: "lane salt", deadline: deadline)
        return LaneKey(secret: secret, salt: salt)
    }

    init(secret: JobSecret, salt: [UInt8]) {
        bytes = hmacSHA256(key: secret.bytes, Array("geeps lane key 1".utf8) + salt)
    }
}

/// What is said on a lane before its first block: hello, challenge, proof, welcome; docs/formats/frame.md is normative.
enum LaneHandshake {
    /// The worker's side: opens the lane that `hello` describes.
    ///
    /// - Parameter receive: waits for the next frame of `connection`.
    /// - Throws: `.refused` in the keeper's words, or when the keeper does not know the key.
    static func open(
        _ connection: any Connection, hello: FrameHeader, key: LaneKey,
        receive: () throws(TransportError) -> ReceivedFrame
    ) throws(TransportError) {
        let nonce = Challenge.nonce()
        try connection.send(hello, bytes: nonce)
        let question = try expect(.challenge, try receive(), from: connection)
        let challenge = challenge(hello, caller: nonce, listener: question, on: connection)
        try connection.send(
            FrameHeader(.proof), bytes: challenge.proof(by: .caller, key: key.bytes))
        let proof = try expect(.welcome, try receive(), from: connection)
        guard challenge.isProven(proof, by: .listener, key: key.bytes) else {
            throw TransportError(
                .refused, "\(connection.peer) does not know the secret of the job")
        }
    }

    /// The keeper's side: has the caller say what it wants and prove that it may.
    ///
    /// - Returns: what it wants, and the keeper's proof, which goes into the welcome.
    /// - Throws: `.refused` when the caller cannot.
    static func admit(
        _ connection: any Connection, key: LaneKey, deadline: Deadline
    ) throws(TransportError) -> (hello: FrameHeader, proof: [UInt8]) {
        connection.limitPayload(to: max(Challenge.nonceBytes, Challenge.proofBytes))
        let first = try connection.receive(deadline: deadline)
        let hello = first.header
        let callerNonce = Array(first.payload)
        guard hello.kind == .hello, callerNonce.count == Challenge.nonceBytes else {
            throw TransportError(.refused, "it did not say hello")
        }
        let nonce = Challenge.nonce()
        try connection.send(FrameHeader(.challenge), bytes: nonce)
        let answer = try connection.receive(deadline: deadline)
        let challenge = challenge(hello, caller: callerNonce, listener: nonce, on: connection)
        guard answer.header.kind == .proof,
            challenge.isProven(Array(answer.payload), by: .caller, key: key.bytes)
        else {
            throw TransportError(.refused, "it did not prove that it knows the secret of the job")
        }
        connection.limitPayload(to: Limits.framePayloadBytesMaximum)
        return (hello, challenge.proof(by: .listener, key: key.bytes))
    }

    private static func challenge(
        _ hello: FrameHeader, caller: [UInt8], listener: [UInt8], on connection: any Connection
    ) -> Challenge {
        var details = ByteWriter()
        details.write(hello.third)
        details.write(hello.tick)
        details.write(hello.second)
        details.write(hello.table)
        return Challenge(
            purpose: .lane, rank: hello.sender, details: details.bytes, callerNonce: caller,
            listenerNonce: listener, channelBinding: connection.channelBinding)
    }

    private static func expect(
        _ kind: FrameKind, _ frame: consuming ReceivedFrame, from connection: any Connection
    ) throws(TransportError) -> [UInt8] {
        switch frame.header.kind {
        case kind: return Array(frame.payload)
        case .refusal:
            throw TransportError(
                .refused, "\(connection.peer): \(String(decoding: frame.payload, as: UTF8.self))")
        default:
            throw TransportError(
                .malformed,
                "\(connection.peer) answered hello by a \(frame.header.kind) frame, expected \(kind)"
            )
        }
    }
}
