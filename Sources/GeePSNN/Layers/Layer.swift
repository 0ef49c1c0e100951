/// What a layer is given to compute a batch forward.
///
/// All memory is the caller's; `scratch` is aligned to 64.
struct ForwardContext {
    /// The layer's values in the order of `LayerParameters`; nil when it has none.
    var parameters: UnsafePointer<Float>?
    /// `[B, C, H, W]` in the layout of the layer below.
    var input: UnsafePointer<Float>
    /// The layer's result; may be the memory of `input` where the traits say so.
    var output: UnsafeMutablePointer<Float>
    /// Written for the backward pass; its contents must be the same there.
    var workspace: UnsafeMutableRawPointer?
    /// What the layer remembers, in the order of `LayerState`.
    ///
    /// Nil when it has none, and in training also where the layer runs again: what a batch changes in it is
    /// changed once.
    var state: UnsafeMutablePointer<Float>?
    /// Contents are of no use before and after.
    var scratch: UnsafeMutableRawPointer?
    /// Key of the layer's random stream.
    var noise: UInt64
}

/// What a layer is given to compute gradients of a batch.
///
/// Memory that `LayerTraits.backwardReads` does not name may be nil, or hold anything.
struct BackwardContext {
    /// The layer's values; needed only for the gradient of the input.
    var parameters: UnsafePointer<Float>?
    /// Overwritten with the gradient of the layer's values, in their order.
    var parameterGradients: UnsafeMutablePointer<Float>?
    /// What the layer computed from.
    var input: UnsafePointer<Float>?
    /// What it computed.
    var output: UnsafePointer<Float>?
    /// Gradient of the loss by `output`.
    var outputGradient: UnsafePointer<Float>
    /// Overwritten with the gradient by `input`; nil when nobody below needs it.
    var inputGradient: UnsafeMutablePointer<Float>?
    /// As the forward pass left it.
    var workspace: UnsafeMutableRawPointer?
    /// Contents are of no use before and after.
    var scratch: UnsafeMutableRawPointer?
    /// The key that the forward pass had.
    var noise: UInt64
}

/// What a layer needs besides its input and output.
///
/// Fewer needs are fewer transfers.
struct LayerTraits {
    /// What the backward pass reads, besides the gradient of the output.
    struct Reads: OptionSet {
        let rawValue: Int
        static let input = Reads(rawValue: 1)
        static let output = Reads(rawValue: 2)
        static let parameters = Reads(rawValue: 4)
    }

    var backwardReads: Reads = []
    /// The output may take the input's memory.
    var isForwardInPlace = false
    /// The gradient of the input may take the memory of the output's gradient.
    var isBackwardInPlace = false
    /// Bytes that live from the forward to the backward pass.
    var workspaceBytes = 0
    var forwardScratchBytes = 0
    var backwardScratchBytes = 0
}

/// A layer for one batch size and one input shape.
///
/// Owns kernels, but no values and no activations.
protocol Layer: AnyObject {
    /// Unique in the network.
    var name: String { get }
    /// What the job trains; nil for most kinds.
    var parameters: LayerParameters? { get }
    /// What it remembers from batch to batch; nil for most kinds.
    var state: LayerState? { get }
    /// Of one sample.
    var outputShape: Shape { get }
    /// Order of the output's values.
    var outputLayout: Layout { get }
    /// What it needs.
    var traits: LayerTraits { get }
    /// Which implementations run.
    var reports: [KernelReport] { get }

    /// Computes the output.
    func forward(_ context: ForwardContext) throws(NNError)

    /// Computes the gradients that the context has room for.
    func backward(_ context: BackwardContext) throws(NNError)
}

extension Layer {
    var state: LayerState? { nil }
}

/// What computes a network's layers.
enum LayerCompute {
    case host(DNNEngine)
    case cuda(CUDACompute)
}

/// What every layer is built from.
struct LayerSite {
    let name: String
    let input: Shape
    let layout: Layout
    let batchSize: Int
    let compute: LayerCompute
    /// False in a network for inference: no backward kernels are made.
    let isTraining: Bool
    /// Whether the gradient of the input is wanted: somebody below has parameters.
    let needsInputGradient: Bool
    /// Position among the layers with parameters.
    let parameterPosition: Int

    /// Of layers on the host.
    var engine: DNNEngine {
        guard case .host(let engine) = compute else {
            preconditionFailure("layer \(name) of the host was made for another target")
        }
        return engine
    }

    func call(_ operation: String) -> DNNCall { DNNCall(name, operation) }

    /// Values of a batch of the input.
    var inputCount: Int { batchSize * input.count }

    /// Values of a channel in a batch of the input.
    var valuesPerChannel: Int { batchSize * input.height * input.width }
}
