/// A model built for one input shape and one batch size: kernels are made, shapes are checked, and
/// what every step of an iteration touches is known.
///
/// Owns no values, no activations and no gradients.
///
/// One iteration is `steps`, in order. Before each, the caller lends the memory of the step's accesses and
/// parameters; `run` neither allocates nor waits. Networks share nothing, so each may run on its own thread;
/// one network runs on one thread at a time.
public final class Network {
    /// What the network is for.
    public enum Purpose: Hashable, Sendable {
        /// Forward, loss, backward; dropout drops; batches are normalised by their own statistics.
        case training
        /// Forward and loss; dropout does nothing; batches are normalised by running statistics; the logits
        /// are kept.
        case inference
    }

    /// Of one sample.
    public let input: Shape
    /// Samples in a batch; kernels are made for exactly this many.
    public let batchSize: Int
    /// What it is for.
    public let purpose: Purpose
    /// Where it computes.
    public let target: ComputeTarget
    /// Values the model ends in.
    public let classCount: Int
    /// Layers with trained values, bottom to top; one table each.
    ///
    /// Equal for every purpose and batch size.
    public let parameters: [LayerParameters]
    /// What layers remember beside their parameters, bottom to top: state of a worker.
    ///
    /// Equal for every purpose and batch size.
    public let states: [LayerState]
    /// Indexes in `tensors` of `states`, in their order.
    public let stateTensors: [Int]
    /// Local memory the steps need.
    public let tensors: [LocalTensor]
    /// An iteration, in order.
    public let steps: [NetworkStep]
    /// Names of the layers that compute, bottom to top; `.forward(layer:)` and `.backward(layer:)`
    /// count these.
    ///
    /// Layers that only rename values have no place here, copies between layouts have one.
    public let layerNames: [String]
    /// The implementation of every kernel of a library, for reports.
    public let implementations: [KernelReport]
    /// Index in `tensors` of the batch.
    public let inputTensor: Int
    /// Index in `tensors` of the labels.
    public let labelsTensor: Int
    /// Index in `tensors` of the logits `[B, classCount]`.
    public let logitsTensor: Int
    /// Index in `tensors` of what the loss step leaves where it runs on a stream: a float32 loss for each
    /// sample, then an Int32, which `batchResult` reads; nil on the host, where `run` returns the result.
    public let resultsTensor: Int?

    let placements: [LayerPlacement]
    let logitsGradientTensor: Int?
    let scratchTensor: Int?
    let inputGradientTensor: Int?
    let lossOnStream: CUDALoss?

    /// Builds `configuration` for batches of `batchSize` samples of shape `input`.
    ///
    /// - Throws: `.model` naming the layer, what was found and what was expected; `.kernel` when oneDNN
    ///   refuses.
    public convenience init(
        _ configuration: ModelConfiguration, input: Shape, batchSize: Int,
        purpose: Purpose = .training, on target: ComputeTarget = .host
    ) throws(NNError) {
        try self.init(
            configuration, input: input, batchSize: batchSize, purpose: purpose, on: target,
            wantsInputGradient: false)
    }

    /// The same; with `wantsInputGradient` the lowest layer also computes the gradient of the batch.
    init(
        _ configuration: ModelConfiguration, input: Shape, batchSize: Int, purpose: Purpose,
        on target: ComputeTarget = .host, wantsInputGradient: Bool
    ) throws(NNError) {
        var builder = try NetworkBuilder(
            input: input, batchSize: batchSize, isTraining: purpose == .training, target: target,
            wantsInputGradient: wantsInputGradient)
        try builder.append(configuration)
        try builder.finish()
        self.input = input
        self.batchSize = batchSize
        self.purpose = purpose
        self.target = target
        classCount = builder.shape.count
        parameters = builder.placements.compactMap { $0.layer.parameters }
        states = builder.placements.compactMap { $0.layer.state }
        stateTensors = builder.placements.compactMap(\.state)
        tensors = builder.tensors
        steps = builder.plan()
        placements = builder.placements
        layerNames = placements.map { $0.layer.name }
        implementations = placements.flatMap { $0.layer.reports }
        inputTensor = builder.inputTensor
        labelsTensor = builder.labelsTensor
        logitsTensor = builder.current.activation
        logitsGradientTensor = builder.current.gradient
        scratchTensor = builder.scratchTensor
        inputGradientTensor = builder.inputGradientTensor
        resultsTensor = builder.resultsTensor
        if case .cuda(let compute) = target {
            lossOnStream = try CUDALoss(compute, batchSize: batchSize, classes: classCount)
        } else {
            lossOnStream = nil
        }
    }

    /// Values of all layers with parameters.
    public var valueCount: Int { parameters.reduce(0) { $0 + $1.valueCount } }
}

/// Which implementation a library chose for a kernel.
public struct KernelReport: Hashable, Sendable {
    /// The layer.
    public var layer: String
    /// What the kernel does, such as `compute forward`.
    public var operation: String
    /// The library's name, such as `brgconv:avx512_core`.
    public var implementation: String
    /// Whether it is the slow loop that exists for every case.
    public var isReference: Bool
}

/// A layer and the local tensors it works on, as indexes in `Network.tensors`.
struct LayerPlacement {
    let layer: any Layer
    /// Which random stream is the layer's: its number without copies between layouts, so that it draws alike
    /// on every target.
    let noiseStream: Int
    let input: Int
    let output: Int
    let outputGradient: Int?
    let inputGradient: Int?
    let workspace: Int?
    let state: Int?
    /// Among the layers with parameters; nil without.
    let parameterIndex: Int?
    /// Whether a backward pass is of use: it or a layer below has parameters.
    let needsBackward: Bool
}
