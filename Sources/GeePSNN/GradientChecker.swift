/// Compares computed gradients with central differences `(f(x + h) - f(x - h)) / 2h` on sampled coordinates.
///
/// The function is computed in float32 and summed in double, so differences are good to about
/// `1e-7 * |f| / h`; choose inputs that no step of h takes over a kink (relu at zero, ties of a maximum).
public struct GradientChecker: Sendable {
    /// h: how far a coordinate is moved.
    public var step: Float
    /// Coordinates tried; all of them if there are fewer.
    public var sampleCount: Int
    /// Which ones.
    public var seed: UInt64

    /// A checker.
    public init(step: Float = 1e-2, sampleCount: Int = 64, seed: UInt64 = 1) {
        self.step = step
        self.sampleCount = sampleCount
        self.seed = seed
    }

    /// Where computed and difference disagree most.
    public struct Worst: Sendable, Hashable {
        /// Index of the coordinate.
        public var coordinate: Int
        /// The computed gradient there.
        public var computed: Double
        /// The difference quotient there.
        public var difference: Double
        /// `|computed - difference| / (|computed| + |difference| + floor)`.
        public var error: Double
    }

    /// The largest disagreement.
    ///
    /// - Parameters:
    ///   - values: moved one at a time, and put back.
    ///   - gradient: what is checked, as long as `values`.
    ///   - floor: gradients far below this count as zero.
    ///   - function: computes f from what `values` holds now.
    public func worst(
        _ values: UnsafeMutableBufferPointer<Float>, gradient: [Float], floor: Double,
        _ function: () throws(NNError) -> Double
    ) throws(NNError) -> Worst {
        precondition(
            gradient.count == values.count,
            "\(gradient.count) gradients for \(values.count) values")
        var worst = Worst(coordinate: -1, computed: 0, difference: 0, error: -1)
        var random = SplitMix64(key: SplitMix64.key(seed))
        for sample in 0..<min(sampleCount, values.count) {
            let isEvery = values.count <= sampleCount
            let coordinate = isEvery ? sample : Int(random.below(UInt64(values.count)))
            let kept = values[coordinate]
            values[coordinate] = kept + step
            let (above, atAbove) = (try function(), values[coordinate])
            values[coordinate] = kept - step
            let (below, atBelow) = (try function(), values[coordinate])
            values[coordinate] = kept
            // What float32 made of 2h.
            let difference = (above - below) / (Double(atAbove) - Double(atBelow))
            let computed = Double(gradient[coordinate])
            let error =
                abs(computed - difference) / (abs(computed) + abs(difference) + floor)
            // Written so that a NaN is the worst of all.
            if !(error <= worst.error) {
                worst = Worst(
                    coordinate: coordinate, computed: computed, difference: difference,
                    error: error.isNaN ? .infinity : error)
            }
        }
        return worst
    }
}
