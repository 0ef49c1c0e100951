extension ModelConfiguration {
    /// Multiply-adds that one sample takes forward: the connections of the paper's "connections per second".
    ///
    /// Counts linear, convolution and recurrent layers; the others are small beside them. Layers whose window does
    /// not fit count as zero: building the network refuses them.
    public func multiplyAdds(input: Shape) -> Int {
        var shape = input
        var sum = 0
        for layer in layers {
            switch layer.kind {
            case .linear(let out):
                sum += shape.count * out
                shape = Shape(channels: out)
            case .convolution(let out, let kernel, let stride, let padding):
                let next = shape.sliding(kernel, stride, padding, channels: out)
                sum += next.count * shape.channels * kernel * kernel
                shape = next
            case .maxPooling(let kernel, let stride, let padding),
                .averagePooling(let kernel, let stride, let padding):
                shape = shape.sliding(kernel, stride, padding, channels: shape.channels)
            case .flatten: shape = shape.flattened
            case .lstm(let out, let steps, let keeps):
                // Before the first step there is nothing to multiply.
                sum += 4 * out * (shape.count + max(0, steps - 1) * out)
                shape = keeps.shape(steps: steps, width: out)
            case .relu, .tanh, .sigmoid, .dropout, .localResponseNormalisation,
                .batchNormalisation:
                break
            }
        }
        return sum
    }
}

extension KeptSteps {
    /// What a sample of `steps` steps of `width` values leaves.
    func shape(steps: Int, width: Int) -> Shape {
        switch self {
        case .last: Shape(channels: width)
        case .all: Shape(channels: steps, width: width)
        }
    }
}

extension Shape {
    /// What a square window leaves of the plane, rounded down.
    fileprivate func sliding(_ kernel: Int, _ stride: Int, _ padding: Int, channels: Int) -> Shape {
        func steps(_ size: Int) -> Int { max(0, (size + 2 * padding - kernel) / stride + 1) }
        return Shape(channels: channels, height: steps(height), width: steps(width))
    }
}
