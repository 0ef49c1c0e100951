import CGeePSShims
import GeePSNN

/// How long each step of a network takes on this machine, as `geeps bench layers` measures it.
struct LayerTimes: Hashable, Sendable {
    /// A step of `Network.steps`.
    struct Step: Hashable, Sendable {
        /// As `Network.name(of:)` says: "conv1 forward".
        var name: String
        var nanoseconds: UInt64
    }

    /// Name of the file format.
    static let schema = "geeps.layers/1"
    /// Three hours for one step: sums over all steps of many mini-batches stay far from overflow.
    static let nanosecondsMaximum: UInt64 = 10_800_000_000_000

    /// Of the network that was measured.
    var fingerprint: String
    /// Samples in a batch.
    var batchSize: Int
    /// Threads that computed.
    var threads: Int
    /// What computed, for people.
    var cpu: String
    /// In the order of `Network.steps`.
    var steps: [Step]

    /// Sixteen hexadecimal digits that differ when names or order of steps, batch size, parameters or tensors do.
    ///
    /// Scratch memory is left out: it depends on the number of threads.
    static func fingerprint(of network: Network) -> String {
        var hash = FNV1a()
        hash.add(network.batchSize)
        for step in network.steps { hash.add(network.name(of: step)) }
        for parameters in network.parameters {
            hash.add(parameters.name)
            hash.add(parameters.valueCount)
        }
        for tensor in network.tensors where tensor.role != .scratch { hash.add(tensor.byteCount) }
        return hash.text
    }

    /// Whether it is `network` that was measured.
    func matches(_ network: Network) -> Bool {
        steps.count == network.steps.count
            && zip(steps, network.steps).allSatisfy { $0.name == network.name(of: $1) }
            && fingerprint == Self.fingerprint(of: network)
    }

    /// Times of `network.steps`, in order; `network` must match.
    func nanoseconds(for network: Network) -> [UInt64] {
        precondition(
            matches(network),
            "times of network \(fingerprint), batch \(batchSize), are not those of network "
                + "\(Self.fingerprint(of: network)), batch \(network.batchSize)")
        return steps.map(\.nanoseconds)
    }

    /// What computes here: the processor's name, or nothing known.
    static var cpuOfThisMachine: String {
        let text = (try? readTextFile("/proc/cpuinfo", what: "processors")) ?? ""
        let line = text.split(separator: "\n").first { $0.hasPrefix("model name") }
        let name = line?.split(separator: ":", maxSplits: 1).last ?? "unknown"
        return String(name.drop { $0 == " " })
    }

    /// Threads that compute in this process.
    static var threadsOfThisProcess: Int {
        ComputeThreads.current ?? Int(geeps_available_cores())
    }
}

/// The hash of Fowler, Noll and Vo with 64 bits: the same in every process, unlike `Hasher`.
private struct FNV1a {
    private var value: UInt64 = 0xCBF2_9CE4_8422_2325

    mutating func add(_ byte: UInt8) { value = (value ^ UInt64(byte)) &* 0x100_0000_01B3 }

    mutating func add(_ number: Int) {
        for shift in stride(from: 0, to: 64, by: 8) {
            add(UInt8(truncatingIfNeeded: number >> shift))
        }
    }

    /// The length ends it, so that neighbours do not run together.
    mutating func add(_ text: String) {
        for byte in text.utf8 { add(byte) }
        add(text.utf8.count)
    }

    var text: String {
        let digits = String(value, radix: 16)
        return String(repeating: "0", count: 16 - digits.count) + digits
    }
}
