import CUDAEmulator
import Foundation
import GeePSDevice
import GeePSNN
import Testing

@testable import GeePSCLI

extension CUDASource {
    /// What `emulator` has.
    init(_ emulator: CUDAEmulator) {
        self.init(
            driver: { () throws(DeviceError) in emulator.cudaDriver },
            kernels: { emulator.kernelSource },
            compute: { (stream, precision) throws(NNError) in
                try CUDACompute(
                    stream: stream, cublas: emulator.cublas, cudnn: emulator.cudnn,
                    precision: precision)
            })
    }
}

/// What `geeps train` does with a GPU: the emulated driver, cuBLAS and cuDNN, which must have nothing to find.
@Suite struct CUDATrainingTests {
    private struct Outcome {
        var loss: Double
        var weights: [[Float]]
        var fullBytes = 0
        var leastBytes = 0

        /// All bits of what was trained.
        var bits: [[UInt32]] { weights.map { $0.map(\.bitPattern) } }
    }

    /// A job with layers of every kind.
    private static func text(memory: String, output: String, more: String) -> String {
        """
        model:
          layers:
            - {name: conv1, type: conv, out: 4, kernel: 3, pad: 1}
            - {type: relu}
            - {type: maxpool, kernel: 2}
            - {type: lrn, size: 3, alpha: 0.5}
            - {name: bn1, type: batch_norm}
            - {name: conv2, type: conv, out: 6, kernel: 3}
            - {type: tanh}
            - {type: avgpool, kernel: 2, stride: 1, pad: 1}
            - {name: lstm1, type: lstm, out: 8, steps: 6, keep: all}
            - {name: fc1, type: linear, out: 16}
            - {name: bn2, type: batch_norm, affine: false}
            - {type: dropout, p: 0.25}
            - {type: sigmoid}
            - {name: fc2, type: linear, out: 5}
        data: {format: synthetic, samples: 64, shape: [2, 8, 8], classes: 5, batch_size: 4}
        optimizer: {name: sgd, lr: 0.2, momentum: 0.9}
        train: {steps: 5, seed: 3\(more)}
        memory: {\(memory)}
        output: {directory: \(output)}
        """
    }

    private static func run(
        memory: String, train: String = "", cuda: CUDASource = .system
    ) throws -> Outcome {
        let folder = FileManager.default.temporaryDirectory.appending(
            path: "geeps-cuda-\(UUID().uuidString)")
        defer { try? FileManager.default.removeItem(at: folder) }
        let loader = JobLoader(
            file: "job.yaml", assignments: [], workers: nil, defaultWorkers: 1, checksPaths: true)
        let job = try loader.parse(
            text(memory: memory, output: folder.path(), more: train), in: JobDirectory(path: "/"))
        let preparation = try TrainingPreparation(
            job, file: "/nowhere/job.yaml", launch: .alone, cuda: cuda)
        let summary = try runTraining(
            preparation, launch: .alone, progress: ProgressReporter(style: .silent) { _ in })
        let model = folder.appending(path: "model.safetensors").path()
        let plan = try #require(preparation.plan)
        let contents = try WeightsFile.read(model, for: preparation.network)
        return Outcome(
            loss: try #require(summary.trainLoss),
            weights: contents.weights + contents.states.values,
            fullBytes: plan.fullBytes, leastBytes: plan.leastBytes)
    }

    /// Trains on an emulated GPU and expects it to find nothing.
    private static func runOnGPU(
        budget: String, train: String = "", _ prepare: (CUDAEmulator) -> Void = { _ in }
    ) throws -> Outcome {
        var outcome: Result<Outcome, any Error>?
        let jitter = Jitter(seed: 5, delayMicrosecondsMaximum: 40)
        let findings = CUDAEmulator.findings(.init(jitter: jitter)) { emulator in
            prepare(emulator)
            outcome = Result {
                try run(
                    memory: "device: cuda, budget: \(budget)", train: train,
                    cuda: CUDASource(emulator))
            }
        }
        #expect(findings == [])
        return try #require(outcome).get()
    }

    /// How often each function of the libraries is called.
    private static func callCounts() throws -> [String: Int] {
        var emulator: CUDAEmulator?
        _ = try runOnGPU(budget: "60%") { emulator = $0 }
        let calls = try #require(emulator).calls.filter {
            $0.hasPrefix("cudnn") || $0.hasPrefix("cublas")
        }
        return Dictionary(calls.map { ($0, 1) }, uniquingKeysWith: +)
    }

    private static func difference(_ a: Outcome, _ b: Outcome) -> Float {
        zip(a.weights, b.weights).reduce(0) { worst, layer in
            zip(layer.0, layer.1).reduce(worst) { max($0, abs($1.0 - $1.1)) }
        }
    }

    @Test(arguments: ["", ", batches_per_clock: 2"])
    func trainsAsTheHostWithAnyBudget(_ more: String) throws {
        let host = try Self.run(memory: "device: host", train: more)
        let full = try Self.runOnGPU(budget: "100%", train: more)
        #expect(abs(full.loss - host.loss) < 1e-4 * host.loss)
        #expect(Self.difference(full, host) < 1e-4)
        #expect(full.leastBytes < full.fullBytes)
        for budget in [(full.fullBytes + full.leastBytes) / 2, full.leastBytes] {
            let tight = try Self.runOnGPU(budget: "\(budget)", train: more)
            #expect(tight.loss == full.loss)
            let isEqual = tight.bits == full.bits
            #expect(isEqual, "a budget of \(budget) bytes of \(full.fullBytes)")
        }
    }

    /// Each fails in a later step than the first.
    @Test(arguments: [
        ("cudnnConvolutionForward", 3, "layer conv1: cuDNN could not compute forward"),
        (
            "cudnnConvolutionBackwardFilter", 4,
            "layer conv1: cuDNN could not compute the gradient of its weights"
        ),
        ("cublasGemmEx", 9, "layer fc2: cuBLAS could not compute the gradient of its weights"),
        ("cudnnSoftmaxForward", 2, "layer loss: cuDNN could not compute log probabilities"),
    ])
    func aFailureOfALibraryEndsTheRunWithItsWords(
        _ function: String, _ call: Int, _ words: String
    ) {
        let error = #expect(throws: (any Error).self) {
            try Self.runOnGPU(budget: "60%") { $0.fail(function, onCall: call, with: 5000) }
        }
        let message = error.flatMap { ErrorReport.make($0)?.message } ?? ""
        #expect(message.contains(words), "\(message)")
    }

    @Test func everyFunctionThatFailsAtLastEndsTheRunAndLeavesNothing() throws {
        for (function, count) in try Self.callCounts() where !function.contains("Destroy") {
            let error = #expect(throws: (any Error).self, "\(function)") {
                try Self.runOnGPU(budget: "60%") { $0.fail(function, onCall: count, with: 4000) }
            }
            let message = error.flatMap { ErrorReport.make($0)?.message } ?? ""
            #expect(message.contains("could not"), "\(function): \(message)")
            #expect(message.contains("(status 4000)"), "\(function): \(message)")
        }
    }
}
