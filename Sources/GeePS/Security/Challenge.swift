import GeePSCore

/// One handshake: what both sides have drawn, and what they mean by it.
///
/// Each side proves that it knows the key by a code over both numbers. The code also covers which side it is and what
/// the connection is for, so none serves twice: not on another connection, whose numbers differ, nor sent back to the
/// side that made it, nor for another rank or purpose. docs/formats/control.md and frame.md are normative.
struct Challenge: Sendable {
    /// What the connection is for.
    enum Purpose: UInt8, Sendable {
        case control = 1
        case lane = 2
    }

    /// Who proves.
    enum Side: UInt8, Sendable {
        /// The side that connected.
        case caller = 1
        /// The side that accepted.
        case listener = 2
    }

    static let nonceBytes = 32
    static let proofBytes = SHA256.digestBytes

    var purpose: Purpose
    /// The rank of the caller.
    var rank: UInt32
    /// What else the caller has said about itself.
    var details: [UInt8] = []
    /// Drawn by the caller.
    var callerNonce: [UInt8]
    /// Drawn by the listener.
    var listenerNonce: [UInt8]
    /// What the connection has that no other one has, where it has such: a proof that somebody in between passes on
    /// is then good for nothing.
    var channelBinding: [UInt8] = []

    /// The proof of one side.
    func proof(by side: Side, key: [UInt8]) -> [UInt8] {
        var message = ByteWriter()
        message.write("geeps handshake 1")
        message.write(purpose.rawValue)
        message.write(side.rawValue)
        message.write(rank)
        message.write(details)
        message.write(callerNonce)
        message.write(listenerNonce)
        if !channelBinding.isEmpty { message.write(channelBinding) }
        return hmacSHA256(key: key, message.bytes)
    }

    /// Whether `proof` is that of `side`.
    func isProven(_ proof: [UInt8], by side: Side, key: [UInt8]) -> Bool {
        callerNonce.count == Self.nonceBytes && listenerNonce.count == Self.nonceBytes
            && isEqualInConstantTime(proof, self.proof(by: side, key: key))
    }

    /// A number that was never there before.
    static func nonce() -> [UInt8] { randomBytes(nonceBytes) }
}
