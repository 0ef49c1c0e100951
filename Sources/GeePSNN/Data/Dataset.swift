/// Labelled samples that can be had in any order, from any thread.
public protocol Dataset: Sendable {
    /// For messages: a file's path, or what the data is made of.
    var name: String { get }
    /// Samples.
    var count: Int { get }
    /// Of one sample.
    var shape: Shape { get }
    /// Labels are below this.
    var classCount: Int { get }

    /// Writes samples of a batch.
    ///
    /// - Parameters:
    ///   - indices: which samples, each below `count`.
    ///   - images: `[indices.count, C, H, W]`, channels first, overwritten.
    ///   - labels: `[indices.count]`, overwritten.
    func fill(
        _ indices: [Int], images: UnsafeMutablePointer<Float>, labels: UnsafeMutablePointer<Int32>)
}

/// Images with 8 bits a value, in memory; a value v becomes v / 255.
public struct ByteImages: Dataset {
    /// Where they come from.
    public let name: String
    /// Of one image.
    public let shape: Shape
    /// Labels are below this.
    public let classCount: Int
    /// `[count, C, H, W]`.
    let pixels: [UInt8]
    /// `[count]`, each below `classCount`.
    let labels: [UInt8]

    /// Images.
    public var count: Int { labels.count }

    /// Writes samples of a batch.
    public func fill(
        _ indices: [Int], images: UnsafeMutablePointer<Float>, labels: UnsafeMutablePointer<Int32>
    ) {
        let size = shape.count
        pixels.withUnsafeBufferPointer { pixels in
            for (position, index) in indices.enumerated() {
                precondition(
                    0..<count ~= index, "sample \(index) of \(name) does not exist: it has \(count)"
                )
                let target = images + position * size
                // Divided, not multiplied by 1 / 255: the last bit is PyTorch's ToTensor.
                for i in 0..<size { target[i] = Float(pixels[index * size + i]) / 255 }
                labels[position] = Int32(self.labels[index])
            }
        }
    }
}

/// Which half of a data set with fixed halves.
public enum DataSplit: String, Hashable, Sendable, CaseIterable {
    case train
    case test
}
