import GeePSCore

/// The rules of collectives at the coordinator, without threads, time or I/O: the n-th collective of every
/// rank is one round; a round ends the same way for everybody, with a result or a refusal.
struct CollectiveRules: Sendable {
    /// A message for one rank.
    struct Answer: Hashable, Sendable {
        var rank: Int
        var message: ControlMessage
    }

    /// Refused rounds that a rank may be ahead of another.
    static let roundsMaximum = 1 << 16

    private struct Round {
        // By rank; the payloads go when the round is refused.
        var parts: [Contribution?]
        var hasArrived: [Bool]
        var refusal: LaunchError?
        // Who arrived first, and who runs out of patience first and when.
        var first: Int
        var impatient: Int
        var expiry: UInt64
    }

    private let worldSize: Int
    // Round `firstSequence + i` is at `rounds[i]`.
    private var rounds: [Round] = []
    private var firstSequence: UInt64 = 1
    // By rank.
    private var nextSequence: [UInt64]
    private var hasLeft: [Bool]

    init(worldSize: Int) {
        self.worldSize = worldSize
        nextSequence = Array(repeating: 1, count: worldSize)
        hasLeft = Array(repeating: false, count: worldSize)
    }

    /// When `expire` must be called, in the time given to `offer`; nil while nobody waits.
    var nextExpiry: UInt64? {
        rounds.lazy.filter { $0.refusal == nil && $0.hasArrived.contains(true) }
            .map(\.expiry).min()
    }

    /// Takes one rank's part.
    ///
    /// - Throws: when it is out of sequence.
    mutating func offer(
        _ part: Contribution, from rank: Int, now: UInt64
    ) throws(ByteError) -> [Answer] {
        guard part.sequence == nextSequence[rank] else {
            throw ByteError("collective \(part.sequence), expected \(nextSequence[rank])")
        }
        let index = Int(part.sequence - firstSequence)
        guard index < Self.roundsMaximum else {
            throw ByteError("\(index) collectives ahead of the slowest rank")
        }
        nextSequence[rank] += 1
        if index == rounds.count { rounds.append(emptyRound(first: rank)) }
        let (expiry, isNever) = now.addingReportingOverflow(part.patienceNanoseconds)
        if !isNever && expiry < rounds[index].expiry {
            rounds[index].expiry = expiry
            rounds[index].impatient = rank
        }
        rounds[index].parts[rank] = part
        rounds[index].hasArrived[rank] = true
        defer { removeFinished() }
        if let refusal = rounds[index].refusal {
            rounds[index].parts[rank] = nil
            return [refusalAnswer(refusal, round: index, to: rank)]
        }
        if let error = mismatch(rounds[index], rank: rank) { return refuse(error, round: index) }
        let absent = absentees(of: rounds[index]).filter { hasLeft[$0] }
        if !absent.isEmpty { return refuse(leftError(part.name, absent), round: index) }
        guard !rounds[index].hasArrived.contains(false) else { return [] }
        let result = result(of: rounds[index])
        return (0..<worldSize).map {
            Answer(rank: $0, message: .result(sequence: part.sequence, bytes: result))
        }
    }

    /// Takes the news that `rank` has finished: nobody need wait for it.
    mutating func leave(rank: Int) -> [Answer] {
        hasLeft[rank] = true
        defer { removeFinished() }
        var answers: [Answer] = []
        for index in rounds.indices
        where rounds[index].refusal == nil && !rounds[index].hasArrived[rank] {
            answers += refuse(leftError(name(of: rounds[index]), [rank]), round: index)
        }
        return answers
    }

    /// Refuses the rounds whose patience has ended.
    mutating func expire(now: UInt64) -> [Answer] {
        defer { removeFinished() }
        var answers: [Answer] = []
        for index in rounds.indices where rounds[index].refusal == nil {
            let round = rounds[index]
            guard round.expiry <= now, let part = round.parts[round.impatient] else { continue }
            let time = secondsText(nanoseconds: part.patienceNanoseconds)
            let message =
                "\(part.name): \(rankList(absentees(of: round))) of \(worldSize) did not arrive "
                + "within \(time) of the call of rank \(round.impatient)"
            answers += refuse(LaunchError(.timeout, message), round: index)
        }
        return answers
    }

    private func emptyRound(first: Int) -> Round {
        Round(
            parts: Array(repeating: nil, count: worldSize),
            hasArrived: Array(repeating: false, count: worldSize),
            refusal: nil, first: first, impatient: first, expiry: .max)
    }

    private func absentees(of round: Round) -> [Int] {
        (0..<worldSize).filter { !round.hasArrived[$0] }
    }

    private func name(of round: Round) -> String {
        round.parts[round.first]?.name ?? "a collective"
    }

    private func leftError(_ name: String, _ ranks: [Int]) -> LaunchError {
        LaunchError(
            .left,
            "\(name): \(rankList(ranks)) of \(worldSize) said goodbye and will not take part")
    }

    /// Whether what `rank` called differs from what the first to arrive called.
    private func mismatch(_ round: Round, rank: Int) -> LaunchError? {
        guard let first = round.parts[round.first], let part = round.parts[rank] else { return nil }
        if first.operation != part.operation || first.label != part.label {
            return LaunchError(
                .mismatch,
                "ranks called different collectives: rank \(round.first) called \(first.name), "
                    + "rank \(rank) called \(part.name); all must call the same in the same order")
        }
        if part.operation == .sum && first.payload.count != part.payload.count {
            return LaunchError(
                .mismatch,
                "\(part.name): rank \(round.first) gave \(first.payload.count / 8) values, "
                    + "rank \(rank) gave \(part.payload.count / 8)")
        }
        return nil
    }

    private mutating func refuse(_ error: LaunchError, round index: Int) -> [Answer] {
        rounds[index].refusal = error
        rounds[index].parts = Array(repeating: nil, count: worldSize)
        return (0..<worldSize).filter { rounds[index].hasArrived[$0] }.map {
            refusalAnswer(error, round: index, to: $0)
        }
    }

    private func refusalAnswer(_ error: LaunchError, round index: Int, to rank: Int) -> Answer {
        let sequence = firstSequence + UInt64(index)
        return Answer(rank: rank, message: .collectiveRefusal(sequence: sequence, error))
    }

    private func result(of round: Round) -> [UInt8] {
        switch round.parts[round.first]?.operation {
        case .sum: return sumInRankOrder(round.parts.map { $0?.payload ?? [] })
        case .broadcast: return round.parts[0]?.payload ?? []
        case .barrier, nil: return []
        }
    }

    private mutating func removeFinished() {
        while let round = rounds.first,
            (0..<worldSize).allSatisfy({ round.hasArrived[$0] || hasLeft[$0] }),
            round.refusal != nil || !round.hasArrived.contains(false)
        {
            rounds.removeFirst()
            firstSequence += 1
        }
    }
}

/// ((rank 0 + rank 1) + rank 2) + ...: the same bits whoever arrives first.
private func sumInRankOrder(_ payloads: [[UInt8]]) -> [UInt8] {
    var sums = decodeDoubles(payloads[0])
    for payload in payloads.dropFirst() {
        for (index, value) in decodeDoubles(payload).enumerated() { sums[index] += value }
    }
    return encodeDoubles(sums)
}

/// 8 bytes a value, little endian.
func encodeDoubles(_ values: [Double]) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: values.count * 8)
    bytes.withUnsafeMutableBytes { raw in
        for (index, value) in values.enumerated() {
            raw.storeBytes(
                of: value.bitPattern.littleEndian, toByteOffset: index * 8, as: UInt64.self)
        }
    }
    return bytes
}

/// The values in `bytes`; a rest of fewer than 8 bytes is left out.
func decodeDoubles(_ bytes: [UInt8]) -> [Double] {
    bytes.withUnsafeBytes { raw in
        (0..<raw.count / 8).map { index in
            let bits = raw.loadUnaligned(fromByteOffset: index * 8, as: UInt64.self)
            return Double(bitPattern: UInt64(littleEndian: bits))
        }
    }
}
