/// Memory that a network works in and its caller owns: data of one worker that no keeper knows.
public struct LocalTensor: Hashable, Sendable {
    /// What it holds.
    public enum Role: String, Hashable, Sendable {
        /// The batch: float32 `[B, C, H, W]`, channels first.
        case input
        /// The batch's labels: Int32 `[B]`.
        case labels
        /// A layer's result, float32.
        case activation
        /// Gradient of the loss by an activation, float32.
        case gradient
        /// What a layer remembers from the forward to the backward pass; opaque bytes.
        case workspace
        /// What a layer remembers from one mini-batch to the next, float32: `Network.states`.
        ///
        /// The caller gives it its first content, and keeps it from iteration to iteration.
        case state
        /// What the loss came to, where a stream computes it: `Network.resultsTensor`.
        case results
        /// Of use within a step only; shared by all steps.
        case scratch
    }

    /// Unique in the network: `conv1.output`, `conv1.output.gradient`.
    public var name: String
    /// Bytes; the memory is to be aligned to `LocalTensor.alignment`.
    public var byteCount: Int
    /// What it holds.
    public var role: Role

    /// Bytes that the address of every local tensor is a multiple of: a cache line, and an AVX-512 register.
    public static let alignment = 64
}

/// A step's use of a local tensor.
///
/// The flags are GeePS's (appendix A.3): a tensor in host memory is copied in only if `fetch`, and
/// copied back only if `keep`.
public struct LocalAccess: Hashable, Sendable {
    /// Index in `Network.tensors`.
    public var tensor: Int
    /// The step reads what is there.
    public var fetch: Bool
    /// A later step of the iteration, or the caller after it, reads what this step leaves.
    public var keep: Bool
    /// The step changes it.
    public var writes: Bool
}

/// One piece of an iteration: what runs between acquiring its memory and releasing it.
public struct NetworkStep: Hashable, Sendable {
    /// What the piece does.
    public enum Kind: Hashable, Sendable {
        /// The caller writes input and labels; `run` does nothing.
        case load
        /// Layer number `layer` forward.
        case forward(layer: Int)
        /// Layer number `layer` forward once more: its result was dropped, and its backward pass is next.
        case recompute(layer: Int)
        /// Loss and, in training, the gradient of the logits.
        case loss
        /// Layer number `layer` backward.
        case backward(layer: Int)
    }

    /// What it does.
    public var kind: Kind
    /// Index in `Network.parameters` of the values it reads; nil for none.
    public var parametersRead: Int?
    /// Index in `Network.parameters` of the values whose gradient it overwrites; nil for none.
    public var parametersUpdated: Int?
    /// Its local tensors, ascending, each once.
    public var accesses: [LocalAccess]
}

/// A step's reads and writes before it is known what later steps read.
struct StepDraft {
    var step: NetworkStep
    var reads: [Int] = []
    var writes: [Int] = []
    /// Written, and of no use afterwards.
    var scratch: Int?
}

extension NetworkStep {
    /// Fills in the accesses of an iteration's steps, in order: a tensor is kept when the next step that
    /// touches it reads it, or when it is among `results` and nobody touches it again.
    static func planned(_ drafts: [StepDraft], results: Set<Int>) -> [NetworkStep] {
        var isReadLater = results
        var steps: [NetworkStep] = []
        for draft in drafts.reversed() {
            var step = draft.step
            let touched = Set(draft.reads).union(draft.writes).union(
                draft.scratch.map { [$0] } ?? [])
            step.accesses = touched.sorted().map { tensor in
                LocalAccess(
                    tensor: tensor, fetch: draft.reads.contains(tensor),
                    keep: tensor != draft.scratch && isReadLater.contains(tensor),
                    writes: tensor == draft.scratch || draft.writes.contains(tensor))
            }
            isReadLater.subtract(draft.writes)
            isReadLater.formUnion(draft.reads)
            steps.append(step)
        }
        return steps.reversed()
    }
}
