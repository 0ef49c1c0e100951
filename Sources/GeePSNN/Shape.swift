/// Size of one sample: channels, height and width.
///
/// A flat vector of n values is `n x 1 x 1`.
public struct Shape: Hashable, Sendable, CustomStringConvertible {
    /// Channels, or values of a flat vector.
    public var channels: Int
    /// Rows.
    public var height: Int
    /// Columns.
    public var width: Int

    /// A sample of `channels` planes of `height` rows of `width` values.
    public init(channels: Int, height: Int = 1, width: Int = 1) {
        self.channels = channels
        self.height = height
        self.width = width
    }

    /// Values in a sample.
    public var count: Int { channels * height * width }

    /// The same values in one row, C, H, W order.
    public var flattened: Shape { Shape(channels: count) }

    /// `channels x height x width`.
    public var description: String { "\(channels) x \(height) x \(width)" }

    /// Whether channels-first and channels-last are the same order of values.
    var isOrderFree: Bool { channels == 1 || height * width == 1 }
}

/// Order of the values of a batch `[B, C, H, W]` in memory.
enum Layout: Hashable, Sendable {
    /// B, C, H, W: what data sets fill, what linear layers flatten, PyTorch's default.
    case channelsFirst
    /// B, H, W, C: what convolutions and poolings compute in, because it is faster.
    case channelsLast
}
