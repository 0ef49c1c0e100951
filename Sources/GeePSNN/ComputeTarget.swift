public import GeePSDevice

/// How a GPU multiplies.
public enum ComputePrecision: String, Hashable, Sendable, CaseIterable {
    /// As it is written.
    case float32
    /// Factors rounded to 10 bits, sums in float32: tensor cores from compute capability 8.0.
    case tf32
    /// Factors of linear layers rounded to bfloat16, sums in float32; convolutions compute in tf32.
    case bf16
}

/// Where the layers of a network compute.
public enum ComputeTarget: Sendable {
    /// On the calling thread, with oneDNN.
    case host
    /// On a stream of a GPU, with cuDNN and cuBLAS.
    case cuda(CUDACompute)

    /// Where layers put their work; nil where they do it themselves.
    public var stream: (any DeviceStream)? {
        switch self {
        case .host: nil
        case .cuda(let compute): compute.stream
        }
    }

    /// The order of values in which convolutions and poolings are fastest.
    var imageLayout: Layout {
        switch self {
        case .host: .channelsLast
        case .cuda: .channelsFirst
        }
    }
}
