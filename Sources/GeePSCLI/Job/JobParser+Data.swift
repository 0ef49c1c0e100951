extension JobParser {
    /// The data section; batch size and shuffling are the same for all formats.
    func data(_ map: MapReader) -> DataConfiguration? {
        var map = map
        guard let format = map.choice("format", of: ["mnist", "cifar10", "synthetic"]) else {
            return nil
        }
        map.owner = "data (\(format))"
        let source = source(format, &map)
        let batchSize = map.integer("batch_size", in: 1...1_000_000, default: 32)
        let isShuffled = map.flag("shuffle", default: true)
        map.finish()
        return source.map {
            DataConfiguration(source: $0, batchSize: batchSize, isShuffled: isShuffled)
        }
    }

    private func source(_ format: String, _ map: inout MapReader) -> DataConfiguration.Source? {
        if format == "synthetic" { return synthetic(&map) }
        let expected =
            format == "mnist"
            ? "the directory with the IDX files" : "the directory with the .bin files"
        let directory = path("path", in: &map, isRequired: true, expected: expected)
        return directory.map { format == "mnist" ? .mnist(directory: $0) : .cifar10(directory: $0) }
    }

    private func synthetic(_ map: inout MapReader) -> DataConfiguration.Source? {
        let samples = map.integer("samples", in: 1...Int.max)
        let classes = map.integer("classes", in: 2...1_000_000)
        let seed: UInt64 = map.integer("seed", in: 0...UInt64.max, default: 1)
        let hasFeatures = map.node("features") != nil
        let hasShape = map.node("shape") != nil
        if hasFeatures == hasShape {
            map.report(
                at: hasShape
                    ? max(map.origin(of: "features"), map.origin(of: "shape")) : map.origin,
                hasShape
                    ? "found both data.features and data.shape, expected one of them"
                    : "missing key 'features' or 'shape' in \(map.owner), expected one of them")
            return nil
        }
        let shape =
            hasShape
            ? map.integers("shape", in: 1...1_000_000)
            : [map.integer("features", in: 1...100_000_000)]
        return shape.map { .synthetic(samples: samples, shape: $0, classes: classes, seed: seed) }
    }
}
