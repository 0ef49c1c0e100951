import CGeePSKernels
import Glibc
import Testing

/// A batch's sequences as the kernels see them.
private struct Sequences: Sendable, CustomTestStringConvertible {
    var batch: Int
    var steps: Int
    var width: Int

    var testDescription: String { "\(batch) x \(steps) x \(width)" }

    static let all = [(1, 1, 1), (3, 4, 5), (2, 3, 33), (5, 2, 64), (0, 2, 3)]
        .map { Sequences(batch: $0.0, steps: $0.1, width: $0.2) }

    var rows: Int { batch * steps }
}

/// Tables of the instruction sets that this processor has.
private var tables: [geeps_kernels] {
    [geeps_level_baseline, geeps_level_v3, geeps_level_v4].compactMap {
        geeps_kernels_at($0)?.pointee
    }
}

private func sigmoid(_ x: Float) -> Double { 1 / (1 + exp(-Double(x))) }

/// Values for gates that are open: of a forward pass with random sums.
private func openGates(_ sequences: Sequences, _ numbers: inout TestNumbers) -> [Float] {
    (0..<(sequences.rows * 4 * sequences.width)).map { index in
        let x = 4 * numbers.positiveFloats(1)[0] - 4
        return index / sequences.width % 4 == 2 ? tanhf(x) : Float(sigmoid(x))
    }
}

private func expectNear(_ found: [Float], _ expected: [Double], _ what: String) {
    #expect(found.count == expected.count)
    let scale = expected.map(abs).max() ?? 0
    for (index, (own, other)) in zip(found, expected).enumerated()
    where !(abs(Double(own) - other) <= 1e-6 * scale) {
        Issue.record("\(what) \(index): \(own), expected \(other)")
        return
    }
}

@Suite("LSTM Kernels") struct LSTMKernelTests {
    // MARK: Sigmoid and tanh

    /// Every binade of both signs, and where bounds are.
    private static let arguments: [Float] = {
        var values: [Float] = [
            0, -0, 16.635532, 88.7, 88.73, 104, 105, 20, 20.1, 64, 64.1, .greatestFiniteMagnitude,
            .infinity,
        ]
        for exponent in -148...6 {
            var numbers = TestNumbers(seed: UInt64(exponent + 200))
            for fraction in numbers.positiveFloats(400) {
                values.append((1 + fraction / 2) * Float(exp2(Double(exponent))))
            }
        }
        return values + values.map { -$0 }
    }()

    /// Sigmoid and tanh of `arguments`, from the gates of a step of that width.
    private func gates(
        _ run: (KernelArray<Float>, KernelArray<Float>, KernelArray<Float>, KernelArray<Float>)
            throws -> Void
    ) rethrows -> [Float] {
        let width = Self.arguments.count
        let gates = KernelArray((0..<4).flatMap { _ in Self.arguments }, misalignment: 1)
        try run(
            gates, KernelArray([Float](repeating: 0, count: width)),
            KernelArray([Float](repeating: .nan, count: width)),
            KernelArray([Float](repeating: 0, count: 8 * width)))
        return gates.values
    }

    @Test func sigmoidAndTanhAreAccurateEverywhere() throws {
        let width = Int64(Self.arguments.count)
        let found = try gates {
            try launch(
                "geeps_lstm_forward", LaunchShape(grid: 7, block: 64), $0.start, $1.start, $2.start,
                $3.constant, 4 * width, width, Int64(1), width)
        }
        for (index, x) in Self.arguments.enumerated() {
            for gate in [0, 1, 3] {
                expectAccurate(found[gate * Int(width) + index], sigmoid(x), "sigmoid of \(x)")
            }
            expectAccurate(found[2 * Int(width) + index], tanh(Double(x)), "tanh of \(x)")
        }
        for table in tables {
            let own = gates {
                table.lstm_forward(
                    $0.start, $1.start, $2.start, $3.constant, 4 * width, width, 1, width)
            }
            #expect(own.bits == found.bits, "\(table.level)")
        }
    }

    @Test(arguments: [Float.nan, -.nan])
    func notANumberIsWhatAGateBecomesOfOne(_ nan: Float) throws {
        func gates(_ run: (KernelArray<Float>, KernelArray<Float>) throws -> Void) rethrows {
            let gates = KernelArray([nan, nan, nan, nan])
            let zeros = KernelArray([Float](repeating: 0, count: 8))
            try run(gates, zeros)
            let isNaN = gates.values.map(\.isNaN)
            #expect(isNaN == [true, true, true, true])
        }
        try gates {
            let (cell, hidden) = (KernelArray<Float>([0]), KernelArray<Float>([0]))
            try launch(
                "geeps_lstm_forward", LaunchShape(grid: 1, block: 1), $0.start, cell.start,
                hidden.start, $1.constant, Int64(4), Int64(1), Int64(1), Int64(1))
        }
        for table in tables {
            gates {
                let (cell, hidden) = (KernelArray<Float>([0]), KernelArray<Float>([0]))
                table.lstm_forward(
                    $0.start, cell.start, hidden.start, $1.constant, 4, 1, 1, 1)
            }
        }
    }

    /// Relatively; below the normal numbers to one of them.
    private func expectAccurate(_ found: Float, _ expected: Double, _ what: String) {
        let least = Double(Float.leastNormalMagnitude)
        let tolerance = abs(expected) < least ? least : 4e-7 * abs(expected)
        let error = abs(Double(found) - expected)
        if !(error <= tolerance) { Issue.record("\(what) is \(found), expected \(expected)") }
    }

    // MARK: A step

    /// What a step makes of random sums, all in double.
    private struct ForwardCase {
        let sums: [Float]
        let biases: [Float]
        let cell: [Float]
        var openGates: [Double] = []
        var cellAfter: [Double] = []
        var hidden: [Double] = []

        init(_ sequences: Sequences) {
            var numbers = TestNumbers(seed: 21)
            let (batch, width) = (sequences.batch, sequences.width)
            sums = numbers.positiveFloats(sequences.rows * 4 * width).map { 3 * ($0 - 1) }
            biases = numbers.positiveFloats(8 * width).map { $0 - 1 }
            cell = numbers.positiveFloats(batch * width).map { 2 * ($0 - 1) }
            for row in 0..<batch {
                for gate in 0..<4 {
                    for column in 0..<width {
                        let place = gate * width + column
                        let x =
                            sums[row * sequences.steps * 4 * width + place]
                            + (biases[place] + biases[4 * width + place])
                        openGates.append(gate == 2 ? tanh(Double(x)) : sigmoid(x))
                    }
                }
                let own = Array(openGates[(row * 4 * width)...])
                for column in 0..<width {
                    let after =
                        own[width + column] * Double(cell[row * width + column])
                        + own[column] * own[2 * width + column]
                    cellAfter.append(after)
                    hidden.append(own[3 * width + column] * tanh(after))
                }
            }
        }
    }

    /// The arrays of a forward step; hidden values lie `hiddenStride` apart.
    private struct ForwardArrays {
        let gates: KernelArray<Float>
        let cell: KernelArray<Float>
        let hidden: KernelArray<Float>
        let biases: KernelArray<Float>

        init(_ values: ForwardCase, _ sequences: Sequences, hiddenStride: Int) {
            gates = KernelArray(values.sums, misalignment: 1)
            cell = KernelArray(values.cell)
            hidden = KernelArray(
                [Float](repeating: -7, count: sequences.batch * hiddenStride), misalignment: 3)
            biases = KernelArray(values.biases, misalignment: 2)
        }

        var bits: [[UInt32]] { [gates, cell, hidden].map(\.values.bits) }
    }

    @Test(arguments: Sequences.all, LaunchShape.all)
    fileprivate func aStepOpensItsGates(sequences: Sequences, shape: LaunchShape) throws {
        let (batch, steps, width) = (sequences.batch, sequences.steps, sequences.width)
        let expected = ForwardCase(sequences)
        for hiddenStride in [width, steps * width + 2] {
            let arrays = ForwardArrays(expected, sequences, hiddenStride: hiddenStride)
            try launch(
                "geeps_lstm_forward", shape, arrays.gates.start, arrays.cell.start,
                arrays.hidden.start, arrays.biases.constant, Int64(steps * 4 * width),
                Int64(hiddenStride), Int64(batch), Int64(width))
            let gates = arrays.gates.values
            let own = (0..<batch).flatMap { row in
                (0..<(4 * width)).map { gates[row * steps * 4 * width + $0] }
            }
            expectNear(own, expected.openGates, "gate")
            expectNear(arrays.cell.values, expected.cellAfter, "cell")
            let hidden = arrays.hidden.values
            expectNear(
                (0..<(batch * width)).map { hidden[$0 / width * hiddenStride + $0 % width] },
                expected.hidden, "hidden")
            // The other steps stay as they are.
            for index in gates.indices where index / (4 * width) % steps != 0 {
                #expect(gates[index] == expected.sums[index])
            }
            for index in hidden.indices where index % hiddenStride >= width {
                #expect(hidden[index] == -7)
            }
            for table in tables {
                let other = ForwardArrays(expected, sequences, hiddenStride: hiddenStride)
                table.lstm_forward(
                    other.gates.start, other.cell.start, other.hidden.start, other.biases.constant,
                    Int64(steps * 4 * width), Int64(hiddenStride), Int64(batch), Int64(width))
                #expect(other.bits == arrays.bits, "\(table.level)")
            }
        }
    }

    // MARK: States

    @Test(arguments: Sequences.all, LaunchShape.all)
    fileprivate func statesAreThoseBeforeEachStep(sequences: Sequences, shape: LaunchShape) throws {
        let (batch, steps, width) = (sequences.batch, sequences.steps, sequences.width)
        var numbers = TestNumbers(seed: 22)
        let gates = openGates(sequences, &numbers)
        var cells: [Double] = []
        var hidden: [Double] = []
        for row in 0..<sequences.rows {
            for column in 0..<width {
                guard row % steps > 0 else {
                    cells.append(0)
                    hidden.append(0)
                    continue
                }
                let gate = (0..<4).map { Double(gates[((row - 1) * 4 + $0) * width + column]) }
                let after = gate[1] * cells[(row - 1) * width + column] + gate[0] * gate[2]
                cells.append(after)
                hidden.append(gate[3] * tanh(after))
            }
        }
        let source = KernelArray(gates, misalignment: 1)
        func run(_ body: (KernelArray<Float>, KernelArray<Float>) throws -> Void) rethrows
            -> [[Float]]
        {
            let arrays = (0..<2).map { _ in
                KernelArray([Float](repeating: .nan, count: cells.count), misalignment: 1)
            }
            try body(arrays[0], arrays[1])
            return arrays.map(\.values)
        }
        let found = try run {
            try launch(
                "geeps_lstm_states", shape, $0.start, $1.start, source.constant, Int64(batch),
                Int64(steps), Int64(width))
        }
        expectNear(found[0], cells, "cell")
        expectNear(found[1], hidden, "hidden")
        for table in tables {
            let own = run {
                table.lstm_states(
                    $0.start, $1.start, source.constant, Int64(batch), Int64(steps), Int64(width))
            }
            #expect(own.map(\.bits) == found.map(\.bits), "\(table.level)")
        }
    }

    // MARK: A step backward

    /// What the step before the last makes of random gradients, all in double.
    private struct BackwardCase {
        let gates: [Float]
        let before: [Float]
        let cellGradient: [Float]
        let hiddenGradient: [Float]
        let outputGradient: [Float]
        var gateGradients: [Double] = []
        var cellGradientBefore: [Double] = []

        init(_ sequences: Sequences, hasOutput: Bool, outputStride: Int) {
            var numbers = TestNumbers(seed: 23)
            let (batch, steps, width) = (sequences.batch, sequences.steps, sequences.width)
            func signed(_ count: Int) -> [Float] { numbers.positiveFloats(count).map { $0 - 1 } }
            gates = openGates(sequences, &numbers)
            before = signed(sequences.rows * width)
            cellGradient = signed(batch * width)
            hiddenGradient = signed(batch * width)
            outputGradient = signed(batch * outputStride)
            for row in 0..<batch {
                var own = [[Double]](repeating: [], count: 4)
                for column in 0..<width {
                    let gate = (0..<4).map {
                        Double(gates[(row * steps * 4 + $0) * width + column])
                    }
                    let cellBefore = Double(before[row * steps * width + column])
                    let bent = tanh(gate[1] * cellBefore + gate[0] * gate[2])
                    let hidden =
                        Double(hiddenGradient[row * width + column])
                        + (hasOutput ? Double(outputGradient[row * outputStride + column]) : 0)
                    let cell =
                        Double(cellGradient[row * width + column])
                        + hidden * gate[3] * (1 - bent * bent)
                    cellGradientBefore.append(cell * gate[1])
                    own[0].append(cell * gate[2] * gate[0] * (1 - gate[0]))
                    own[1].append(cell * cellBefore * gate[1] * (1 - gate[1]))
                    own[2].append(cell * gate[0] * (1 - gate[2] * gate[2]))
                    own[3].append(hidden * bent * gate[3] * (1 - gate[3]))
                }
                gateGradients += own.flatMap(\.self)
            }
        }
    }

    @Test(arguments: Sequences.all, LaunchShape.all)
    fileprivate func aStepBackwardHasTheGradientsOfItsSums(
        sequences: Sequences, shape: LaunchShape
    ) throws {
        let (batch, steps, width) = (sequences.batch, sequences.steps, sequences.width)
        for (hasOutput, stride) in [(false, width), (true, width), (true, steps * width + 1)] {
            let expected = BackwardCase(sequences, hasOutput: hasOutput, outputStride: stride)
            let gates = KernelArray(expected.gates, misalignment: 1)
            let before = KernelArray(expected.before)
            let hidden = KernelArray(expected.hiddenGradient, misalignment: 2)
            let output = KernelArray(expected.outputGradient, misalignment: 1)
            let outputStart = hasOutput ? output.constant : nil
            func run(
                _ body: (UnsafeMutablePointer<Float>, UnsafeMutablePointer<Float>) throws -> Void
            ) rethrows -> [[Float]] {
                let gradients = KernelArray(
                    [Float](repeating: -7, count: expected.gates.count), misalignment: 1)
                let cell = KernelArray(expected.cellGradient)
                try body(gradients.start, cell.start)
                return [gradients.values, cell.values]
            }
            let found = try run {
                try launch(
                    "geeps_lstm_backward", shape, $0, $1, hidden.constant, outputStart,
                    gates.constant, before.constant, Int64(stride), Int64(batch), Int64(steps),
                    Int64(width))
            }
            let own = (0..<batch).flatMap { row in
                (0..<(4 * width)).map { found[0][row * steps * 4 * width + $0] }
            }
            expectNear(own, expected.gateGradients, "gate")
            expectNear(found[1], expected.cellGradientBefore, "cell")
            for index in found[0].indices where index / (4 * width) % steps != 0 {
                #expect(found[0][index] == -7)
            }
            for table in tables {
                let other = run {
                    table.lstm_backward(
                        $0, $1, hidden.constant, outputStart, gates.constant, before.constant,
                        Int64(stride), Int64(batch), Int64(steps), Int64(width))
                }
                #expect(other.map(\.bits) == found.map(\.bits), "\(table.level)")
            }
        }
    }

    // MARK: Sums

    @Test(arguments: [(0, 5), (7, 1), (9, 31), (9, 32), (4, 33), (130, 100)])
    func columnSumsAreTheBiasGradientsOfAGPU(rowCount: Int, width: Int) throws {
        var numbers = TestNumbers(seed: 24)
        let source = KernelArray(numbers.floats(rowCount * width), misalignment: 1)
        let gradient = KernelArray([Float](repeating: .nan, count: width))
        try launch(
            "geeps_bias_gradient", LaunchShape(grid: 1, block: 1), gradient.start, source.constant,
            Int64(rowCount), Int64(width), Int64(1))
        for table in tables {
            let sums = KernelArray([Float](repeating: .nan, count: width), misalignment: 1)
            table.column_sums(sums.start, source.constant, Int64(rowCount), Int64(width))
            #expect(sums.values.bits == gradient.values.bits, "\(table.level)")
        }
    }
}
