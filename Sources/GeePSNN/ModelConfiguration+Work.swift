extension ModelConfiguration {
    /// Multiply-adds that one sample takes forward: the connections of the paper's "connections per second".
    ///
    /// Counts linear and convolution layers; the others are small beside them. Layers whose window does not
    /// fit count as zero: building the network refuses them.
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
            case .relu, .tanh, .sigmoid, .dropout, .localResponseNormalisation,
                .batchNormalisation:
                break
            }
        }
        return sum
    }
}

extension Shape {
    /// What a square window leaves of the plane, rounded down.
    fileprivate func sliding(_ kernel: Int, _ stride: Int, _ padding: Int, channels: Int) -> Shape {
        func steps(_ size: Int) -> Int { max(0, (size + 2 * padding - kernel) / stride + 1) }
        return Shape(channels: channels, height: steps(height), width: steps(width))
    }
}
