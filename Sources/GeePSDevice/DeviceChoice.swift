/// Which device a process is to use, as an operator says it: `host`, `auto`, `cuda` or `cuda:N`.
public enum DeviceChoice: Hashable, Sendable, CustomStringConvertible {
    /// The host's memory and cores.
    case host
    /// A GPU if there is one, else the host.
    case auto
    /// An NVIDIA GPU by its number among those the driver shows; nil: by the process's place on its host.
    case cuda(ordinal: Int?)

    /// What is read.
    public static let expected = "host, auto, cuda, or cuda:N as in cuda:0"

    /// Reads `text`.
    ///
    /// - Throws: `.invalid`, with what would do.
    public init(parsing text: String) throws(DeviceError) {
        switch text {
        case "host": self = .host
        case "auto": self = .auto
        case "cuda": self = .cuda(ordinal: nil)
        default:
            let digits = text.dropFirst("cuda:".count)
            guard text.hasPrefix("cuda:"), !digits.isEmpty, digits.allSatisfy(\.isASCIIDigit),
                let ordinal = Int(digits)
            else {
                throw DeviceError(
                    .invalid, "got device \"\(text)\", expected \(Self.expected)")
            }
            self = .cuda(ordinal: ordinal)
        }
    }

    /// As it is parsed.
    public var description: String {
        switch self {
        case .host: "host"
        case .auto: "auto"
        case .cuda(nil): "cuda"
        case .cuda(let ordinal?): "cuda:\(ordinal)"
        }
    }

    /// The GPU's number; nil for the host.
    ///
    /// Without a number in the choice, processes of one host take GPUs in turn. `CUDA_VISIBLE_DEVICES` has
    /// been applied by the driver: numbers count what it shows.
    ///
    /// - Parameters:
    ///   - localRank: the process's number among those of this host.
    ///   - deviceCount: GPUs the driver shows, `CUDADriver.initialise()`.
    public func ordinal(localRank: Int, deviceCount: Int) -> Int? {
        precondition(
            localRank >= 0 && deviceCount > 0,
            "a place needs a rank and devices, got rank \(localRank) and \(deviceCount) devices")
        switch self {
        case .host: return nil
        case .auto: return localRank % deviceCount
        case .cuda(let ordinal): return ordinal ?? localRank % deviceCount
        }
    }
}

extension Character {
    fileprivate var isASCIIDigit: Bool { isASCII && isNumber }
}
