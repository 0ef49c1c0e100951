import GeePSDevice
import GeePSMemory

extension JobParser {
    /// The memory section.
    func memory(_ map: MapReader) -> MemorySettings {
        var map = map
        var settings = MemorySettings()
        settings.device =
            map.value("device", fallback: .host, expected: DeviceChoice.expected) {
                $0.text.flatMap { try? DeviceChoice(parsing: $0) }
            } ?? .host
        settings.budget = optional(
            "budget", in: &map,
            expected: "device memory above 0 such as 512MiB, or a share such as 35%"
        ) { MemoryBudget($0).flatMap { $0.isPositive ? $0 : nil } }
        let policy = map.choice(
            "policy", of: PlanPolicy.allCases.map(\.rawValue), default: settings.policy.rawValue)
        settings.policy = policy.flatMap(PlanPolicy.init) ?? settings.policy
        settings.pinnedHost = map.flag("pinned_host", default: settings.pinnedHost)
        settings.pinnedLimitBytes = optional(
            "pinned_limit", in: &map, expected: "a number of bytes such as 4GiB"
        ) { text in
            guard case .bytes(let bytes)? = MemoryBudget(text) else { return nil }
            return bytes
        }
        settings.linkBytesPerSecond = optional("link", in: &map, expected: LinkSpeed.expected) {
            LinkSpeed.bytesPerSecond($0)
        }
        map.finish()
        return settings
    }

    /// The value of `key` as `convert` reads its text; nil where the key is not given, or wrong.
    private func optional<Value>(
        _ key: String, in map: inout MapReader, expected: String,
        _ convert: @escaping (String) -> Value?
    ) -> Value? {
        guard map.has(key) else {
            _ = map.node(key)
            return nil
        }
        return map.value(key, fallback: nil, expected: expected) { $0.text.flatMap(convert) }
    }
}
