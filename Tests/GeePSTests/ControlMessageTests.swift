import GeePSCore
import Testing

@testable import GeePS

@Suite struct ControlMessageTests {
    static let samples: [ControlMessage] = [
        .join(JoinRequest(worldSize: 6, identity: .max - 1, process: describe(2))),
        .waiting(missing: [2, 5]), .waiting(missing: []),
        .roster(
            (0..<3).map {
                ProcessDescription(rank: $0, host: "h", pid: 1, endpoint: [1], agreement: "")
            }),
        .refusal(LaunchError(.disagreement, "zwölf\nlines")), .heartbeat(heard: 1 << 40),
        .rejoin(Rejoin(rank: 3, identity: 1 << 60, heard: 7)), .rejoined(heard: 9),
        .contribution(
            Contribution(
                sequence: 7, operation: .sum, label: "loss", patienceNanoseconds: .max,
                payload: encodeDoubles([1.5, -0.0]))),
        .result(sequence: 7, bytes: [1, 2, 3]),
        .collectiveRefusal(sequence: 8, LaunchError(.timeout, "late")),
        .failure(FailureNews(rank: 3, kind: .aborted, detail: "disk full")), .goodbye, .farewell,
        .decline(
            ProcessDescription(rank: 2, host: "h", pid: 1, endpoint: [], agreement: ""),
            reason: "no data"),
        .challenge(nonce: [UInt8](repeating: 3, count: 32)),
        .callerProof(
            rank: 4, nonce: [UInt8](repeating: 3, count: 32),
            proof: [UInt8](repeating: 5, count: 32)),
        .listenerProof([UInt8](repeating: 5, count: 32)),
        .statusRequest(sequence: 9), .status(sequence: 9, bytes: [1, 2]),
        .unknownOptional(128), .unknownOptional(255),
    ]

    @Test(arguments: samples) func readsBackWhatWasWritten(message: ControlMessage) throws {
        #expect(try ControlMessage(decoding: message.encoded()) == message)
    }

    @Test(arguments: samples) func refusesEveryTruncationAndExtension(message: ControlMessage) {
        if case .unknownOptional = message { return }
        let bytes = message.encoded()
        for length in 0..<bytes.count {
            #expect(throws: ByteError.self) {
                try ControlMessage(decoding: Array(bytes[..<length]))
            }
        }
        #expect(throws: ByteError.self) { try ControlMessage(decoding: bytes + [0]) }
    }

    @Test(arguments: samples) func neverTrapsOnDamagedBytes(message: ControlMessage) {
        var random = SplitMix64(state: 1)
        var refused = 0
        for _ in 0..<2000 {
            var bytes = message.encoded()
            for _ in 0...(random.next() % 4) {
                bytes[Int(random.next() % UInt64(bytes.count))] = UInt8(
                    truncatingIfNeeded: random.next())
            }
            do { _ = try ControlMessage(decoding: bytes) } catch { refused += 1 }
        }
        #expect(refused > 0)
    }

    @Test(arguments: [0, 20, 127] as [UInt8]) func unknownKindsBelow128AreRefused(kind: UInt8) {
        #expect(throws: ByteError("message kind \(kind) is unknown")) {
            try ControlMessage(decoding: [kind])
        }
    }

    @Test func theExampleOfTheFormatPageIsWhatIsWritten() {
        let news = FailureNews(rank: 1, kind: .aborted, detail: "disk full")
        #expect(
            ControlMessage.failure(news).encoded() == [
                0x09, 0x01, 0x00, 0x00, 0x00, 0x03, 0x09, 0x00, 0x00, 0x00,
            ] + Array("disk full".utf8))
    }

    @Test func aRosterOfTheLargestJobFits() {
        let processes = (0..<Limits.workersMaximum).map {
            ProcessDescription(
                rank: $0, host: String(repeating: "h", count: ControlLimits.hostBytes), pid: 1,
                endpoint: Array(repeating: 1, count: ControlLimits.endpointBytes), agreement: "")
        }
        #expect(ControlMessage.roster(processes).encoded().count <= ControlLimits.payloadBytes)
    }
}
