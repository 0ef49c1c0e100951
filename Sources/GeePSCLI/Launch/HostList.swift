/// A list of hosts as Slurm writes it: "gpu-[003-005,9]-ib[0-1],login".
///
/// Parsed here because `scontrol show hostnames` may be missing in a container.
enum HostList {
    /// More are a mistake in the list: no job has as many processes.
    private static let hostsMaximum = 65536

    /// The hosts in order; nil when `text` is no such list.
    static func hosts(of text: String) -> [String]? {
        guard let parts = split(text) else { return nil }
        var hosts: [String] = []
        for part in parts {
            guard let names = names(of: part), hosts.count + names.count <= hostsMaximum else {
                return nil
            }
            hosts += names
        }
        return hosts
    }

    /// The parts between commas that are not in brackets.
    private static func split(_ text: String) -> [Substring]? {
        var parts: [Substring] = []
        var start = text.startIndex
        var isInBrackets = false
        for index in text.indices {
            switch text[index] {
            case "[" where !isInBrackets: isInBrackets = true
            case "]" where isInBrackets: isInBrackets = false
            case "[", "]": return nil
            case "," where !isInBrackets:
                parts.append(text[start..<index])
                start = text.index(after: index)
            default: break
            }
        }
        parts.append(text[start...])
        return isInBrackets || parts.contains("") ? nil : parts
    }

    /// The names that a part with any number of brackets stands for; the last bracket counts fastest.
    private static func names(of part: Substring) -> [String]? {
        var names = [""]
        var rest = part
        while let open = rest.firstIndex(of: "[") {
            guard let close = rest[open...].firstIndex(of: "]"),
                let numbers = numbers(of: rest[rest.index(after: open)..<close]),
                names.count * numbers.count <= hostsMaximum
            else { return nil }
            let literal = rest[..<open]
            names = names.flatMap { name in numbers.map { name + literal + $0 } }
            rest = rest[rest.index(after: close)...]
        }
        return names.map { $0 + rest }
    }

    /// The numbers of "003-005,9", each with as many digits as the list gives it.
    private static func numbers(of text: Substring) -> [String]? {
        var numbers: [String] = []
        for piece in text.split(separator: ",", omittingEmptySubsequences: false) {
            let ends = piece.split(separator: "-", omittingEmptySubsequences: false)
            guard let low = ends.first, let first = number(low), let high = ends.last,
                let last = number(high), ends.count <= 2, first <= last,
                last - first < hostsMaximum
            else { return nil }
            numbers += (first...last).map { number in
                let digits = "\(number)"
                return String(repeating: "0", count: max(0, low.count - digits.count)) + digits
            }
        }
        return numbers
    }

    private static func number(_ text: Substring) -> Int? {
        text.allSatisfy { $0.isASCII && $0.isNumber } ? Int(text) : nil
    }
}
