import GeePSNN

extension JobParser {
    /// The emulate section; nil after reporting what is wrong with it.
    func pace(_ map: MapReader, workers: Int, isOnHost: Bool) -> EmulatedPace? {
        var map = map
        let expected = "a time such as 20ms"
        let clock = map.value("clock", fallback: nil, expected: expected, Self.nanoseconds)
        var delay: UInt64?
        if map.has("delay") {
            delay = map.value("delay", fallback: nil, expected: expected, Self.nanoseconds)
        }
        _ = map.node("delay")
        let delayed = map.value(
            "delayed", fallback: .inTurn,
            expected: "turns, or the rank of one of \(workers) worker\(workers == 1 ? "" : "s")"
        ) { node -> EmulatedPace.Delayed? in
            if node.text == "turns" { return .inTurn }
            return node.plainText.flatMap { Int($0) }
                .flatMap { (0..<workers).contains($0) ? .worker($0) : nil }
        }
        map.finish()
        if map.has("delayed"), !map.has("delay") {
            map.report(
                at: map.origin(of: "delayed"),
                "found emulate.delayed without emulate.delay, expected \(expected) for it too")
        }
        if !isOnHost {
            map.report(
                at: map.origin,
                "found emulate with layers on a GPU, expected memory.device: host; a GPU's layers take "
                    + "the time they take")
        }
        guard let clock, let delayed else { return nil }
        return EmulatedPace(
            clockNanoseconds: clock, delayNanoseconds: delay ?? 0, delayed: delayed)
    }

    /// Nanoseconds of a time of at most a day.
    private static func nanoseconds(_ node: JobNode) -> UInt64? {
        guard let duration = node.plainText.flatMap(Duration.init(jobText:)),
            duration <= .seconds(86_400)
        else { return nil }
        return UInt64(duration / .nanoseconds(1))
    }
}
