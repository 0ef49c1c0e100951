/// Sizes of an LSTM over a batch.
struct LSTMSizes {
    /// B.
    let batch: Int
    /// T.
    let steps: Int
    /// F: values of a step of the input.
    let inputs: Int
    /// H: values of a step of the output.
    let width: Int

    /// Values of a step's gates, 4H.
    var gates: Int { 4 * width }
    /// Rows of what all steps are in, BT.
    var rows: Int { batch * steps }
}

/// A factor of a product: a matrix that lies row by row, or its transpose.
struct MatrixFactor {
    let start: UnsafePointer<Float>
    /// Values from one row to the next.
    let stride: Int
    var isTransposed = false
}

/// A product's place: `[rows, columns]`, row by row.
struct MatrixTarget {
    let start: UnsafeMutablePointer<Float>
    let rows: Int
    let columns: Int
    /// Values from one row to the next.
    let stride: Int

    /// Of rows without space between them.
    init(_ start: UnsafeMutablePointer<Float>, _ rows: Int, _ columns: Int, stride: Int? = nil) {
        self.start = start
        self.rows = rows
        self.columns = columns
        self.stride = stride ?? columns
    }
}

/// What an LSTM asks of a device: products of matrices and its pointwise kernels.
///
/// All memory is the device's; work is done in the order of the calls.
protocol LSTMCompute {
    var sizes: LSTMSizes { get }
    /// What multiplies, for reports.
    var implementation: String { get }

    /// `target = a b`, over `depth`, or with `adds` `target += a b`; `operation` is for messages.
    func multiply(
        _ a: MatrixFactor, _ b: MatrixFactor, depth: Int, into target: MatrixTarget, adds: Bool,
        _ operation: String
    ) throws(NNError)

    /// A step; `gates` and `hidden` are its rows, the latter `hiddenStride` apart.
    func forward(
        gates: UnsafeMutablePointer<Float>, cell: UnsafeMutablePointer<Float>,
        hidden: UnsafeMutablePointer<Float>, hiddenStride: Int, biases: UnsafePointer<Float>)

    /// What cells and hidden values were before every step, `[B, T, H]`, from the gates of all.
    func states(
        cellBefore: UnsafeMutablePointer<Float>, hiddenBefore: UnsafeMutablePointer<Float>,
        gates: UnsafePointer<Float>)

    /// A step backward; all but the gradients of cell and hidden values are its rows in all steps.
    func backward(
        gateGradients: UnsafeMutablePointer<Float>, cellGradient: UnsafeMutablePointer<Float>,
        hiddenGradient: UnsafePointer<Float>, outputGradient: UnsafePointer<Float>?,
        outputStride: Int, gates: UnsafePointer<Float>, cellBefore: UnsafePointer<Float>)

    /// Sums over the rows of all steps' gates.
    func sumGates(_ source: UnsafePointer<Float>, into sums: UnsafeMutablePointer<Float>)

    /// `target = source`.
    func copy(
        _ source: UnsafePointer<Float>, to target: UnsafeMutablePointer<Float>, count: Int)

    /// `target = 0`.
    func zero(_ target: UnsafeMutablePointer<Float>, count: Int)
}
