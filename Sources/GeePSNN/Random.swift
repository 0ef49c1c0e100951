/// SplitMix64 (Steele, Lea, Flood 2014): the n-th value is a hash of `key + n * gamma`, so that any
/// value of a stream is had without the ones before it.
///
/// All randomness of the room comes from here.
struct SplitMix64: Sendable {
    private static let gamma: UInt64 = 0x9E37_79B9_7F4A_7C15
    private var state: UInt64

    /// The stream of `key`; its first value is `SplitMix64.value(key, 0)`.
    init(key: UInt64) { state = key }

    /// A key that depends on every part and on their order.
    static func key(_ parts: UInt64...) -> UInt64 {
        var key: UInt64 = 0
        for part in parts { key = mix(key &+ gamma) ^ mix(part &+ gamma &* 3) &* gamma }
        return mix(key)
    }

    /// Value `index` of the stream of `key`.
    @inline(__always) static func value(_ key: UInt64, _ index: UInt64) -> UInt64 {
        mix(key &+ (index &+ 1) &* gamma)
    }

    @inline(__always) private static func mix(_ input: UInt64) -> UInt64 {
        var z = input
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// The next 64 bits.
    mutating func next() -> UInt64 {
        state &+= Self.gamma
        return Self.mix(state)
    }

    /// Uniform in `0 ..< 1`, a multiple of 2^-24.
    mutating func unit() -> Float { Float(next() >> 40) * 0x1p-24 }

    /// Uniform in `0 ..< bound`, without bias.
    mutating func below(_ bound: UInt64) -> UInt64 {
        precondition(bound > 0, "a random number below \(bound) does not exist")
        // Lemire 2019: the high half of a product, rejecting the short first stretch of the low half.
        var product = next().multipliedFullWidth(by: bound)
        if product.low < bound {
            let threshold = (0 &- bound) % bound
            while product.low < threshold { product = next().multipliedFullWidth(by: bound) }
        }
        return product.high
    }
}

/// Which draws a dropout layer makes: equal keys give equal masks, on every machine.
public struct NoiseKey: Hashable, Sendable {
    /// The job's seed.
    public var seed: UInt64
    /// The worker: two workers drop different values.
    public var rank: Int
    /// The clock the step belongs to.
    public var step: UInt64

    /// The draws of `rank` in `step`.
    public init(seed: UInt64, rank: Int = 0, step: UInt64 = 0) {
        self.seed = seed
        self.rank = rank
        self.step = step
    }

    /// Key of the stream of layer number `layer`.
    func stream(layer: Int) -> UInt64 {
        SplitMix64.key(seed, UInt64(truncatingIfNeeded: rank), step, UInt64(layer))
    }
}
