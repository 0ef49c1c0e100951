/// Samples made from a seed, with a known answer: values are uniform in -1 ..< 1, and the label is
/// the largest of the outputs of a linear teacher.
///
/// A linear model can reach every label; every rank makes the same data.
public struct SyntheticDataset: Dataset {
    /// Says seed and size.
    public var name: String { "synthetic data of seed \(seed)" }
    /// Samples.
    public let count: Int
    /// Of one sample.
    public let shape: Shape
    /// Outputs of the teacher.
    public let classCount: Int
    /// What everything is made from.
    public let seed: UInt64
    private let firstSample: Int
    /// `[classCount, C * H * W]`.
    let teacher: [Float]
    private let labels: [Int32]

    /// `count` samples, from number `firstSample` of the endless row that `seed` begins: a test set is the same
    /// seed with a later first sample.
    public init(
        count: Int, shape: Shape, classCount: Int = 10, seed: UInt64, firstSample: Int = 0
    ) {
        precondition(count > 0 && firstSample >= 0, "synthetic data needs samples, got \(count)")
        precondition(classCount > 0, "synthetic data needs classes, got \(classCount)")
        self.count = count
        self.shape = shape
        self.classCount = classCount
        self.seed = seed
        self.firstSample = firstSample
        var random = SplitMix64(key: SplitMix64.key(seed, 0))
        let teacher = (0..<(classCount * shape.count)).map { _ in 2 * random.unit() - 1 }
        self.teacher = teacher
        var sample = [Float](repeating: 0, count: shape.count)
        labels = (0..<count).map { index in
            sample.withUnsafeMutableBufferPointer { values in
                guard let base = values.baseAddress else { return }
                Self.fill(base, values.count, seed, firstSample + index)
            }
            return Self.answer(sample, teacher, classCount)
        }
    }

    /// Makes samples of a batch.
    public func fill(
        _ indices: [Int], images: UnsafeMutablePointer<Float>, labels: UnsafeMutablePointer<Int32>
    ) {
        for (position, index) in indices.enumerated() {
            precondition(
                0..<count ~= index, "sample \(index) of \(name) does not exist: it has \(count)")
            Self.fill(images + position * shape.count, shape.count, seed, firstSample + index)
            labels[position] = self.labels[index]
        }
    }

    private static func fill(
        _ values: UnsafeMutablePointer<Float>, _ count: Int, _ seed: UInt64, _ sample: Int
    ) {
        var random = SplitMix64(key: SplitMix64.key(seed, 1, UInt64(sample)))
        for i in 0..<count { values[i] = 2 * random.unit() - 1 }
    }

    private static func answer(_ sample: [Float], _ teacher: [Float], _ classCount: Int) -> Int32 {
        var best: Float = -.infinity
        var answer = 0
        for c in 0..<classCount {
            var sum: Float = 0
            for i in 0..<sample.count { sum += sample[i] * teacher[c * sample.count + i] }
            if sum > best {
                best = sum
                answer = c
            }
        }
        return Int32(answer)
    }
}
