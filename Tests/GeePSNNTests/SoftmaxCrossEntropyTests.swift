import Testing

@testable import GeePSNN

@Suite struct SoftmaxCrossEntropyTests {
    private func run(
        _ logits: [Float], _ labels: [Int32], classes: Int
    ) throws -> (result: BatchResult, gradient: [Float]) {
        var gradient = [Float](repeating: .nan, count: logits.count)
        let result = try SoftmaxCrossEntropy.run(
            logits: logits, labels: labels, batchSize: labels.count, classes: classes,
            gradient: &gradient)
        return (result, gradient)
    }

    @Test func equalLogitsCostTheLogarithmOfTheirNumber() throws {
        let (result, gradient) = try run([3, 3, 3, 3, -1, -1, -1, -1], [2, 0], classes: 4)
        #expect(abs(result.lossSum - 2 * logReference(4)) < 1e-12)
        #expect(gradient == [0.125, 0.125, -0.375, 0.125, -0.375, 0.125, 0.125, 0.125])
        // Of equal logits the first counts.
        #expect(result.correctCount == 1)
        #expect(result.meanLoss == result.lossSum / 2)
    }

    @Test(arguments: [Float(0), 1000, -1000, 1e30])
    func isStableWhereverTheLogitsLie(_ shift: Float) throws {
        let (result, gradient) = try run([shift, shift], [0], classes: 2)
        #expect(abs(result.lossSum - logReference(2)) < 1e-12)
        #expect(gradient == [-0.5, 0.5])
    }

    @Test func aHopelessSampleCostsItsDistanceAndNotInfinity() throws {
        let (result, gradient) = try run([0, 500], [0], classes: 2)
        #expect(abs(result.lossSum - 500) < 1e-9)
        #expect(gradient == [-1, 1])
    }

    @Test func notANumberReachesLossAndGradient() throws {
        let (result, gradient) = try run([0, .nan, 1], [0], classes: 3)
        #expect(result.lossSum.isNaN)
        #expect(gradient[0].isNaN)
    }

    @Test func mayWriteTheGradientOverTheLogits() throws {
        let logits: [Float] = [0.3, -1.2, 2.5, 0.1, 0.2, 0.7]
        let apart = try run(logits, [1, 2], classes: 3)
        var both = logits
        let result = try both.withUnsafeMutableBufferPointer { buffer in
            try SoftmaxCrossEntropy.run(
                logits: UnsafePointer(buffer.baseAddress!), labels: [1, 2], batchSize: 2,
                classes: 3, gradient: buffer.baseAddress)
        }
        #expect(result == apart.result)
        #expect(both == apart.gradient)
    }
}
