import CGeePSShims
import GeePSDevice

/// Convolution with a square kernel and a bias; weights are OIHW, activations channels first.
final class CUDAConvolutionLayer: Layer {
    let name: String
    let parameters: LayerParameters?
    let outputShape: Shape
    let outputLayout = Layout.channelsFirst
    let traits: LayerTraits
    private let compute: CUDACompute
    private let weightCount: Int
    private let source: CUDNNTensor
    private let target: CUDNNTensor
    private let filter: CUDNNFilter
    private let forwardPass: CUDAConvolutionPass
    private let dataPass: CUDAConvolutionPass?
    private let weightsPass: CUDAConvolutionPass?
    private let bias: CUDABias

    var reports: [KernelReport] {
        [forwardPass, dataPass, weightsPass].compactMap { pass in
            pass.map {
                KernelReport(
                    layer: name, operation: $0.call.operation, implementation: $0.implementation,
                    isReference: false)
            }
        }
    }

    init(_ site: LayerSite, _ compute: CUDACompute, out: Int, window: Window) throws(NNError) {
        name = site.name
        self.compute = compute
        let positions = try window.positions(over: site.input, layer: site.name)
        let outputShape = Shape(
            channels: out, height: positions.height, width: positions.width)
        self.outputShape = outputShape
        let parameters = LayerParameters(
            name: name, position: site.parameterPosition,
            weight: [out, site.input.channels, window.kernel, window.kernel], outputCount: out)
        self.parameters = parameters
        weightCount = parameters.weightCount
        let call = CUDALibraryCall.cudnn("describe a convolution", layer: site.name)
        let source = try CUDNNTensor(site.batchSize, site.input, compute, call)
        let target = try CUDNNTensor(site.batchSize, outputShape, compute, call)
        let filter = try CUDNNFilter(
            out: out, channels: site.input.channels, side: window.kernel, compute, call)
        (self.source, self.target, self.filter) = (source, target, filter)
        let pass = { (kind: CUDAConvolutionPass.Kind) throws(NNError) in
            try CUDAConvolutionPass(
                kind, layer: site.name, source, filter, target, window, compute)
        }
        forwardPass = try pass(.forward)
        weightsPass = site.isTraining ? try pass(.weights) : nil
        dataPass = site.isTraining && site.needsInputGradient ? try pass(.data) : nil
        bias = CUDABias(
            compute: compute, layer: name, outer: site.batchSize, channels: out,
            inner: outputShape.height * outputShape.width)
        traits = LayerTraits(
            backwardReads: site.needsInputGradient ? [.input, .parameters] : .input,
            forwardScratchBytes: forwardPass.workspaceBytes,
            backwardScratchBytes: max(
                dataPass?.workspaceBytes ?? 0, weightsPass?.workspaceBytes ?? 0,
                site.isTraining ? bias.gradientScratchBytes : 0))
    }

    func forward(_ context: ForwardContext) throws(NNError) {
        guard let values = context.parameters else {
            preconditionFailure("layer \(name) needs its parameters to compute forward")
        }
        let pass = forwardPass
        compute.put(pass.call) { functions, handle in
            var (one, zero) = (Float(1), Float(0))
            return functions.cudnnConvolutionForward(
                handle, &one, source.handle, context.input, filter.handle, values,
                pass.convolution.handle, pass.algorithm, context.scratch, pass.workspaceBytes,
                &zero, target.handle, context.output)
        }
        bias.add(values + weightCount, to: context.output)
    }

    func backward(_ context: BackwardContext) throws(NNError) {
        if let pass = weightsPass, let gradients = context.parameterGradients,
            let input = context.input
        {
            compute.put(pass.call) { functions, handle in
                var (one, zero) = (Float(1), Float(0))
                return functions.cudnnConvolutionBackwardFilter(
                    handle, &one, source.handle, input, target.handle, context.outputGradient,
                    pass.convolution.handle, pass.algorithm, context.scratch, pass.workspaceBytes,
                    &zero, filter.handle, gradients)
            }
            // The stream is done with the workspace by then, and begins the next pass after it.
            bias.gradient(
                of: context.outputGradient, into: gradients + weightCount, scratch: context.scratch)
        }
        if let pass = dataPass, let inputGradient = context.inputGradient,
            let values = context.parameters
        {
            compute.put(pass.call) { functions, handle in
                var (one, zero) = (Float(1), Float(0))
                return functions.cudnnConvolutionBackwardData(
                    handle, &one, filter.handle, values, target.handle, context.outputGradient,
                    pass.convolution.handle, pass.algorithm, context.scratch, pass.workspaceBytes,
                    &zero, source.handle, inputGradient)
            }
        }
    }
}

/// One of the three computations of a convolution, and the algorithm that was chosen for it.
final class CUDAConvolutionPass {
    enum Kind {
        case forward, data, weights

        var operation: String {
            switch self {
            case .forward: "compute forward"
            case .data: "compute the gradient of its input"
            case .weights: "compute the gradient of its weights"
            }
        }

        /// As cuDNN's header names it, in lower case.
        func algorithmName(_ number: Int32) -> String {
            let names =
                switch self {
                case .forward:
                    [
                        "implicit_gemm", "implicit_precomp_gemm", "gemm", "direct", "fft",
                        "fft_tiling", "winograd", "winograd_nonfused",
                    ]
                case .data:
                    ["algo_0", "algo_1", "fft", "fft_tiling", "winograd", "winograd_nonfused"]
                case .weights:
                    [
                        "algo_0", "algo_1", "fft", "algo_3", "winograd", "winograd_nonfused",
                        "fft_tiling",
                    ]
                }
            return names.indices.contains(Int(number)) ? names[Int(number)] : "algo_\(number)"
        }
    }

    let call: CUDALibraryCall
    let convolution: CUDNNConvolution
    let algorithm: Int32
    let workspaceBytes: Int
    let implementation: String

    /// Chooses, by cuDNN's heuristics and without running anything, the fastest algorithm whose workspace fits
    /// the limit; one whose sums have a fixed order before all others, so that two runs give the same bits.
    init(
        _ kind: Kind, layer: String, _ source: CUDNNTensor, _ filter: CUDNNFilter,
        _ target: CUDNNTensor, _ window: Window, _ compute: CUDACompute
    ) throws(NNError) {
        let call = CUDALibraryCall.cudnn(kind.operation, layer: layer)
        self.call = call
        let convolution = try CUDNNConvolution(window, compute, call)
        self.convolution = convolution
        let query = Query(
            kind: kind, source: source, filter: filter, target: target, convolution: convolution,
            compute: compute, call: call)
        var usable: [(answer: geeps_cudnn_algorithm, bytes: Int)] = []
        var least = Int.max
        for answer in try query.answers() where answer.status == 0 {
            try convolution.setMath(compute.convolutionMath(answer.math_type), call)
            // What the heuristics say is an estimate of the workspace.
            guard let bytes = try query.workspaceBytes(of: answer.algorithm) else { continue }
            least = min(least, bytes)
            if bytes <= compute.workspaceLimitBytes { usable.append((answer, bytes)) }
        }
        guard let chosen = usable.first(where: { $0.answer.determinism == 1 }) ?? usable.first
        else {
            throw NNError(
                .kernel,
                "layer \(layer): cuDNN has no algorithm to \(kind.operation) within a workspace of "
                    + "\(compute.workspaceLimitBytes) bytes"
                    + (least < Int.max ? "; one takes \(least)" : ""))
        }
        try convolution.setMath(compute.convolutionMath(chosen.answer.math_type), call)
        algorithm = chosen.answer.algorithm
        workspaceBytes = chosen.bytes
        let order = chosen.answer.determinism == 1 ? "" : ", order of sums not fixed"
        implementation = "cudnn:\(kind.algorithmName(chosen.answer.algorithm))\(order)"
    }

    /// What cuDNN is asked about a pass.
    private struct Query {
        let kind: Kind
        let source: CUDNNTensor
        let filter: CUDNNFilter
        let target: CUDNNTensor
        let convolution: CUDNNConvolution
        let compute: CUDACompute
        let call: CUDALibraryCall

        /// More than any pass has.
        private static let capacity = 16

        /// Algorithms, the fastest first.
        func answers() throws(NNError) -> [geeps_cudnn_algorithm] {
            var answers = [geeps_cudnn_algorithm](
                repeating: geeps_cudnn_algorithm(), count: Self.capacity)
            var count: Int32 = 0
            let capacity = Int32(Self.capacity)
            try compute.ask(call) { functions, handle in
                switch kind {
                case .forward:
                    functions.cudnnGetConvolutionForwardAlgorithm_v7(
                        handle, source.handle, filter.handle, convolution.handle, target.handle,
                        capacity, &count, &answers)
                case .data:
                    functions.cudnnGetConvolutionBackwardDataAlgorithm_v7(
                        handle, filter.handle, target.handle, convolution.handle, source.handle,
                        capacity, &count, &answers)
                case .weights:
                    functions.cudnnGetConvolutionBackwardFilterAlgorithm_v7(
                        handle, source.handle, target.handle, convolution.handle, filter.handle,
                        capacity, &count, &answers)
                }
            }
            return Array(answers.prefix(Int(max(0, min(count, capacity)))))
        }

        /// What `algorithm` takes; nil where it does not do this convolution after all.
        func workspaceBytes(of algorithm: Int32) throws(NNError) -> Int? {
            var bytes = 0
            let status = try compute.answer { functions, handle in
                switch kind {
                case .forward:
                    functions.cudnnGetConvolutionForwardWorkspaceSize(
                        handle, source.handle, filter.handle, convolution.handle, target.handle,
                        algorithm, &bytes)
                case .data:
                    functions.cudnnGetConvolutionBackwardDataWorkspaceSize(
                        handle, filter.handle, target.handle, convolution.handle, source.handle,
                        algorithm, &bytes)
                case .weights:
                    functions.cudnnGetConvolutionBackwardFilterWorkspaceSize(
                        handle, source.handle, target.handle, convolution.handle, filter.handle,
                        algorithm, &bytes)
                }
            }
            if Self.notSupported ~= status { return nil }
            if status != 0 { throw call.error(status, compute.cudnn) }
            return bytes
        }

        /// cuDNN 9's CUDNN_STATUS_NOT_SUPPORTED and its kinds.
        private static let notSupported = Int32(3000)..<4000
    }
}
