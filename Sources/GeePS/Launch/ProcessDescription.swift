import Glibc

/// What a process tells the others about itself when it joins.
public struct ProcessDescription: Hashable, Sendable {
    /// Its place in the job, from zero.
    public var rank: Int
    /// The name of its machine, for messages.
    public var host: String
    /// Its process id on that machine, for messages.
    public var pid: UInt32
    /// Where its data lanes can be reached; only the transport reads it.
    ///
    /// At most 1024 bytes.
    public var endpoint: [UInt8]
    /// What all processes must have in common, one `key: value` a line: layouts, optimiser,
    /// consistency, cluster size, block size, program version.
    ///
    /// At most 256 KiB.
    public var agreement: String

    /// A description of any process.
    public init(rank: Int, host: String, pid: UInt32, endpoint: [UInt8], agreement: String) {
        self.rank = rank
        self.host = host
        self.pid = pid
        self.endpoint = endpoint
        self.agreement = agreement
    }

    /// A description of this process, with the host name and process id the system gives.
    public init(rank: Int, endpoint: [UInt8], agreement: String) {
        self.init(
            rank: rank, host: systemHostName(), pid: UInt32(getpid()), endpoint: endpoint,
            agreement: agreement)
    }

    /// "rank 2 (node7, pid 1234)".
    public var name: String { "rank \(rank) (\(host), pid \(pid))" }
}

/// The name of this machine, as far as the system knows one.
private func systemHostName() -> String {
    var buffer = [CChar](repeating: 0, count: 256)
    let status = gethostname(&buffer, buffer.count - 1)
    guard status == 0 else { return "unknown host" }
    return String(decoding: buffer.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
}

/// The lines in which two agreement texts differ, one difference a line with both values; empty when
/// they agree.
///
/// Keys are listed in the order of `left`, then those only `right` has. A key that occurs more than once
/// is compared occurrence by occurrence.
func agreementDifferences(
    _ left: String, of leftName: String, _ right: String, of rightName: String
) -> [String] {
    guard left != right else { return [] }
    let rights = agreementLines(right)
    // Only looked up, never iterated: its order does not show.
    var places: [String: [Int]] = [:]
    for index in rights.indices.reversed() { places[rights[index].key, default: []].append(index) }
    var isMatched = [Bool](repeating: false, count: rights.count)
    var differences: [String] = []
    for line in agreementLines(left) {
        let place = places[line.key]?.popLast()
        if let place { isMatched[place] = true }
        let other = place.map { rights[$0].value }
        if other != line.value {
            differences.append(
                "\(line.key): \(leftName) has \(line.value), \(rightName) has \(other ?? "nothing")"
            )
        }
    }
    for (line, matched) in zip(rights, isMatched) where !matched {
        differences.append("\(line.key): \(leftName) has nothing, \(rightName) has \(line.value)")
    }
    return differences.isEmpty
        ? ["the texts differ in order or spacing only; write them canonically"] : differences
}

private func agreementLines(_ text: String) -> [(key: String, value: String)] {
    text.split(separator: "\n").map { line in
        let parts = line.split(separator: ":", maxSplits: 1, omittingEmptySubsequences: false)
        guard parts.count == 2 else { return (String(line), "this line") }
        return (String(parts[0]), String(parts[1].drop { $0 == " " }))
    }
}
