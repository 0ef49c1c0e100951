import CGeePSShims
import GeePSDevice

/// Softmax and cross-entropy on a stream; each sample's loss goes to memory, and is summed up on the host in
/// their order.
final class CUDALoss {
    /// A float32 loss and an Int32 outcome.
    static let bytesPerSample = 8

    private let compute: CUDACompute
    private let logits: CUDNNTensor
    private let batchSize: Int
    private let classes: Int

    init(_ compute: CUDACompute, batchSize: Int, classes: Int) throws(NNError) {
        self.compute = compute
        self.batchSize = batchSize
        self.classes = classes
        logits = try CUDNNTensor(
            batchSize, Shape(channels: classes), compute, .cudnn("describe logits", layer: "loss"))
    }

    /// Puts the loss on the stream.
    ///
    /// - Parameters:
    ///   - gradient: `[B, classes]`, overwritten with `(softmax - onehot) / B`.
    ///   - logProbabilities: room for `[B, classes]`; may be the memory of `gradient`.
    ///   - results: `[B]` losses, then `[B]` outcomes: 1 right, 0 wrong, -1 a label that is no class, which
    ///     stands where the loss would.
    func run(
        logits values: UnsafePointer<Float>, labels: UnsafePointer<Int32>,
        gradient: UnsafeMutablePointer<Float>?, logProbabilities: UnsafeMutablePointer<Float>,
        results: UnsafeMutableRawPointer
    ) {
        compute.put(.cudnn("compute log probabilities", layer: "loss")) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnSoftmaxForward(
                handle, Int32(GEEPS_CUDNN_SOFTMAX_LOG),
                Int32(GEEPS_CUDNN_SOFTMAX_INSTANCE), &one, logits.handle, values, &zero,
                logits.handle, logProbabilities)
        }
        let losses = results.assumingMemoryBound(to: Float.self)
        let outcomes = (results + batchSize * 4).assumingMemoryBound(to: Int32.self)
        compute.stream.launch(
            "geeps_softmax_loss", count: batchSize, label: "loss", gradient, losses, outcomes,
            UnsafePointer(logProbabilities), labels, Int64(batchSize), Int64(classes),
            1 / Float(batchSize))
    }
}

extension Network {
    /// The result that the loss step left on a stream's device, from a copy of `resultsTensor` on the host.
    ///
    /// - Throws: `.data` when a label is no class.
    public func batchResult(_ results: UnsafeRawPointer) throws(NNError) -> BatchResult {
        let losses = results.assumingMemoryBound(to: Float.self)
        let outcomes = (results + batchSize * 4).assumingMemoryBound(to: Int32.self)
        var result = BatchResult(lossSum: 0, correctCount: 0, sampleCount: batchSize)
        for sample in 0..<batchSize {
            guard outcomes[sample] >= 0 else {
                throw NNError(
                    .data,
                    "sample \(sample) of the batch: found label \(Int(losses[sample])), expected 0 to "
                        + "\(classCount - 1), because the model ends in \(classCount) values")
            }
            result.lossSum += Double(losses[sample])
            result.correctCount += Int(outcomes[sample])
        }
        return result
    }
}
