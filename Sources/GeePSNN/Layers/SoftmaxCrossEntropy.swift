import Glibc

/// What a batch came to.
public struct BatchResult: Hashable, Sendable {
    /// Sum of the samples' losses; divide by `sampleCount` for the mean that is trained on.
    public var lossSum: Double
    /// Samples whose largest logit is their label's; of equal logits the first counts.
    public var correctCount: Int
    /// Samples.
    public var sampleCount: Int

    /// Takes another batch in.
    public mutating func add(_ other: BatchResult) {
        lossSum += other.lossSum
        correctCount += other.correctCount
        sampleCount += other.sampleCount
    }

    /// The mean loss, in nats.
    public var meanLoss: Double { lossSum / Double(sampleCount) }
}

/// Softmax and cross-entropy in one; the mean over the batch is what is differentiated.
enum SoftmaxCrossEntropy {
    /// Computes loss, count of correct samples and, if asked, the gradient `(softmax - onehot) / B`.
    ///
    /// - Parameters:
    ///   - logits: `[B, classes]`.
    ///   - labels: `[B]`.
    ///   - gradient: `[B, classes]`, overwritten; may be the memory of `logits`.
    /// - Throws: `.data` when a label is not a class.
    static func run(
        logits: UnsafePointer<Float>, labels: UnsafePointer<Int32>, batchSize: Int, classes: Int,
        gradient: UnsafeMutablePointer<Float>?
    ) throws(NNError) -> BatchResult {
        var result = BatchResult(lossSum: 0, correctCount: 0, sampleCount: batchSize)
        let scale = 1 / Float(batchSize)
        for sample in 0..<batchSize {
            let label = Int(labels[sample])
            guard 0..<classes ~= label else {
                throw NNError(
                    .data,
                    "sample \(sample) of the batch: found label \(label), expected 0 to \(classes - 1), "
                        + "because the model ends in \(classes) values")
            }
            let row = logits + sample * classes
            var largest = row[0]
            var winner = 0
            for c in 1..<max(1, classes) where row[c] > largest {
                largest = row[c]
                winner = c
            }
            if winner == label { result.correctCount += 1 }
            // Double, so that a thousand classes lose nothing; the largest term is 1, so it is at least 1.
            var sum = 0.0
            let shift = largest
            let labelLogit = row[label]
            if let gradient {
                let target = gradient + sample * classes
                for c in 0..<classes {
                    let value = expf(row[c] - shift)
                    sum += Double(value)
                    target[c] = value
                }
                let factor = Float(1 / sum) * scale
                for c in 0..<classes { target[c] *= factor }
                target[label] -= scale
            } else {
                for c in 0..<classes { sum += Double(expf(row[c] - shift)) }
            }
            result.lossSum += log(sum) - Double(labelLogit - shift)
        }
        return result
    }
}
