import CGeePSKernels
import Glibc
import Testing

@Suite("CUDA Layer Kernels") struct CUDALayerKernelTests {
    /// Outer, channels, inner.
    static let maps = [
        (0, 3, 1), (1, 1, 1), (5, 7, 1), (4, 64, 1), (3, 5, 6), (2, 3, 49), (2, 3, 0), (1, 0, 4),
        (19, 2, 1), (2, 2, 17),
    ]

    @Test(arguments: maps, LaunchShape.all)
    func addBiasAddsItsChannelsToEveryMap(map: (Int, Int, Int), shape: LaunchShape) throws {
        let (outer, channels, inner) = map
        var numbers = TestNumbers(seed: 7)
        let before = numbers.floats(outer * channels * inner)
        let bias = KernelArray(numbers.floats(channels), misalignment: 1)
        let target = KernelArray(before, misalignment: 1)
        try launch(
            "geeps_add_bias", shape, target.start, bias.constant, Int64(outer), Int64(channels),
            Int64(inner))
        let expected = before.enumerated().map { index, value in
            value + bias.start[index / inner % channels]
        }
        #expect(target.values.bits == expected.bits)
    }

    @Test(arguments: maps, LaunchShape.all)
    func biasGradientSumsEachChannel(map: (Int, Int, Int), shape: LaunchShape) throws {
        let (outer, channels, inner) = map
        var numbers = TestNumbers(seed: 8)
        let source = numbers.floats(outer * channels * inner)
        let gradient = KernelArray([Float](repeating: .nan, count: channels))
        let outputGradient = KernelArray(source, misalignment: 1)
        try launch(
            "geeps_bias_gradient", shape, gradient.start, outputGradient.constant, Int64(outer),
            Int64(channels), Int64(inner))
        var sums = [Double](repeating: 0, count: channels)
        for (index, value) in source.enumerated() {
            sums[index / inner % channels] += Double(value)
        }
        #expect(gradient.values.bits == sums.map { Float($0) }.bits)
    }

    // Below zero, inside, at the end and beyond; two equal largest; NaN; one class; no sample.
    @Test(arguments: [0, 1, 2, 10], LaunchShape.all)
    func softmaxLossGivesLossOutcomeAndGradient(classes: Int, shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 9)
        let batch = 37
        let logits = numbers.positiveFloats(batch * classes).map { 4 * $0 }
        var rows = (0..<batch).map { Array(logits[($0 * classes)..<(($0 + 1) * classes)]) }
        for b in rows.indices where classes > 0 {
            let norm = log(rows[b].reduce(0.0) { $0 + exp(Double($1)) })
            rows[b] = rows[b].map { Float(Double($0) - norm) }
        }
        if classes == 10 {
            rows[3] = [Float](repeating: -log(10), count: 10)
            rows[4][6] = .nan
            rows[5][0] = .nan
        }
        let labels = (0..<batch).map { Int32($0 % (classes + 2)) - 1 }
        let results = SoftmaxResults(rows: rows, labels: labels, classes: classes)
        for mode in SoftmaxResults.Mode.allCases {
            try results.check(mode, shape)
        }
    }

    @Test func softmaxLossCountsTheFirstOfEqualLargest() throws {
        let rows: [[Float]] = [[-2, -1, -1], [-2, -1, -1], [-1, -2, -1], [-1, -1, -1]]
        let labels = KernelArray<Int32>([1, 2, 2, 0])
        let probabilities = KernelArray(rows.flatMap(\.self))
        let losses = KernelArray<Float>([0, 0, 0, 0])
        let outcomes = KernelArray<Int32>([7, 7, 7, 7])
        try launch(
            "geeps_softmax_loss", LaunchShape(grid: 1, block: 4),
            UnsafeMutablePointer<Float>?.none, losses.start, outcomes.start,
            probabilities.constant, labels.constant, Int64(4), Int64(3), Float(1))
        #expect(outcomes.values == [1, 0, 0, 1])
        #expect(losses.values == [1, 1, 1, 1])
    }

    // The first value of the generator's reference implementation for this key.
    @Test func dropoutDrawsFromSplitMix64() throws {
        let draw: UInt64 = 6_457_827_717_110_365_317
        let low = draw & 0xFFFF_FFFF
        for (threshold, kept) in [(low, true), (low + 1, false)] {
            let target = KernelArray<Float>([0])
            let source = KernelArray<Float>([3])
            try launch(
                "geeps_dropout", LaunchShape(grid: 1, block: 1), target.start, source.constant,
                UInt64(1_234_567), threshold, Float(2), Int64(1))
            #expect(target.values == [kept ? 6 : 0])
        }
    }

    @Test(arguments: [0, 1, 2, 31, 64, 1003], LaunchShape.all)
    func dropoutIsThePlainLoop(count: Int, shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 10)
        let values = numbers.floats(count)
        let key: UInt64 = 0xFEDC_BA98_7654_3210
        for (probability, misalignment) in [(0.0, 0), (0.3, 0), (0.3, 1), (0.999, 0)] {
            let threshold = UInt64((probability * 0x1p32).rounded())
            let scale = Float(1 / (1 - probability))
            let expected = values.enumerated().map { i, value in
                var draw = TestNumbers(seed: key &+ UInt64(i / 2) &* 0x9E37_79B9_7F4A_7C15)
                let bits = draw.next()
                let half = i % 2 == 0 ? bits & 0xFFFF_FFFF : bits >> 32
                return half < threshold ? 0 : value * scale
            }
            let source = KernelArray(values, misalignment: misalignment)
            let target = KernelArray([Float](repeating: .nan, count: count))
            // Into another array, then in place.
            for array in [target, source] {
                try launch(
                    "geeps_dropout", shape, array.start, source.constant, key, threshold, scale,
                    Int64(count))
                #expect(array.values.bits == expected.bits)
            }
        }
    }

    @Test(arguments: [0, 1, 31, 32, 33, 1003], LaunchShape.all)
    func thirtyTwoSquaredNormPartsAreTheHostsNorm(count: Int, shape: LaunchShape) throws {
        var numbers = TestNumbers(seed: 11)
        let source = KernelArray(numbers.floats(count), misalignment: 1)
        let parts = KernelArray([Double](repeating: .nan, count: 32))
        try launch(
            "geeps_squared_norm_parts", shape, parts.start, source.constant, Int64(count),
            Int64(32))
        var sums = parts.values
        while sums.count > 1 {
            let half = sums.count / 2
            sums = (0..<half).map { sums[$0] + sums[$0 + half] }
        }
        let host = geeps_kernels_best().pointee.squared_norm(source.start, Int64(count))
        #expect(sums[0].bitPattern == host.bitPattern)
    }

    @Test(arguments: [1, 2, 7, 100])
    func squaredNormPartsAreTheSameForEveryLaunch(partCount: Int) throws {
        var numbers = TestNumbers(seed: 12)
        let values = numbers.floats(77)
        let source = KernelArray(values)
        var expected = [Double](repeating: 0, count: partCount)
        for (i, value) in values.enumerated() {
            expected[i % partCount] += Double(value) * Double(value)
        }
        for shape in LaunchShape.all {
            let parts = KernelArray([Double](repeating: .nan, count: partCount))
            try launch(
                "geeps_squared_norm_parts", shape, parts.start, source.constant, Int64(77),
                Int64(partCount))
            #expect(parts.values.map(\.bitPattern) == expected.map(\.bitPattern))
        }
    }
}

/// A batch of log-probabilities and what the loss kernel should make of it.
private struct SoftmaxResults {
    /// Where the gradient goes.
    enum Mode: CaseIterable {
        case none, apart, inPlace
    }

    let rows: [[Float]]
    let labels: [Int32]
    let classes: Int

    func check(_ mode: Mode, _ shape: LaunchShape) throws {
        let scale: Float = 0.25
        let batch = rows.count
        let probabilities = KernelArray(rows.flatMap(\.self), misalignment: 1)
        let apart = KernelArray([Float](repeating: .nan, count: batch * classes))
        let labelArray = KernelArray(labels)
        let losses = KernelArray([Float](repeating: .nan, count: batch))
        let outcomes = KernelArray([Int32](repeating: 9, count: batch))
        let gradient =
            switch mode {
            case .none: UnsafeMutablePointer<Float>?.none
            case .apart: apart.start
            case .inPlace: probabilities.start
            }
        try launch(
            "geeps_softmax_loss", shape, gradient, losses.start, outcomes.start,
            probabilities.constant, labelArray.constant, Int64(batch), Int64(classes), scale)
        #expect(losses.values.bits == (0..<batch).map(loss).bits)
        #expect(outcomes.values == (0..<batch).map(outcome))
        switch mode {
        case .none: #expect(probabilities.values.bits == rows.flatMap(\.self).bits)
        case .apart: expectGradient(apart.values, scale)
        case .inPlace: expectGradient(probabilities.values, scale)
        }
    }

    private func isClass(_ sample: Int) -> Bool { 0..<classes ~= Int(labels[sample]) }

    private func loss(_ sample: Int) -> Float {
        isClass(sample) ? -rows[sample][Int(labels[sample])] : Float(labels[sample])
    }

    private func outcome(_ sample: Int) -> Int32 {
        guard isClass(sample) else { return -1 }
        let row = rows[sample]
        var winner = 0
        for c in row.indices where row[c] > row[winner] { winner = c }
        return winner == Int(labels[sample]) ? 1 : 0
    }

    // Near, not equal: the exponential is the library's, of which there are several.
    private func expectGradient(_ gradient: [Float], _ scale: Float) {
        for sample in rows.indices {
            for c in 0..<classes {
                let value = gradient[sample * classes + c]
                let hot = c == Int(labels[sample]) ? 1.0 : 0.0
                let expected =
                    isClass(sample) ? (exp(Double(rows[sample][c])) - hot) * Double(scale) : 0
                let isNear =
                    expected.isNaN ? value.isNaN : abs(Double(value) - expected) <= 1e-7
                #expect(isNear, "sample \(sample), class \(c): \(value), expected \(expected)")
            }
        }
    }
}
