import Testing

@testable import GeePS

@Suite struct ChallengeTests {
    private let key = [UInt8](repeating: 7, count: 32)
    private let challenge = Challenge(
        purpose: .control, rank: 3, details: [1, 2], callerNonce: [UInt8](repeating: 1, count: 32),
        listenerNonce: [UInt8](repeating: 2, count: 32))

    @Test func aProofIsGoodForWhatItWasMadeFor() {
        for side in [Challenge.Side.caller, .listener] {
            #expect(challenge.isProven(challenge.proof(by: side, key: key), by: side, key: key))
        }
    }

    /// The example of docs/formats/control.md, which Python's hmac has computed.
    @Test func proofsAreThoseOfTheFormat() {
        let challenge = Challenge(
            purpose: .control, rank: 1, callerNonce: [UInt8](repeating: 1, count: 32),
            listenerNonce: [UInt8](repeating: 2, count: 32))
        let key = Array("0123456789abcdef".utf8)
        #expect(
            hexadecimal(challenge.proof(by: .caller, key: key))
                == "f5d1536d991a8f0a65060da4243d0ccdce9f1a9407403438ae104eb77ca529d0")
        #expect(
            hexadecimal(challenge.proof(by: .listener, key: key))
                == "3fb82af8aa4ff8b8d855f9f2b08c24d488109b3aab9a1c8c6088dd99e213e92d")
    }

    static let changes: [(String, @Sendable (inout Challenge) -> Void)] = [
        ("purpose", { $0.purpose = .lane }), ("rank", { $0.rank = 4 }),
        ("details", { $0.details = [1] }),
        ("the caller's number", { $0.callerNonce[31] ^= 1 }),
        ("the listener's number", { $0.listenerNonce[0] ^= 1 }),
        ("numbers exchanged", { swap(&$0.callerNonce, &$0.listenerNonce) }),
        // Where one field ends and the next begins is part of the code.
        (
            "fields moved",
            { challenge in
                challenge.details = [1]
                challenge.callerNonce.insert(2, at: 0)
                challenge.listenerNonce.insert(challenge.callerNonce.removeLast(), at: 0)
                challenge.listenerNonce.removeLast()
            }
        ),
    ]

    @Test(arguments: changes.indices) func aProofIsGoodForNothingElse(index: Int) {
        var other = challenge
        Self.changes[index].1(&other)
        let proof = challenge.proof(by: .caller, key: key)
        #expect(!other.isProven(proof, by: .caller, key: key), "\(Self.changes[index].0)")
    }

    @Test func oneSidesProofIsNotTheOthers() {
        let proof = challenge.proof(by: .caller, key: key)
        #expect(!challenge.isProven(proof, by: .listener, key: key))
    }

    @Test func anotherKeyProvesNothing() {
        var other = key
        other[5] ^= 1
        let proof = challenge.proof(by: .caller, key: other)
        #expect(!challenge.isProven(proof, by: .caller, key: key))
        #expect(!challenge.isProven([], by: .caller, key: key))
        #expect(!challenge.isProven(Array(proof.dropLast()), by: .caller, key: key))
    }

    /// Who draws no number would accept what was said before.
    @Test func numbersOfAnotherLengthAreRefused() {
        var short = challenge
        short.callerNonce = []
        #expect(!short.isProven(short.proof(by: .caller, key: key), by: .caller, key: key))
    }

    @Test func laneKeysDifferBySecretAndByJob() {
        let (one, two) = (JobSecret(), JobSecret())
        let key = LaneKey(secret: one, salt: [1])
        #expect(key == LaneKey(secret: one, salt: [1]))
        #expect(key != LaneKey(secret: one, salt: [2]))
        #expect(key != LaneKey(secret: two, salt: [1]))
    }
}
