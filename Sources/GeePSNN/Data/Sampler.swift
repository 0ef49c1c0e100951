/// Which samples each worker takes at each step: a function of its numbers alone, so workers need not agree.
///
/// An epoch is a permutation of the samples. Step t takes the t-th run of `workerCount * batchSize` of it, and
/// worker r the r-th slice of `batchSize`: n workers see together what one worker with an n-fold batch sees.
/// A last incomplete run is left out.
public struct Sampler: Sendable {
    /// Samples of the data set.
    public let sampleCount: Int
    /// Workers that share every step.
    public let workerCount: Int
    /// Samples a worker takes in a step.
    public let batchSize: Int
    /// The permutations' seed; nil keeps the data set's order in every epoch.
    public let shuffleSeed: UInt64?
    /// Steps of an epoch, at least 1.
    public let stepsPerEpoch: Int
    private var epoch: UInt64?
    private var order: [Int] = []

    /// - Throws: `.data` when one step takes more samples than there are.
    public init(
        sampleCount: Int, workerCount: Int, batchSize: Int, shuffleSeed: UInt64?
    ) throws(NNError) {
        precondition(
            workerCount > 0 && batchSize > 0,
            "sampling needs workers and samples a batch, got \(workerCount) and \(batchSize)")
        let (perStep, overflow) = workerCount.multipliedReportingOverflow(by: batchSize)
        guard !overflow && perStep <= sampleCount else {
            throw NNError(
                .data,
                "one step takes \(workerCount) workers x \(batchSize) samples, but the data set has "
                    + "\(sampleCount); a batch of \(max(0, sampleCount) / workerCount) would fit")
        }
        self.sampleCount = sampleCount
        self.workerCount = workerCount
        self.batchSize = batchSize
        self.shuffleSeed = shuffleSeed
        stepsPerEpoch = sampleCount / perStep
    }

    /// The samples of worker `rank` at `step` of the whole training (the first is zero), `batchSize` of them.
    ///
    /// - Complexity: O(batchSize), and O(sampleCount) at the first call of an epoch.
    public mutating func indices(step: UInt64, rank: Int) -> [Int] {
        precondition(0..<workerCount ~= rank, "rank \(rank) of \(workerCount) workers")
        let (epoch, stepInEpoch) = step.quotientAndRemainder(dividingBy: UInt64(stepsPerEpoch))
        let start = (Int(stepInEpoch) * workerCount + rank) * batchSize
        guard let shuffleSeed else { return Array(start..<(start + batchSize)) }
        if self.epoch != epoch {
            order = Self.permutation(sampleCount, SplitMix64.key(shuffleSeed, epoch))
            self.epoch = epoch
        }
        return Array(order[start..<(start + batchSize)])
    }

    /// Fisher and Yates's shuffle, written out: the library's may change between releases.
    private static func permutation(_ count: Int, _ key: UInt64) -> [Int] {
        var order = Array(0..<count)
        var random = SplitMix64(key: key)
        for i in stride(from: count - 1, to: 0, by: -1) {
            order.swapAt(i, Int(random.below(UInt64(i + 1))))
        }
        return order
    }
}
