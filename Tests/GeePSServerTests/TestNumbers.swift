/// Numbers for tests, the same in every run.
struct TestNumbers {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    /// The next of SplitMix64.
    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// `count` values around zero, with magnitudes from 2^-12 to 2, a few of them zero.
    mutating func floats(_ count: Int) -> [Float] {
        (0..<count).map { _ in
            let bits = next()
            if bits % 53 == 0 { return bits % 2 == 0 ? 0 : -0.0 }
            let fraction = 1 + Float(bits >> 41) / Float(1 << 23)
            let exponent = Int(bits % 13)
            let value = fraction / Float(1 << exponent)
            return bits & 0x1000 == 0 ? value : -value
        }
    }

    /// `count` indices below `bound`, with repetitions.
    mutating func indices(_ count: Int, below bound: Int) -> [UInt32] {
        (0..<count).map { _ in UInt32(next() % UInt64(bound)) }
    }
}

extension [Float] {
    /// The bits: zeros of either sign and all NaNs differ.
    var bits: [UInt32] { map(\.bitPattern) }
}
