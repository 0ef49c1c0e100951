/// Long short-term memory over `T` steps, as PyTorch's `nn.LSTM` of one layer with zeros for initial states.
///
/// The input is read as `[B, T, F]`, and so are all steps of anything: a step is a matrix whose rows are a whole
/// sample apart, and nothing is copied or transposed. Forward, one product makes the inputs' share of all gates; a
/// step adds the hidden values' share and runs a kernel. Backward, a step is a kernel and a product, and the
/// gradients of weights and input are one product each over all steps.
///
/// From forward to backward live the open gates alone, `4 B T H` values: cells and hidden values are made from them
/// again, by multiply-adds and a tanh. Decision 0016 says why it is this and no library's.
final class LSTMLayer: Layer {
    let name: String
    let parameters: LayerParameters?
    let outputShape: Shape
    let outputLayout = Layout.channelsFirst
    let traits: LayerTraits
    private let compute: any LSTMCompute
    private let sizes: LSTMSizes
    private let keepsAllSteps: Bool
    private let isTraining: Bool
    private let places: Places

    var reports: [KernelReport] {
        ["compute forward", "compute its gradients"].prefix(isTraining ? 2 : 1).map {
            KernelReport(
                layer: name, operation: $0, implementation: compute.implementation,
                isReference: false)
        }
    }

    /// Where the tensors are among the layer's values.
    private struct Places {
        let inputWeight = 0
        let hiddenWeight: Int
        let biases: Int

        init(_ sizes: LSTMSizes) {
            hiddenWeight = sizes.gates * sizes.inputs
            biases = hiddenWeight + sizes.gates * sizes.width
        }
    }

    /// A layer for the flat input of `site`.
    init(_ site: LayerSite, _ compute: any LSTMCompute, keeps: KeptSteps) {
        self.compute = compute
        let sizes = compute.sizes
        self.sizes = sizes
        name = site.name
        isTraining = site.isTraining
        keepsAllSteps = keeps == .all
        places = Places(sizes)
        outputShape = keeps.shape(steps: sizes.steps, width: sizes.width)
        let bound = 1 / Float(sizes.width).squareRoot()
        parameters = LayerParameters(
            name: name, position: site.parameterPosition,
            tensors: [
                ("weight_ih_l0", [sizes.gates, sizes.inputs], .uniform(bound: bound)),
                ("weight_hh_l0", [sizes.gates, sizes.width], .uniform(bound: bound)),
                ("bias_ih_l0", [sizes.gates], .uniform(bound: bound)),
                ("bias_hh_l0", [sizes.gates], .uniform(bound: bound)),
            ])
        let gateBytes = Self.bytes(sizes.rows * sizes.gates)
        let cellBytes = Self.bytes(sizes.batch * sizes.width)
        guard site.isTraining else {
            traits = LayerTraits(forwardScratchBytes: cellBytes + gateBytes)
            return
        }
        traits = LayerTraits(
            backwardReads: [.input, .parameters], workspaceBytes: gateBytes,
            forwardScratchBytes: cellBytes,
            backwardScratchBytes: BackwardScratch.bytes(sizes))
    }

    // MARK: Forward

    func forward(_ context: ForwardContext) throws(NNError) {
        guard let values = context.parameters, let scratch = context.scratch else {
            preconditionFailure("layer \(name) needs its parameters and scratch to compute forward")
        }
        let cell = scratch.assumingMemoryBound(to: Float.self)
        let gates =
            context.workspace?.assumingMemoryBound(to: Float.self)
            ?? cell + sizes.batch * sizes.width
        try compute.multiply(
            MatrixFactor(start: context.input, stride: sizes.inputs),
            MatrixFactor(
                start: values + places.inputWeight, stride: sizes.inputs, isTransposed: true),
            depth: sizes.inputs, into: MatrixTarget(gates, sizes.rows, sizes.gates), adds: false,
            "multiply its input")
        compute.zero(cell, count: sizes.batch * sizes.width)
        for step in 0..<sizes.steps {
            if step > 0 { try addHidden(of: step - 1, context.output, values, to: gates) }
            compute.forward(
                gates: gates + step * sizes.gates, cell: cell,
                hidden: hidden(of: step, context.output), hiddenStride: hiddenStride,
                biases: values + places.biases)
        }
    }

    /// Adds what the hidden values of `step` come to in the gates of the next.
    private func addHidden(
        of step: Int, _ output: UnsafeMutablePointer<Float>, _ values: UnsafePointer<Float>,
        to gates: UnsafeMutablePointer<Float>
    ) throws(NNError) {
        try compute.multiply(
            MatrixFactor(start: hidden(of: step, output), stride: hiddenStride),
            MatrixFactor(
                start: values + places.hiddenWeight, stride: sizes.width, isTransposed: true),
            depth: sizes.width,
            into: MatrixTarget(
                gates + (step + 1) * sizes.gates, sizes.batch, sizes.gates,
                stride: sizes.steps * sizes.gates),
            adds: true, "multiply its hidden values")
    }

    /// The hidden values of a step: in the output, where each takes the place of the one before unless all stay.
    private func hidden<Pointer: Strideable>(of step: Int, _ output: Pointer) -> Pointer
    where Pointer.Stride == Int {
        keepsAllSteps ? output.advanced(by: step * sizes.width) : output
    }

    private var hiddenStride: Int { keepsAllSteps ? sizes.steps * sizes.width : sizes.width }

    // MARK: Backward

    /// What the backward pass needs for its own time.
    private struct BackwardScratch {
        /// `[B, T, 4H]`.
        let gateGradients: UnsafeMutablePointer<Float>
        /// `[B, T, H]`.
        let cellBefore: UnsafeMutablePointer<Float>
        /// `[B, T, H]`.
        let hiddenBefore: UnsafeMutablePointer<Float>
        /// `[B, H]`.
        let cellGradient: UnsafeMutablePointer<Float>
        /// `[B, H]`, right behind.
        let hiddenGradient: UnsafeMutablePointer<Float>

        init(_ start: UnsafeMutableRawPointer, _ sizes: LSTMSizes) {
            gateGradients = start.assumingMemoryBound(to: Float.self)
            cellBefore = gateGradients + sizes.rows * sizes.gates
            hiddenBefore = cellBefore + sizes.rows * sizes.width
            cellGradient = hiddenBefore + sizes.rows * sizes.width
            hiddenGradient = cellGradient + sizes.batch * sizes.width
        }

        static func bytes(_ sizes: LSTMSizes) -> Int {
            LSTMLayer.bytes(
                sizes.rows * (sizes.gates + 2 * sizes.width) + 2 * sizes.batch * sizes.width)
        }
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        guard let values = context.parameters, let input = context.input,
            let workspace = context.workspace, let memory = context.scratch
        else {
            preconditionFailure(
                "layer \(name) needs parameters, input, workspace and scratch to compute backward")
        }
        let gates = UnsafePointer(workspace.assumingMemoryBound(to: Float.self))
        let scratch = BackwardScratch(memory, sizes)
        compute.states(
            cellBefore: scratch.cellBefore, hiddenBefore: scratch.hiddenBefore, gates: gates)
        compute.zero(scratch.cellGradient, count: 2 * sizes.batch * sizes.width)
        for step in (0..<sizes.steps).reversed() {
            try backward(step, gates, scratch, context.outputGradient, values)
        }
        if let gradients = context.parameterGradients {
            try sumUp(scratch, input: input, into: gradients)
        }
        if let inputGradient = context.inputGradient {
            try compute.multiply(
                MatrixFactor(start: scratch.gateGradients, stride: sizes.gates),
                MatrixFactor(start: values + places.inputWeight, stride: sizes.inputs),
                depth: sizes.gates, into: MatrixTarget(inputGradient, sizes.rows, sizes.inputs),
                adds: false, "compute the gradient of its input")
        }
    }

    /// The gradients of a step's gates, and what it passes on to the step before.
    private func backward(
        _ step: Int, _ gates: UnsafePointer<Float>, _ scratch: BackwardScratch,
        _ outputGradient: UnsafePointer<Float>, _ values: UnsafePointer<Float>
    ) throws(NNError) {
        let isLast = step == sizes.steps - 1
        let gateGradients = scratch.gateGradients + step * sizes.gates
        compute.backward(
            gateGradients: gateGradients, cellGradient: scratch.cellGradient,
            hiddenGradient: scratch.hiddenGradient,
            outputGradient: keepsAllSteps || isLast ? hidden(of: step, outputGradient) : nil,
            outputStride: hiddenStride, gates: gates + step * sizes.gates,
            cellBefore: scratch.cellBefore + step * sizes.width)
        guard step > 0 else { return }
        try compute.multiply(
            MatrixFactor(start: gateGradients, stride: sizes.steps * sizes.gates),
            MatrixFactor(start: values + places.hiddenWeight, stride: sizes.width),
            depth: sizes.gates,
            into: MatrixTarget(scratch.hiddenGradient, sizes.batch, sizes.width), adds: false,
            "compute the gradient of its hidden values")
    }

    /// The gradients of the layer's values, from those of all gates.
    private func sumUp(
        _ scratch: BackwardScratch, input: UnsafePointer<Float>,
        into gradients: UnsafeMutablePointer<Float>
    ) throws(NNError) {
        let gateGradients = MatrixFactor(
            start: scratch.gateGradients, stride: sizes.gates, isTransposed: true)
        try compute.multiply(
            gateGradients, MatrixFactor(start: input, stride: sizes.inputs), depth: sizes.rows,
            into: MatrixTarget(gradients + places.inputWeight, sizes.gates, sizes.inputs),
            adds: false, "compute the gradient of its input weights")
        try compute.multiply(
            gateGradients, MatrixFactor(start: scratch.hiddenBefore, stride: sizes.width),
            depth: sizes.rows,
            into: MatrixTarget(gradients + places.hiddenWeight, sizes.gates, sizes.width),
            adds: false, "compute the gradient of its hidden weights")
        // The two biases are added to the same sums.
        let biases = gradients + places.biases
        compute.sumGates(scratch.gateGradients, into: biases)
        compute.copy(biases, to: biases + sizes.gates, count: sizes.gates)
    }

    private static func bytes(_ values: Int) -> Int { values * MemoryLayout<Float>.stride }
}
