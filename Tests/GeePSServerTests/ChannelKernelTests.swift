import CGeePSKernels
import Testing

/// Normalisations of rows of channels; their numbers are compared with PyTorch's by the layers' tests.
@Suite("Channel kernels") struct ChannelKernelTests {
    /// Everything that the kernels of a level make of the same numbers, in place where they may.
    private func results(_ level: UInt32, rows: Int, channels: Int, isInPlace: Bool) -> [UInt64] {
        var numbers = TestNumbers(seed: UInt64(rows * 1000 + channels))
        let x = numbers.floats(rows * channels)
        let dy = numbers.floats(rows * channels)
        let vectors = (0..<4).map { _ in numbers.floats(channels) }
        let own = kernels(level).pointee
        let (height, width) = (Int64(rows), Int64(channels))
        var sums = [Double](repeating: .nan, count: channels)
        var products = sums
        var scratch = [Float](repeating: .nan, count: 4 * channels + 64)
        var bits: [UInt64] = []
        own.channel_moments(x, height, width, &sums, &products, &scratch)
        bits += (sums + products).map(\.bitPattern)
        own.channel_gradient_sums(x, dy, height, width, vectors[0], &sums, &products, &scratch)
        bits += (sums + products).map(\.bitPattern)

        /// What `body` writes, given where it reads from and writes to.
        func written(
            from source: [Float],
            _ body: (UnsafeMutablePointer<Float>, UnsafePointer<Float>) -> Void
        ) -> [UInt64] {
            var target = isInPlace ? source : [Float](repeating: .nan, count: source.count)
            target.withUnsafeMutableBufferPointer { target in
                source.withUnsafeBufferPointer { source in
                    let place = target.baseAddress!
                    body(place, isInPlace ? UnsafePointer(place) : source.baseAddress!)
                }
            }
            return target.map { UInt64($0.bitPattern) }
        }
        bits += written(from: x) { y, x in
            own.channel_normalise(y, x, height, width, vectors[0], vectors[1], vectors[2])
        }
        bits += written(from: dy) { dx, dy in
            own.channel_normalise_backward(
                dx, x, dy, height, width, vectors[0], vectors[1], vectors[2], vectors[3])
        }
        for beta: Float in [0.75, 0.5, 0.6] {
            let rule = geeps_response(before: 3, after: 2, factor: 0.2, beta: beta, k: 1.5)
            bits += written(from: x) {
                own.response_normalise($0, $1, height, width, rule, &scratch)
            }
            bits += written(from: dy) {
                own.response_normalise_backward($0, x, $1, height, width, rule, &scratch)
            }
        }
        return bits
    }

    @Test(arguments: kernelLevels, [1, 5, 16, 67])
    func everyLevelGivesTheSameBitsInPlaceAndApart(level: UInt32, channels: Int) {
        for rows in [1, 32, 33, 100] {
            let expected = results(
                geeps_level_baseline.rawValue, rows: rows, channels: channels, isInPlace: false)
            for isInPlace in [false, true] {
                let found = results(level, rows: rows, channels: channels, isInPlace: isInPlace)
                let isEqual = found == expected
                #expect(isEqual, "\(rows) rows, in place: \(isInPlace)")
            }
        }
    }
}
