/// The name among `candidates` that `typed` was probably meant to be, or nil when none is near.
///
/// Near is: the same but for case, another library's name for it, a few letters' difference, the
/// beginning of one another, or its initials ("wd" for "weight_decay").
func nearestName(to typed: String, among candidates: [String]) -> String? {
    let typed = typed.lowercased()
    if let alias = commonAliases[typed], candidates.contains(alias) { return alias }
    let allowed = max(1, min(3, typed.count / 3))
    let ranked = candidates.enumerated()
        .map { (distance: editDistance(typed, $0.element.lowercased()), index: $0.offset) }
        .min { ($0.distance, $0.index) < ($1.distance, $1.index) }
    if let ranked, ranked.distance <= allowed { return candidates[ranked.index] }
    guard typed.count >= 2 else { return nil }
    return candidates.first {
        let name = $0.lowercased()
        return name.count >= 2 && (name.hasPrefix(typed) || typed.hasPrefix(name))
    }
        ?? candidates.first { $0.split(separator: "_").map { $0.prefix(1) }.joined() == typed }
}

/// " (did you mean 'lr'?)", or nothing.
func suggestion(for typed: String, among candidates: [String]) -> String {
    nearestName(to: typed, among: candidates).map { " (did you mean '\($0)'?)" } ?? ""
}

/// Names that other libraries use for the same thing.
private let commonAliases = [
    "learning_rate": "lr", "epsilon": "eps", "l2": "weight_decay", "decay": "weight_decay",
    "servers": "keepers", "shards": "keepers", "nodes": "workers", "slack": "staleness",
    "iterations": "steps", "max_iter": "steps", "max_steps": "steps", "padding": "pad",
    "units": "out", "filters": "out", "probability": "p", "rate": "p", "dense": "linear",
    "batchnorm": "batch_norm", "batchnorm2d": "batch_norm", "bn": "batch_norm",
    "localresponsenorm": "lrn", "fc": "linear", "convolution": "conv", "conv2d": "conv",
    "max_pool": "maxpool",
]

/// Insertions, deletions, replacements and swaps of neighbours that turn `a` into `b`.
func editDistance(_ a: String, _ b: String) -> Int {
    let a = Array(a.unicodeScalars)
    let b = Array(b.unicodeScalars)
    var rows = [Array(0...b.count)]
    for i in 0..<a.count {
        var row = [i + 1]
        for j in 0..<b.count {
            let replaced = rows[i][j] + (a[i] == b[j] ? 0 : 1)
            var least = min(replaced, rows[i][j + 1] + 1, row[j] + 1)
            if i > 0, j > 0, a[i] == b[j - 1], a[i - 1] == b[j] {
                least = min(least, rows[i - 1][j - 1] + 1)
            }
            row.append(least)
        }
        rows.append(row)
    }
    return rows[a.count][b.count]
}
