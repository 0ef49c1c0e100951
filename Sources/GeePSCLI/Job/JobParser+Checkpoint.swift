extension JobParser {
    /// The checkpoint section.
    ///
    /// - Parameter outputDirectory: has the checkpoints of a job that does not say where.
    func checkpoint(_ map: MapReader, outputDirectory: String?) -> CheckpointSettings? {
        var map = map
        let given = path(
            "directory", in: &map, mustExist: false, expected: "the path of a directory")
        var settings = CheckpointSettings(directory: given ?? "")
        settings.every =
            map.value(
                "every", fallback: settings.every,
                expected: "a number of clocks such as 500, or a time such as 30s or 10m"
            ) { node -> CheckpointSettings.Interval? in
                guard let text = node.plainText else { return nil }
                if let clocks = UInt64(text) { return clocks > 0 ? .clocks(clocks) : nil }
                return Duration(jobText: text).map { .time($0) }
            } ?? settings.every
        settings.keep = map.integer("keep", in: 1...1_000_000, default: settings.keep)
        let resume = map.text("resume", expected: "auto, never or the path of a checkpoint")
        switch resume {
        case nil, "auto": settings.resume = .automatic
        case "never": settings.resume = .never
        case let text?: settings.resume = .from(directory.resolve(text))
        }
        settings.restarts = map.integer("restarts", in: 0...1_000_000, default: settings.restarts)
        map.finish()
        guard given == nil, !map.has("directory") else { return settings }
        guard let outputDirectory else {
            map.report(
                at: map.origin,
                "missing key 'directory' in \(map.owner), expected the path of a directory; with "
                    + "output.directory it may be left out")
            return nil
        }
        settings.directory = outputDirectory + "/checkpoints"
        return settings
    }
}
