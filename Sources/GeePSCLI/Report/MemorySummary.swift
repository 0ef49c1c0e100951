/// What managed memory did in a training run, on one rank.
struct MemorySummary: Hashable, Sendable {
    /// Device memory that the placement takes.
    var deviceBytes: Int
    /// What keeping everything that is worth it would take.
    var fullBytes: Int
    /// Copied to the device and from it in the whole run.
    var bytesIn: UInt64
    var bytesOut: UInt64
    /// The same by the plan, for each clock.
    var plannedBytesIn: Int
    var plannedBytesOut: Int
    /// Clocks.
    var steps: Int
    /// Accesses that were not where the plan had them, and accesses served by themselves.
    var deviations: UInt64
    var onDemand: UInt64
    /// Layers that ran forward twice.
    var recomputedLayers: [String]

    /// For `--json`.
    var json: JSONValue {
        .object([
            "device_bytes": .integer(Int64(deviceBytes)),
            "full_bytes": .integer(Int64(fullBytes)),
            "bytes_in": .integer(Int64(clamping: bytesIn)),
            "bytes_out": .integer(Int64(clamping: bytesOut)),
            "planned_bytes_in": .integer(Int64(plannedBytesIn)),
            "planned_bytes_out": .integer(Int64(plannedBytesOut)),
            "deviations": .integer(Int64(clamping: deviations)),
            "on_demand": .integer(Int64(clamping: onDemand)),
            "recomputed": .array(recomputedLayers.map { .string($0) }),
        ])
    }

    /// For a person.
    var rows: [(name: String, text: String)] {
        let share = Double(deviceBytes) / Double(max(1, fullBytes))
        var rows = [
            (
                "device memory",
                "\(Text.bytes(UInt64(deviceBytes))), \(Text.percent(share, 0)) of what keeping all needs"
            ),
            (
                "copied a step",
                "\(Text.bytes(bytesIn / UInt64(max(1, steps)))) in, "
                    + "\(Text.bytes(bytesOut / UInt64(max(1, steps)))) out"
            ),
        ]
        if !recomputedLayers.isEmpty {
            rows.append(("recomputed", recomputedLayers.joined(separator: ", ")))
        }
        if onDemand > 0 { rows.append(("off the plan", "\(onDemand) accesses")) }
        return rows
    }
}
