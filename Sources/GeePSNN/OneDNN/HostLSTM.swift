import CDNNL
import GeePSDevice

/// An LSTM's work on the calling thread: oneDNN's `sgemm` and the host's kernels.
struct HostLSTM: LSTMCompute {
    let layer: String
    let sizes: LSTMSizes
    let implementation = "sgemm"

    func multiply(
        _ a: MatrixFactor, _ b: MatrixFactor, depth: Int, into target: MatrixTarget, adds: Bool,
        _ operation: String
    ) throws(NNError) {
        try DNNCall(layer, operation).check(
            dnnl_sgemm(
                Self.letter(a), Self.letter(b), Int64(target.rows), Int64(target.columns),
                Int64(depth), 1, a.start, Int64(a.stride), b.start, Int64(b.stride), adds ? 1 : 0,
                target.start, Int64(target.stride)))
    }

    private static func letter(_ factor: MatrixFactor) -> CChar {
        CChar(bitPattern: UInt8(ascii: factor.isTransposed ? "T" : "N"))
    }

    func forward(
        gates: UnsafeMutablePointer<Float>, cell: UnsafeMutablePointer<Float>,
        hidden: UnsafeMutablePointer<Float>, hiddenStride: Int, biases: UnsafePointer<Float>
    ) {
        Kernels.lstmForward(
            gates: gates, cell: cell, hidden: hidden, biases: biases,
            gateStride: sizes.steps * sizes.gates, hiddenStride: hiddenStride, batch: sizes.batch,
            width: sizes.width)
    }

    func states(
        cellBefore: UnsafeMutablePointer<Float>, hiddenBefore: UnsafeMutablePointer<Float>,
        gates: UnsafePointer<Float>
    ) {
        Kernels.lstmStates(
            cellBefore: cellBefore, hiddenBefore: hiddenBefore, gates: gates, batch: sizes.batch,
            steps: sizes.steps, width: sizes.width)
    }

    func backward(
        gateGradients: UnsafeMutablePointer<Float>, cellGradient: UnsafeMutablePointer<Float>,
        hiddenGradient: UnsafePointer<Float>, outputGradient: UnsafePointer<Float>?,
        outputStride: Int, gates: UnsafePointer<Float>, cellBefore: UnsafePointer<Float>
    ) {
        Kernels.lstmBackward(
            gateGradients: gateGradients, cellGradient: cellGradient,
            hiddenGradient: hiddenGradient, outputGradient: outputGradient, gates: gates,
            cellBefore: cellBefore, outputStride: outputStride, batch: sizes.batch,
            steps: sizes.steps, width: sizes.width)
    }

    func sumGates(_ source: UnsafePointer<Float>, into sums: UnsafeMutablePointer<Float>) {
        Kernels.columnSums(source, into: sums, rowCount: sizes.rows, width: sizes.gates)
    }

    func copy(
        _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, count: Int
    ) {
        Kernels.copy(source, to: target, count: count)
    }

    func zero(_ target: UnsafeMutablePointer<Float>, count: Int) {
        Kernels.fill(target, with: 0, count: count)
    }
}
