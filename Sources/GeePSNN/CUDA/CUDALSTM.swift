import GeePSDevice

/// An LSTM's work on a stream of a GPU: cuBLAS and our kernels, of the host's text.
struct CUDALSTM: LSTMCompute {
    let compute: CUDACompute
    let layer: String
    let sizes: LSTMSizes
    let implementation = "cublas:gemm"

    /// - Throws: `.model` where cuBLAS cannot count that far.
    init(_ compute: CUDACompute, layer: String, sizes: LSTMSizes) throws(NNError) {
        self.compute = compute
        self.layer = layer
        self.sizes = sizes
        _ = try CUDNNSizes(
            [sizes.rows, sizes.inputs, sizes.steps * sizes.gates],
            .cublas("multiply", layer: layer))
    }

    // Matrices lie row by row and cuBLAS counts by columns: each is its own transpose to it, and the product's
    // transpose is that of its factors the other way round.
    func multiply(
        _ a: MatrixFactor, _ b: MatrixFactor, depth: Int, into target: MatrixTarget, adds: Bool,
        _ operation: String
    ) throws(NNError) {
        compute.multiply(
            .cublas(operation, layer: layer), m: target.columns, n: target.rows, k: depth,
            a: b.start, strideA: b.stride, transposesA: b.isTransposed, b: a.start,
            strideB: a.stride, transposesB: a.isTransposed, c: target.start,
            strideC: target.stride, adds: adds)
    }

    func forward(
        gates: UnsafeMutablePointer<Float>, cell: UnsafeMutablePointer<Float>,
        hidden: UnsafeMutablePointer<Float>, hiddenStride: Int, biases: UnsafePointer<Float>
    ) {
        compute.stream.launch(
            "geeps_lstm_forward", count: sizes.batch * sizes.width, label: layer, gates, cell,
            hidden, biases, Int64(sizes.steps * sizes.gates), Int64(hiddenStride),
            Int64(sizes.batch), Int64(sizes.width))
    }

    func states(
        cellBefore: UnsafeMutablePointer<Float>, hiddenBefore: UnsafeMutablePointer<Float>,
        gates: UnsafePointer<Float>
    ) {
        compute.stream.launch(
            "geeps_lstm_states", count: sizes.batch * sizes.width, label: layer, cellBefore,
            hiddenBefore, gates, Int64(sizes.batch), Int64(sizes.steps), Int64(sizes.width))
    }

    func backward(
        gateGradients: UnsafeMutablePointer<Float>, cellGradient: UnsafeMutablePointer<Float>,
        hiddenGradient: UnsafePointer<Float>, outputGradient: UnsafePointer<Float>?,
        outputStride: Int, gates: UnsafePointer<Float>, cellBefore: UnsafePointer<Float>
    ) {
        compute.stream.launch(
            "geeps_lstm_backward", count: sizes.batch * sizes.width, label: layer, gateGradients,
            cellGradient, hiddenGradient, outputGradient, gates, cellBefore, Int64(outputStride),
            Int64(sizes.batch), Int64(sizes.steps), Int64(sizes.width))
    }

    func sumGates(_ source: UnsafePointer<Float>, into sums: UnsafeMutablePointer<Float>) {
        CUDABias(
            compute: compute, layer: layer, outer: sizes.rows, channels: sizes.gates, inner: 1
        ).gradient(of: source, into: sums)
    }

    func copy(
        _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, count: Int
    ) {
        compute.stream.launch(
            "geeps_copy", count: count, label: layer, target, source, Int64(count))
    }

    func zero(_ target: UnsafeMutablePointer<Float>, count: Int) {
        compute.stream.zero(
            UnsafeMutableRawPointer(target), byteCount: count * MemoryLayout<Float>.stride,
            label: layer)
    }
}
