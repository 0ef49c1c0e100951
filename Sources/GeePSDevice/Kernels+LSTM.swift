import CGeePSKernels

extension Kernels {
    /// A step of an LSTM: `gates`, the products of its inputs, become what they open.
    ///
    /// - Parameters:
    ///   - gates: rows of `4 * width`, `gateStride` values apart: input, forget, candidate, output.
    ///   - cell: `[batch, width]`, from before the step to after it.
    ///   - hidden: overwritten, rows of `width`, `hiddenStride` values apart.
    ///   - biases: of input and hidden values, `4 * width` each.
    public static func lstmForward(
        gates: UnsafeMutablePointer<Float>, cell: UnsafeMutablePointer<Float>,
        hidden: UnsafeMutablePointer<Float>, biases: UnsafePointer<Float>, gateStride: Int,
        hiddenStride: Int, batch: Int, width: Int
    ) {
        best.lstm_forward(
            gates, cell, hidden, biases, Int64(gateStride), Int64(hiddenStride), Int64(batch),
            Int64(width))
    }

    /// A step of an LSTM backward: the gradients of what `lstmForward` was given as gates.
    ///
    /// - Parameters:
    ///   - gateGradients: overwritten; rows of `4 * width`, `4 * steps * width` values apart, as those of `gates`.
    ///   - cellGradient: `[batch, width]`, from after the step to before it.
    ///   - hiddenGradient: `[batch, width]`, what the step behind passes on.
    ///   - outputGradient: rows of `width`, `outputStride` values apart, added to it; nil without.
    ///   - cellBefore: rows of `width`, `steps * width` values apart.
    public static func lstmBackward(
        gateGradients: UnsafeMutablePointer<Float>, cellGradient: UnsafeMutablePointer<Float>,
        hiddenGradient: UnsafePointer<Float>, outputGradient: UnsafePointer<Float>?,
        gates: UnsafePointer<Float>, cellBefore: UnsafePointer<Float>, outputStride: Int,
        batch: Int, steps: Int, width: Int
    ) {
        best.lstm_backward(
            gateGradients, cellGradient, hiddenGradient, outputGradient, gates, cellBefore,
            Int64(outputStride), Int64(batch), Int64(steps), Int64(width))
    }

    /// Cells and hidden values `[batch, steps, width]` before every step, from the gates of all steps.
    public static func lstmStates(
        cellBefore: UnsafeMutablePointer<Float>, hiddenBefore: UnsafeMutablePointer<Float>,
        gates: UnsafePointer<Float>, batch: Int, steps: Int, width: Int
    ) {
        best.lstm_states(
            cellBefore, hiddenBefore, gates, Int64(batch), Int64(steps), Int64(width))
    }

    /// Sums of the columns of `[rowCount, width]`, row after row in double.
    public static func columnSums(
        _ source: UnsafePointer<Float>, into sums: UnsafeMutablePointer<Float>, rowCount: Int,
        width: Int
    ) {
        best.column_sums(sums, source, Int64(rowCount), Int64(width))
    }
}
