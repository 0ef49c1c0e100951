import Testing

@testable import GeePSNN

struct ReferenceCase: Sendable, CustomStringConvertible {
    var name: String
    var kind: LayerKind
    /// Where PyTorch's module has the parameters.
    var prefix = ""

    var description: String { name }

    static let all = [
        ReferenceCase(name: "linear", kind: .linear(out: 7)),
        ReferenceCase(name: "linear_of_image", kind: .linear(out: 5), prefix: "linear."),
        ReferenceCase(
            name: "convolution", kind: .convolution(out: 5, kernel: 3, stride: 2, padding: 1)),
        ReferenceCase(
            name: "convolution_same", kind: .convolution(out: 6, kernel: 5, stride: 1, padding: 2)),
        ReferenceCase(
            name: "convolution_1x1", kind: .convolution(out: 17, kernel: 1, stride: 1, padding: 0)),
        ReferenceCase(name: "max_pooling", kind: .maxPooling(kernel: 3, stride: 2, padding: 1)),
        ReferenceCase(
            name: "max_pooling_floor", kind: .maxPooling(kernel: 2, stride: 2, padding: 0)),
        ReferenceCase(
            name: "average_pooling", kind: .averagePooling(kernel: 3, stride: 2, padding: 1)),
        ReferenceCase(name: "relu", kind: .relu),
        ReferenceCase(name: "tanh", kind: .tanh),
        ReferenceCase(name: "sigmoid", kind: .sigmoid),
        ReferenceCase(
            name: "lrn",
            kind: .localResponseNormalisation(size: 5, alpha: 0.3, beta: 0.75, k: 1.5)),
        ReferenceCase(name: "lrn_default", kind: .localResponseNormalisation(size: 5)),
        ReferenceCase(
            name: "lrn_wide",
            kind: .localResponseNormalisation(size: 9, alpha: 1, beta: 0.5, k: 1)),
    ]

    /// cuDNN lays a window of even size the other way.
    static let ofHost = ReferenceCase(
        name: "lrn_even", kind: .localResponseNormalisation(size: 4, alpha: 0.5, beta: 0.6, k: 2))
}

private func shape(_ dimensions: [Int]) -> Shape {
    dimensions.count == 4
        ? Shape(channels: dimensions[1], height: dimensions[2], width: dimensions[3])
        : Shape(channels: dimensions[1])
}

@Suite struct LayerTests {
    @Test(arguments: ReferenceCase.all, Bed.allCases)
    func equalsPyTorchForwardAndBackward(_ reference: ReferenceCase, on bed: Bed) throws {
        try bed.run { try compare(reference, on: $0) }
    }

    @Test func aResponseOfEvenSizeIsPyTorchsOnTheHostAndRefusedOnAGPU() throws {
        try compare(.ofHost, on: .host)
        let findings = try Bed.findings { _, compute in
            for (size, isTaken) in [(4, false), (15, true), (17, false)] {
                let make = {
                    _ = try Bench(
                        .localResponseNormalisation(size: size), input: Shape(channels: 20),
                        batchSize: 1, on: .cuda(compute))
                }
                guard !isTaken else {
                    try make()
                    continue
                }
                let error = #expect(throws: NNError.self) { try make() }
                #expect(
                    error?.message
                        == "layer layer: size is \(size), expected an odd number from 1 to 15 on a GPU"
                )
            }
        }
        #expect(findings == [])
    }

    private func compare(_ reference: ReferenceCase, on target: ComputeTarget) throws {
        let fixture = Fixture.layers
        let input = fixture["\(reference.name)/input"]
        let bench = try Bench(
            reference.kind, input: shape(input.shape), batchSize: input.shape[0], on: target)
        bench.fill(input.values)
        for tensor in bench.network.parameters.first?.tensors ?? [] {
            let name = "\(reference.name)/\(reference.prefix)\(tensor.name.dropFirst(6))"
            #expect(fixture[name].shape == tensor.shape)
            _ = bench.values(tensor, of: 0).update(fromContentsOf: fixture[name].values)
        }
        try bench.forward()
        let output = fixture["\(reference.name)/output"].values
        #expect(relativeError(bench.memory.logits, output) < 1e-6)
        _ = bench.logitsGradient.update(
            fromContentsOf: fixture["\(reference.name)/output_gradient"].values)
        try bench.backward()
        let inputGradient = fixture["\(reference.name)/input_gradient"].values
        #expect(relativeError(bench.inputGradient, inputGradient) < 1e-6)
        for tensor in bench.network.parameters.first?.tensors ?? [] {
            let name =
                "\(reference.name)/\(reference.prefix)\(tensor.name.dropFirst(6)).gradient"
            let error = relativeError(bench.gradient(tensor, of: 0), fixture[name].values)
            #expect(error < 1e-6, "\(tensor.name)")
        }
    }

    /// Layers are checked as `sum(weights * output)`, whose gradient by the output is `weights`.
    @Test(
        arguments: [
            LayerKind.linear(out: 9), .convolution(out: 5, kernel: 3, stride: 1, padding: 1),
            .convolution(out: 4, kernel: 2, stride: 2, padding: 0),
            .averagePooling(kernel: 2, stride: 2, padding: 1), .tanh, .sigmoid,
            .dropout(probability: 0.4), .relu, .maxPooling(kernel: 2, stride: 1, padding: 1),
            .localResponseNormalisation(size: 3, alpha: 0.5, beta: 0.9, k: 2),
            .batchNormalisation(),
            .batchNormalisation(epsilon: 0.1, momentum: 1, isAffine: false),
        ], Bed.allCases)
    func gradientsAgreeWithDifferences(_ kind: LayerKind, on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                kind, input: Shape(channels: 3, height: 6, width: 5), batchSize: 3, on: target)
            let count = bench.memory.input.count
            // Distinct multiples of 0.07, none nearer to zero than half of that: no step of 0.01 crosses a
            // kink of relu or changes which value of a window is largest.
            let order = permutation(count)
            bench.fill(order.map { 0.07 * (Float($0) - Float(count) / 2 + 0.5) * scale(kind) })
            let weights = randomValues(bench.memory.logits.count, seed: 5)
            try bench.forward()
            _ = bench.logitsGradient.update(fromContentsOf: weights)
            try bench.backward()
            let function = { () throws(NNError) -> Double in
                try bench.forward()
                return zip(bench.memory.logits, weights).reduce(0) {
                    $0 + Double($1.0) * Double($1.1)
                }
            }
            let checker = GradientChecker(step: 1e-2, sampleCount: 60)
            let worst = try checker.worst(
                bench.memory.input, gradient: bench.inputGradient, floor: 5e-2, function)
            #expect(worst.error < 2e-3, "input: \(worst)")
            for tensor in bench.network.parameters.first?.tensors ?? [] {
                let worst = try checker.worst(
                    bench.values(tensor, of: 0), gradient: bench.gradient(tensor, of: 0),
                    floor: 5e-2,
                    function)
                #expect(worst.error < 2e-3, "\(tensor.name): \(worst)")
            }
        }
    }

    /// tanh and the like are looked at where they bend, the others where values are far apart.
    private func scale(_ kind: LayerKind) -> Float {
        switch kind {
        case .tanh, .sigmoid, .localResponseNormalisation: 0.1
        case .batchNormalisation: 0.3
        default: 1
        }
    }

    private func permutation(_ count: Int) -> [Int] {
        var order = Array(0..<count)
        var random = SplitMix64(key: 9)
        for i in stride(from: count - 1, to: 0, by: -1) {
            order.swapAt(i, Int(random.below(UInt64(i + 1))))
        }
        return order
    }

    @Test(
        arguments: [
            LayerKind.linear(out: 9), .convolution(out: 5, kernel: 3, stride: 1, padding: 1),
            .batchNormalisation(),
        ], Bed.allCases)
    func writesItsValuesAndNothingBeyond(_ kind: LayerKind, on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                kind, input: Shape(channels: 2, height: 4, width: 4), batchSize: 2, on: target)
            bench.fill(randomValues(bench.memory.input.count, seed: 1))
            let parameters = (0..<bench.network.valueCount).map { bench.parameters[0][$0] }
            try bench.run()
            let count = bench.network.valueCount
            #expect((0..<count).allSatisfy { bench.gradients[0][$0] != -77 })
            #expect((count..<(count + Bench.margin)).allSatisfy { bench.gradients[0][$0] == -77 })
            #expect((0..<count).map { bench.parameters[0][$0] } == parameters)
        }
    }

    @Test(arguments: Bed.allCases) func gradientsAreOverwrittenNotAccumulated(on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                .linear(out: 3), input: Shape(channels: 4), batchSize: 2, on: target)
            bench.fill(randomValues(8, seed: 1))
            try bench.run()
            let first = (0..<15).map { bench.gradients[0][$0] }
            try bench.run()
            #expect((0..<15).map { bench.gradients[0][$0] } == first)
        }
    }

    @Test(arguments: [LayerKind.relu, .tanh, .sigmoid, .linear(out: 2)], Bed.allCases)
    func notANumberStaysOne(_ kind: LayerKind, on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(kind, input: Shape(channels: 20), batchSize: 1, on: target)
            bench.fill([Float](repeating: .nan, count: 20))
            try bench.forward()
            #expect(bench.memory.logits.allSatisfy { $0.isNaN })
        }
    }

    @Test(arguments: [Float(-200), -90, -20, -1e-5, 0, 1e-5, 20, 90, 200, .infinity, -.infinity])
    func tanhAndSigmoidAreAccurateFarFromZero(_ x: Float) throws {
        for kind in [LayerKind.tanh, .sigmoid] {
            let bench = try Bench(kind, input: Shape(channels: 33), batchSize: 1)
            bench.fill([Float](repeating: x, count: 33))
            try bench.forward()
            let expected = kind == .tanh ? tanhReference(x) : 1 / (1 + expReference(-x))
            for value in bench.memory.logits { #expect(abs(Double(value) - expected) <= 1e-6) }
        }
    }

    @Test func convolutionIsTheSameInOneDNNsOwnOrderOfActivations() throws {
        let input = Shape(channels: 3, height: 7, width: 6)
        let engine = try DNNEngine()
        let site = LayerSite(
            name: "conv", input: input, layout: .channelsLast, batchSize: 2, compute: .host(engine),
            isTraining: true, needsInputGradient: true, parameterPosition: 0)
        let window = Window(kernel: 3, stride: 1, padding: 1)
        let plain = try ConvolutionLayer(site, out: 5, window: window)
        // As if channels-last had no fast implementation: activations are copied into blocks of 16.
        let copied = try ConvolutionLayer(site, out: 5, window: window, orders: [.library])
        #expect(copied.reports.map(\.implementation) != plain.reports.map(\.implementation))
        let results = try [plain, copied].map { layer in
            try run(layer, inputCount: site.inputCount, outputCount: 2 * 5 * 42)
        }
        for (a, b) in zip(results[0], results[1]) { #expect(relativeError(a, b) < 1e-6) }
    }

    /// Output, gradient of the input and of the parameters, for inputs from a seed.
    private func run(
        _ layer: ConvolutionLayer, inputCount: Int, outputCount: Int
    ) throws -> [[Float]] {
        func pointer(_ values: [Float]) -> UnsafeMutableBufferPointer<Float> {
            let buffer = UnsafeMutableBufferPointer<Float>.allocate(capacity: values.count)
            _ = buffer.initialize(fromContentsOf: values)
            return buffer
        }
        let valueCount = layer.parameters!.valueCount
        let input = pointer(randomValues(inputCount, seed: 1))
        let parameters = pointer(randomValues(valueCount, seed: 2))
        let outputGradient = pointer(randomValues(outputCount, seed: 3))
        let output = pointer(randomValues(outputCount, seed: 4))
        let inputGradient = pointer(randomValues(inputCount, seed: 5))
        let gradients = pointer(randomValues(valueCount, seed: 6))
        let bytes = max(layer.traits.forwardScratchBytes, layer.traits.backwardScratchBytes)
        let scratch = UnsafeMutableRawPointer.allocate(byteCount: bytes, alignment: 64)
        defer {
            for buffer in [input, parameters, outputGradient, output, inputGradient, gradients] {
                buffer.deallocate()
            }
            scratch.deallocate()
        }
        try layer.forward(
            ForwardContext(
                parameters: UnsafePointer(parameters.baseAddress!),
                input: UnsafePointer(input.baseAddress!), output: output.baseAddress!,
                workspace: nil, state: nil, scratch: scratch, noise: 0))
        try layer.backward(
            BackwardContext(
                parameters: UnsafePointer(parameters.baseAddress!),
                parameterGradients: gradients.baseAddress!,
                input: UnsafePointer(input.baseAddress!), output: nil,
                outputGradient: UnsafePointer(outputGradient.baseAddress!),
                inputGradient: inputGradient.baseAddress!, workspace: nil, scratch: scratch,
                noise: 0))
        return [Array(output), Array(inputGradient), Array(gradients)]
    }

    @Test(arguments: [0, 0.1, 0.5, 0.9], Bed.allCases)
    func dropoutDropsItsShareAndScalesTheRest(_ probability: Double, on bed: Bed) throws {
        try bed.run { target in
            let bench = try Bench(
                .dropout(probability: probability), input: Shape(channels: 10_001), batchSize: 3,
                on: target)
            bench.fill([Float](repeating: 1, count: 30_003))
            try bench.forward()
            let dropped = bench.memory.logits.count { $0 == 0 }
            #expect(abs(Double(dropped) / 30_003 - probability) < 0.01)
            let scale = Float(1 / (1 - probability))
            #expect(bench.memory.logits.allSatisfy { $0 == 0 || $0 == scale })
            // The gradient passes exactly where the value did.
            let kept = Array(bench.memory.logits)
            bench.logitsGradient.update(repeating: 1)
            try bench.backward()
            #expect(bench.inputGradient == kept)
        }
    }

    @Test(arguments: Bed.allCases) func dropoutDrawsByJobWorkerStepAndLayer(on bed: Bed) throws {
        try bed.run { target in
            let layers = ["a", "b"].map {
                LayerConfiguration(name: $0, kind: .dropout(probability: 0.5))
            }
            let bench = try Bench([layers[0]], input: Shape(channels: 64), batchSize: 1, on: target)
            func mask(_ noise: NoiseKey) throws -> [Float] {
                bench.fill([Float](repeating: 1, count: 64))
                bench.noise = noise
                try bench.forward()
                return Array(bench.memory.logits)
            }
            let mine = try mask(NoiseKey(seed: 1, rank: 2, step: 3))
            #expect(try mask(NoiseKey(seed: 1, rank: 2, step: 3)) == mine)
            #expect(try mask(NoiseKey(seed: 2, rank: 2, step: 3)) != mine)
            #expect(try mask(NoiseKey(seed: 1, rank: 3, step: 3)) != mine)
            #expect(try mask(NoiseKey(seed: 1, rank: 2, step: 4)) != mine)
            // Two layers with one mask would keep a half; with two they keep a quarter.
            let both = try Bench(layers, input: Shape(channels: 8192), batchSize: 1, on: target)
            both.fill([Float](repeating: 1, count: 8192))
            try both.forward()
            #expect((1700...2400).contains(both.memory.logits.count { $0 != 0 }))
        }
    }

    @Test func dropoutDoesNothingInInference() throws {
        let bench = try Bench(
            .dropout(probability: 0.5), input: Shape(channels: 64), batchSize: 1,
            purpose: .inference)
        let values = randomValues(64, seed: 1)
        bench.fill(values)
        try bench.forward()
        #expect(Array(bench.memory.logits) == values)
    }
}
