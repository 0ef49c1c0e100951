import GeePSCore
import Testing

@testable import GeePS

@Suite struct CollectiveRulesTests {
    private func part(
        _ sequence: UInt64, _ label: String = "x", patience: UInt64 = .max, values: [Double] = [1]
    ) -> Contribution {
        Contribution(
            sequence: sequence, operation: .sum, label: label, patienceNanoseconds: patience,
            payload: encodeDoubles(values))
    }

    private func refusals(_ answers: [CollectiveRules.Answer]) -> [LaunchError.Code] {
        answers.compactMap {
            if case .collectiveRefusal(_, let error) = $0.message { error.code } else { nil }
        }
    }

    @Test func aRoundAnswersAllWhenTheLastArrives() throws {
        var rules = CollectiveRules(worldSize: 3)
        #expect(try rules.offer(part(1, values: [1]), from: 2, now: 0).isEmpty)
        #expect(try rules.offer(part(1, values: [2]), from: 0, now: 0).isEmpty)
        let answers = try rules.offer(part(1, values: [4]), from: 1, now: 0)
        #expect(answers.map(\.rank) == [0, 1, 2])
        let result = ControlMessage.result(sequence: 1, bytes: encodeDoubles([7]))
        #expect(answers.allSatisfy { $0.message == result })
        #expect(rules.nextExpiry == nil)
    }

    @Test func theEarliestDeadlineCounts() throws {
        var rules = CollectiveRules(worldSize: 3)
        _ = try rules.offer(part(1, patience: 100), from: 0, now: 0)
        _ = try rules.offer(part(1, patience: 20), from: 1, now: 10)
        #expect(rules.nextExpiry == 30)
        #expect(rules.expire(now: 29).isEmpty)
        let answers = rules.expire(now: 30)
        #expect(answers.map(\.rank) == [0, 1])
        #expect(refusals(answers) == [.timeout, .timeout])
        #expect(rules.nextExpiry == nil)
        #expect(rules.expire(now: 1000).isEmpty)
    }

    @Test func aRankThatIsLateToARefusedRoundHearsItAndCatchesUp() throws {
        var rules = CollectiveRules(worldSize: 2)
        for sequence in 1...3 as ClosedRange<UInt64> {
            _ = try rules.offer(part(sequence, patience: 1), from: 0, now: sequence * 10)
            #expect(refusals(rules.expire(now: sequence * 10 + 1)) == [.timeout])
        }
        _ = try rules.offer(part(4), from: 0, now: 100)
        for sequence in 1...3 as ClosedRange<UInt64> {
            let answers = try rules.offer(part(sequence), from: 1, now: 200)
            #expect(answers.map(\.rank) == [1])
            #expect(refusals(answers) == [.timeout])
        }
        #expect(try rules.offer(part(4), from: 1, now: 200).count == 2)
    }

    @Test func differentCountsAreAMismatch() throws {
        var rules = CollectiveRules(worldSize: 2)
        _ = try rules.offer(part(1, values: [1, 2]), from: 0, now: 0)
        #expect(
            refusals(try rules.offer(part(1, values: [1]), from: 1, now: 0))
                == [.mismatch, .mismatch])
    }

    @Test func nobodyWaitsForARankThatHasLeft() throws {
        var rules = CollectiveRules(worldSize: 3)
        _ = try rules.offer(part(1), from: 0, now: 0)
        let answers = rules.leave(rank: 2)
        #expect(answers.map(\.rank) == [0])
        #expect(refusals(answers) == [.left])
        #expect(refusals(try rules.offer(part(1), from: 1, now: 0)) == [.left])
        #expect(refusals(try rules.offer(part(2), from: 1, now: 0)) == [.left])
    }

    @Test func aPartOutOfSequenceIsRefused() throws {
        var rules = CollectiveRules(worldSize: 2)
        #expect(throws: ByteError("collective 2, expected 1")) {
            try rules.offer(part(2), from: 0, now: 0)
        }
        _ = try rules.offer(part(1), from: 0, now: 0)
        #expect(throws: ByteError("collective 1, expected 2")) {
            try rules.offer(part(1), from: 0, now: 0)
        }
    }

    @Test func aRankMayBeAheadByALimitedNumberOfRefusedRounds() throws {
        var rules = CollectiveRules(worldSize: 2)
        _ = rules.leave(rank: 1)
        // Rounds of a rank that waits for nobody are forgotten at once: no limit is reached.
        for sequence in 1...UInt64(3) {
            #expect(refusals(try rules.offer(part(sequence), from: 0, now: 0)) == [.left])
        }
        #expect(rules.nextExpiry == nil)
    }
}
