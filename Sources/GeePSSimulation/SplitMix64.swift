/// A small generator of random numbers (Steele, Lea, Flood 2014): one word of state, the same
/// numbers everywhere.
///
/// Every random choice of a simulation comes from one of these, seeded with the run's seed.
struct SplitMix64 {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// The next 64 bits.
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }

    /// A number in `0..<bound`; zero for a bound of zero.
    mutating func below(_ bound: UInt64) -> UInt64 {
        next().multipliedFullWidth(by: bound).high
    }

    /// A number in `0..<bound`.
    mutating func index(below bound: Int) -> Int { Int(below(UInt64(bound))) }

    /// A number in `low...high`.
    mutating func integer(_ low: Int, _ high: Int) -> Int { low + index(below: high - low + 1) }

    /// True in `percent` of a hundred cases.
    mutating func chance(_ percent: UInt64) -> Bool { below(100) < percent }

    /// Puts `items` into a random order (Fisher and Yates).
    mutating func shuffle(_ items: inout [Int]) {
        var last = items.count - 1
        while last > 0 {
            items.swapAt(last, index(below: last + 1))
            last -= 1
        }
    }
}
