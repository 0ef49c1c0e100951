/// Which stretches of an arena are free: best fit, neighbours joined.
///
/// Sizes and offsets are in bytes and rounded up to the granule. One scan over the free stretches for each
/// call, which set-up alone makes.
struct FreeStretches {
    /// What every stretch is a multiple of; more than any library wants aligned.
    static let granuleBytes = 512

    // Sorted; no two touch.
    private(set) var stretches: [Range<Int>]

    /// All of `byteCount` bytes free, less what does not fill a granule.
    init(byteCount: Int) {
        let size = byteCount / Self.granuleBytes * Self.granuleBytes
        stretches = size > 0 ? [0..<size] : []
    }

    /// The longest free stretch.
    var largest: Int { stretches.reduce(0) { max($0, $1.count) } }

    /// Takes `byteCount` bytes from the shortest stretch that has them.
    ///
    /// - Returns: where; nil when no stretch has them.
    mutating func take(_ byteCount: Int) -> Int? {
        let size = Self.roundedUp(byteCount)
        var best: Int?
        for (index, stretch) in stretches.enumerated() where stretch.count >= size {
            if best.map({ stretch.count < stretches[$0].count }) ?? true { best = index }
        }
        guard let best else { return nil }
        let stretch = stretches[best]
        if stretch.count == size {
            stretches.remove(at: best)
        } else {
            stretches[best] = stretch.lowerBound + size..<stretch.upperBound
        }
        return stretch.lowerBound
    }

    /// Gives back what `take` gave for `byteCount` bytes.
    mutating func giveBack(_ offset: Int, byteCount: Int) {
        var joined = offset..<offset + Self.roundedUp(byteCount)
        let next = stretches.firstIndex { $0.lowerBound >= offset } ?? stretches.count
        precondition(
            (next == 0 || stretches[next - 1].upperBound <= joined.lowerBound)
                && (next == stretches.count || stretches[next].lowerBound >= joined.upperBound),
            "stretch \(joined) of device memory was given back twice")
        var replaced = next..<next
        if next < stretches.count, stretches[next].lowerBound == joined.upperBound {
            joined = joined.lowerBound..<stretches[next].upperBound
            replaced = next..<next + 1
        }
        if next > 0, stretches[next - 1].upperBound == joined.lowerBound {
            joined = stretches[next - 1].lowerBound..<joined.upperBound
            replaced = next - 1..<replaced.upperBound
        }
        stretches.replaceSubrange(replaced, with: CollectionOfOne(joined))
    }

    static func roundedUp(_ byteCount: Int) -> Int {
        (byteCount + granuleBytes - 1) / granuleBytes * granuleBytes
    }
}
