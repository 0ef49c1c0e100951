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
        settings.isCPUSide = isCPUSide(in: &map)
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

    /// Whether rows are on the host and copied in the foreground; one without the other is not made.
    private func isCPUSide(in map: inout MapReader) -> Bool {
        let isOnHost =
            map.choice("parameter_cache", of: ["device", "host"], default: "device") == "host"
        let isBackground = map.flag("background", default: !isOnHost)
        if isOnHost == isBackground {
            map.report(
                at: map.origin(of: isOnHost ? "parameter_cache" : "background"),
                "found parameter_cache: \(isOnHost ? "host" : "device") with background: "
                    + "\(isBackground), expected host with false (a CPU-side parameter server, to "
                    + "compare with), or device with true")
        }
        if isOnHost, map.has("budget") {
            map.report(
                at: map.origin(of: "budget"),
                "found a budget with parameter_cache: host, which keeps all local data on the device: "
                    + "expected none")
        }
        return isOnHost
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
