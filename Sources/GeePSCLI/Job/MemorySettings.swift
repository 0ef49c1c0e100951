import GeePSDevice
import GeePSMemory

/// How a job wants device memory managed.
struct MemorySettings: Hashable, Sendable {
    /// Where layers compute and whose memory is managed.
    var device = DeviceChoice.host
    /// Device memory for everything; nil for as much as is of use.
    var budget: MemoryBudget?
    /// How to choose what stays.
    var policy = PlanPolicy.benefit
    /// Rows live on the host and the worker's own thread copies them: a CPU-side parameter server.
    var isCPUSide = false
    /// Host memory that is copied from and to is pinned, while there is some.
    var pinnedHost = true
    /// Most bytes of pinned host memory; nil for no limit of our own.
    var pinnedLimitBytes: Int?
    /// Speed of copies between host and device, each way; on the host device it is emulated.
    var linkBytesPerSecond: Double?
}

/// A speed as a person gives it: "12GB/s", "500MB/s", "6GiB/s".
enum LinkSpeed {
    static let expected = "a speed such as 12GB/s or 500MB/s"

    /// Bytes a second; nil for what is no speed above zero.
    static func bytesPerSecond(_ text: String) -> Double? {
        guard text.hasSuffix("/s"),
            case .bytes(let bytes)? = MemoryBudget(String(text.dropLast(2))),
            bytes > 0
        else { return nil }
        return Double(bytes)
    }

    /// The text that `bytesPerSecond` reads back.
    static func text(_ bytesPerSecond: Double) -> String { "\(Int(bytesPerSecond))B/s" }
}
