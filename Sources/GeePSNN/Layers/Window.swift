/// A square window that slides over an image with `padding` on every side.
struct Window: Hashable, Sendable {
    var kernel: Int
    var stride: Int
    var padding: Int

    /// Where the window stops along each axis: `floor((n + 2 padding - kernel) / stride) + 1`.
    ///
    /// - Throws: `.model` when a number is out of range or the window is larger than the padded input.
    func positions(over input: Shape, layer: String) throws(NNError) -> (height: Int, width: Int) {
        func require(_ isValid: Bool, _ what: String, _ found: Int, _ expected: String)
            throws(NNError)
        {
            guard isValid else {
                throw NNError(.model, "layer \(layer): \(what) is \(found), expected \(expected)")
            }
        }
        try require(1...Self.sideMaximum ~= kernel, "kernel", kernel, "1 to \(Self.sideMaximum)")
        try require(1...Self.sideMaximum ~= stride, "stride", stride, "1 to \(Self.sideMaximum)")
        try require(0...Self.sideMaximum ~= padding, "padding", padding, "0 to \(Self.sideMaximum)")
        let least = min(input.height, input.width) + 2 * padding
        guard kernel <= least else {
            throw NNError(
                .model,
                "layer \(layer): a kernel of \(kernel) does not fit its input of \(input) with padding "
                    + "\(padding); found \(kernel), expected at most \(least)")
        }
        return (
            (input.height + 2 * padding - kernel) / stride + 1,
            (input.width + 2 * padding - kernel) / stride + 1
        )
    }

    /// - Throws: `.model` when a pooling's window could lie in the padding alone.
    func checkPoolingPadding(layer: String) throws(NNError) {
        guard padding <= kernel / 2 else {
            throw NNError(
                .model,
                "layer \(layer): padding is \(padding), expected at most half the kernel of \(kernel), as "
                    + "PyTorch demands")
        }
    }

    /// Larger sides are a mistake in a job file, and would overflow sums.
    private static let sideMaximum = 1 << 20

    var strides: [Int64] { [Int64(stride), Int64(stride)] }
    var kernels: [Int64] { [Int64(kernel), Int64(kernel)] }
    var paddings: [Int64] { [Int64(padding), Int64(padding)] }
}
