import Foundation
import Safetensors
import Testing

extension SystemTests {
    /// `init`: what a run starts from.
    @Suite struct WeightsFileTests {
        @Test func trainingStartsFromTheBitsOfTheFile() async throws {
            let first = try await TestJob().run()
            // A step too small to change a weight.
            let second = try await TestJob(
                optimizer: "{name: sgd, lr: 1e-30}", train: "{steps: 1}",
                cluster: "{workers: 2}", initialWeights: first.modelPath
            ).run()
            #expect(second.model == first.model)
        }

        /// A momentum of 0 leaves running statistics as they were; the mini-batches are counted all the same.
        @Test(arguments: [1, 2])
        func runningStatisticsStartFromTheFile(workers: Int) async throws {
            let first = try await TestJob(model: TestJob.normalised).run()
            let model = TestJob.normalised.replacing("momentum: 0.2", with: "momentum: 0")
                .replacing("batch_norm}", with: "batch_norm, momentum: 0}")
                .replacing("batch_norm, affine", with: "batch_norm, momentum: 0, affine")
            let second = try await TestJob(
                model: model, optimizer: "{name: sgd, lr: 1e-30}",
                train: "{steps: 3, batches_per_clock: 2}", cluster: "{workers: \(workers)}",
                initialWeights: first.modelPath
            ).run()
            var expected = try first.tensors()
            #expect(expected["bn1.running_mean"]?.contains { abs($0) > 0.01 } == true)
            for name in ["bn1", "bn2", "bn3"] {
                #expect(expected["\(name).num_batches_tracked"] == [12])
                expected["\(name).num_batches_tracked"] = [18]
            }
            #expect(try second.tensors() == expected)
        }

        @Test func aFileWithoutRunningStatisticsIsRefused() async throws {
            let first = try await TestJob(model: TestJob.normalised, train: "{steps: 1}").run()
            let file = try SafetensorsFile(path: first.modelPath)
            let folder = try TemporaryFolder()
            let path = folder.path("weights.safetensors")
            var tensors: [TensorSource] = []
            for tensor in file.tensors where !tensor.name.hasPrefix("bn2.running_") {
                // The count as a float besides: of another type.
                let values =
                    tensor.elementType == .int64 ? [1] : try file.floats(tensor.name)
                tensors.append(
                    TensorSource(name: tensor.name, shape: tensor.shape, floats: values))
            }
            try SafetensorsWriter.write(path: path, tensors: tensors)
            let result = try await TestJob(model: TestJob.normalised, initialWeights: path)
                .attempt()
            #expect(result.end == .exited(65), "\(result)")
            #expect(
                result.error.hasPrefix(
                    "geeps: \(path) does not fit the model: bn2.running_mean is missing, expected shape "
                        + "[32]; bn2.running_var is missing, expected shape [32]; "
                        + "bn1.num_batches_tracked is F32, expected I64; "), "\(result)")
        }

        @Test(arguments: WrongWeights.all)
        func weightsThatDoNotFitAreRefused(_ wrong: WrongWeights) async throws {
            let folder = try TemporaryFolder()
            let path = folder.path("weights.safetensors")
            try SafetensorsWriter.write(path: path, tensors: wrong.tensors)
            let result = try await TestJob(initialWeights: path).attempt()
            #expect(result.end == .exited(65), "\(result)")
            #expect(
                result.error.hasPrefix("geeps: \(path) does not fit the model: \(wrong.message)"))
            #expect(result.output.isEmpty)
        }

        @Test func aFileOfSomethingElseIsRefused() async throws {
            let folder = try TemporaryFolder()
            let path = try folder.write("weights.safetensors", "not safetensors at all")
            let result = try await TestJob(initialWeights: path).attempt()
            #expect(result.end == .exited(65), "\(result)")
            #expect(result.error.contains(path))
        }

        @Test func aMissingFileIsRefusedWhereTheJobNamesIt() async throws {
            let result = try await TestJob(initialWeights: "/nowhere/weights.safetensors").attempt()
            #expect(result.end == .exited(65), "\(result)")
            #expect(
                result.error.contains(
                    ":8:7: found '/nowhere/weights.safetensors' for init, expected the path of a "
                        + "safetensors file; there is nothing at /nowhere/weights.safetensors"),
                "\(result)")
        }
    }
}

/// Weights that are not those of `TestJob.mlp`.
struct WrongWeights: Sendable, CustomTestStringConvertible {
    static let all = [
        WrongWeights("missing", "fc2.bias is missing, expected shape [10]") {
            $0["fc2.bias"] = nil
        },
        WrongWeights("misshaped", "fc1.weight has shape [64, 32], expected [32, 64]") {
            $0["fc1.weight"] = [64, 32]
        },
        WrongWeights("extra", "fc3.weight is not a tensor of the model") { $0["fc3.weight"] = [2] },
        WrongWeights(
            "all at once",
            "fc1.bias has shape [33], expected [32]; fc2.bias is missing, expected shape [10]; "
                + "bias is not a tensor of the model"
        ) {
            $0["fc1.bias"] = [33]
            $0["fc2.bias"] = nil
            $0["bias"] = [1]
        },
    ]

    let testDescription: String
    /// The beginning of what is said about it.
    let message: String
    private let shapes: [String: [Int]]

    private init(_ name: String, _ message: String, change: (inout [String: [Int]]) -> Void) {
        testDescription = name
        self.message = message
        var shapes = [
            "fc1.weight": [32, 64], "fc1.bias": [32], "fc2.weight": [10, 32], "fc2.bias": [10],
        ]
        change(&shapes)
        self.shapes = shapes
    }

    var tensors: [TensorSource] {
        shapes.map { name, shape in
            TensorSource(
                name: name, shape: shape,
                floats: [Float](repeating: 0.5, count: shape.reduce(1, *)))
        }
    }
}
