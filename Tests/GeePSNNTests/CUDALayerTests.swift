import CGeePSShims
import CUDAEmulator
import GeePSCore
import GeePSDevice
import Testing

@testable import GeePSNN

/// What layers ask of cuBLAS and cuDNN; their numbers are looked at by `LayerTests` and `NetworkTests`.
@Suite struct CUDALayerTests {
    private static let input = Shape(channels: 2, height: 6, width: 6)

    /// One layer of every kind.
    private static let layers: [LayerConfiguration] = [
        ("conv1", .convolution(out: 4, kernel: 3, stride: 1, padding: 1)), ("relu", .relu),
        ("maximum", .maxPooling(kernel: 2, stride: 2, padding: 0)),
        ("conv2", .convolution(out: 3, kernel: 2, stride: 1, padding: 0)), ("tanh", .tanh),
        ("mean", .averagePooling(kernel: 2, stride: 1, padding: 0)),
        ("response", .localResponseNormalisation(size: 3, alpha: 0.5)),
        ("norm1", .batchNormalisation()), ("norm2", .batchNormalisation(isAffine: false)),
        ("fc1", .linear(out: 6)), ("lstm", .lstm(out: 5, steps: 3, keeps: .all)),
        ("dropout", .dropout(probability: 0.3)), ("sigmoid", .sigmoid),
        ("fc2", .linear(out: 4)),
    ].map { LayerConfiguration(name: $0, kind: $1) }

    /// Runs one iteration; everything it left.
    private static func iteration(_ target: ComputeTarget) throws -> Bench {
        let bench = try Bench(layers, input: input, batchSize: 3, on: target)
        bench.fill(randomValues(bench.memory.input.count, seed: 1))
        _ = bench.memory.labels.update(fromContentsOf: [3, 0, 2])
        try bench.run()
        return bench
    }

    private static func values(_ bench: Bench) -> [Float] {
        bench.network.parameters.enumerated().reduce(bench.inputGradient) { values, layer in
            values + layer.element.tensors.flatMap { bench.gradient($0, of: layer.offset) }
        }
    }

    // MARK: Precision

    struct Precision: Sendable {
        var precision: ComputePrecision
        var convolutions: Int
        var products: Int
        /// Of the largest gradient: how far rounding the factors may take them, and takes them at least.
        var error: ClosedRange<Double>
    }

    @Test(arguments: [
        Precision(
            precision: .float32, convolutions: Int(GEEPS_CUDNN_FMA_MATH),
            products: Int(GEEPS_CUBLAS_COMPUTE_FLOAT32), error: 0...1e-6),
        Precision(
            precision: .tf32, convolutions: Int(GEEPS_CUDNN_TENSOR_OP_MATH),
            products: Int(GEEPS_CUBLAS_COMPUTE_FAST_TF32), error: 1e-5...5e-3),
        Precision(
            precision: .bf16, convolutions: Int(GEEPS_CUDNN_TENSOR_OP_MATH),
            products: Int(GEEPS_CUBLAS_COMPUTE_FAST_BFLOAT16), error: 1e-4...5e-2),
    ])
    func factorsAreRoundedAsThePrecisionSays(_ expected: Precision) throws {
        let host = Self.values(try Self.iteration(.host))
        let findings = try Bed.findings(precision: expected.precision) { emulator, compute in
            let found = Self.values(try Self.iteration(.cuda(compute)))
            let error = relativeError(found, host)
            #expect(expected.error.contains(error), "\(error)")
            let products = emulator.products.filter { $0.function == "cublasGemmEx" }
            #expect(products.count == 14)
            #expect(products.allSatisfy { $0.math == Int32(expected.products) })
            let convolutions = emulator.products.filter { $0.function != "cublasGemmEx" }
            #expect(convolutions.count == 6)
            #expect(convolutions.allSatisfy { $0.math == Int32(expected.convolutions) })
        }
        #expect(findings == [])
    }

    // MARK: Algorithms

    struct Choice: Sendable {
        var limitBytes: Int
        /// Forward, the gradient of the weights, that of the input.
        var implementations: [String]
    }

    @Test(arguments: [
        // What the heuristics put first does not do it, takes too much, or sums in any order.
        Choice(
            limitBytes: 1000,
            implementations: ["cudnn:implicit_precomp_gemm", "cudnn:algo_1", "cudnn:algo_1"]),
        Choice(
            limitBytes: 999,
            implementations: ["cudnn:implicit_gemm", "cudnn:winograd", "cudnn:winograd"]),
        Choice(
            limitBytes: 255,
            implementations: [
                "cudnn:implicit_gemm", "cudnn:algo_0, order of sums not fixed",
                "cudnn:algo_0, order of sums not fixed",
            ]),
    ])
    func theFirstAlgorithmThatFitsIsChosenAndRuns(_ choice: Choice) throws {
        let findings = try Bed.findings(workspaceLimitBytes: choice.limitBytes) {
            emulator, compute in
            let bench = try Self.iteration(.cuda(compute))
            let reports = bench.network.implementations.filter { $0.layer == "conv1" }
            #expect(reports.map(\.implementation) == choice.implementations)
            #expect(
                relativeError(Self.values(bench), Self.values(try Self.iteration(.host))) < 1e-6)
        }
        #expect(findings == [])
    }

    @Test func noAlgorithmThatFitsIsAnErrorThatSaysWhatOneTakes() throws {
        let findings = try Bed.findings(workspaceLimitBytes: 127) { _, compute in
            let error = #expect(throws: NNError.self) { try Self.iteration(.cuda(compute)) }
            #expect(
                error?.message
                    == "layer conv1: cuDNN has no algorithm to compute the gradient of its weights within "
                    + "a workspace of 127 bytes; one takes 128")
        }
        #expect(findings == [])
    }

    // MARK: Failures

    private static func trainOnce(_ compute: CUDACompute) throws {
        let network = try Network(
            ModelConfiguration(layers: layers), input: input, batchSize: 2, on: .cuda(compute))
        let memory = try DeviceNetworkMemory(network, on: compute.stream.device)
        try memory.write(
            parameters: network.parameters.map { randomValues($0.valueCount, seed: 2) })
        _ = try memory.runIteration(images: randomValues(2 * input.count, seed: 3), labels: [1, 2])
    }

    /// How often each function of the libraries is called by a network that is made, runs and goes.
    private static func callCounts() throws -> [String: Int] {
        var emulator: CUDAEmulator?
        let findings = try Bed.findings {
            emulator = $0
            try trainOnce($1)
        }
        #expect(findings == [])
        let calls = try #require(emulator).calls.filter {
            $0.hasPrefix("cudnn") || $0.hasPrefix("cublas")
        }
        return Dictionary(calls.map { ($0, 1) }, uniquingKeysWith: +)
    }

    /// What a message must say when a function without a layer fails.
    private static let operations = [
        "cudnnCreate": "cuDNN could not make a handle",
        "cudnnSetStream": "cuDNN could not take a stream",
        "cublasCreate_v2": "cuBLAS could not make a handle",
        "cublasSetStream_v2": "cuBLAS could not take a stream",
    ]

    @Test func everyCallThatFailsIsAnErrorOfItsLayerAndLeavesNothing() throws {
        let counts = try Self.callCounts()
        #expect(counts.count > 30)
        let status: Int32 = 4000
        for (function, count) in counts where !function.contains("Destroy") {
            for call in 1...count {
                var message: String?
                let findings = CUDAEmulator.findings { emulator in
                    emulator.fail(function, onCall: call, with: status)
                    do {
                        try Bed.withCompute(emulator) { try Self.trainOnce($0) }
                    } catch {
                        message = (error as? NNError)?.message ?? (error as? DeviceError)?.message
                    }
                }
                #expect(findings == [], "call \(call) of \(function)")
                let words = Self.operations[function] ?? "layer "
                #expect(
                    message?.contains(words) == true,
                    "call \(call) of \(function): \(message ?? "no error")")
                #expect(message?.contains("could not") == true)
                #expect(message?.contains("(status \(status))") == true)
            }
        }
    }

    @Test func whatIsNotDestroyedIsFound() throws {
        let counts = try Self.callCounts().filter { $0.key.contains("Destroy") }
        #expect(counts.count == 8)
        for function in counts.keys {
            let findings = try CUDAEmulator.findings { emulator in
                emulator.fail(function, with: 4000)
                try Bed.withCompute(emulator) { try Self.trainOnce($0) }
            }
            #expect(findings.count == 1, "\(function): \(findings)")
            #expect(findings.first?.hasPrefix("leak:") == true)
        }
    }

    // MARK: Order

    @Test(arguments: layers, [true, false])
    func aLayerIsSeenToReadWhatAnotherStreamWrote(_ layer: LayerConfiguration, isOrdered: Bool)
        throws
    {
        let findings = try Bed.findings(
            jitter: Jitter(seed: 1, delayMicrosecondsMaximum: 50)
        ) { _, compute in
            let device = compute.stream.device
            let network = try Network(
                ModelConfiguration(layers: [layer]), input: Self.input, batchSize: 2,
                purpose: .training, on: .cuda(compute), wantsInputGradient: true)
            let memory = try DeviceMirror(network, compute)
            let step = try #require(network.steps.first { $0.kind == .forward(layer: 0) })
            let source = SharedBuffer(try device.allocate(byteCount: 2 * 72 * 4, for: .localData))
            let copies = try device.makeStream(name: "copies")
            copies.copy(
                from: source.address, to: memory.tensors[network.inputTensor].address,
                byteCount: 2 * 72 * 4, direction: .deviceToDevice, label: "input")
            if isOrdered {
                let isThere = try device.makeEvent()
                copies.record(isThere)
                compute.stream.wait(for: isThere)
            }
            try memory.put(step, noise: NoiseKey(seed: 1))
            try compute.stream.synchronise()
            try copies.synchronise()
        }
        if isOrdered {
            #expect(findings == [])
        } else {
            #expect(!findings.isEmpty)
            #expect(
                findings.allSatisfy { $0.hasPrefix("race:") && $0.contains("cuMemcpyDtoDAsync") })
        }
    }

    // MARK: Evaluation

    @Test func anEvaluatorMeasuresAsOnTheHost() throws {
        let data = SyntheticDataset(count: 150, shape: Shape(channels: 6), classCount: 3, seed: 1)
        let model = ModelConfiguration.mlp(hidden: [5], classes: 3)
        let weights = [randomValues(35, seed: 1), randomValues(18, seed: 2)]
        let host = try Evaluator(model: model, dataset: data).run(
            weights: weights, samples: 3..<150)
        let findings = try Bed.findings { _, compute in
            let found = try Evaluator(model: model, dataset: data, on: .cuda(compute)).run(
                weights: weights, samples: 3..<150)
            #expect(found.sampleCount == 147)
            #expect(found.correctCount == host.correctCount)
            #expect(abs(found.lossSum - host.lossSum) < 1e-5 * host.lossSum)
        }
        #expect(findings == [])
    }
}
