import ArgumentParser
import GeePSCore
import GeePSTransport

/// `geeps bench`.
struct BenchCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "bench",
        abstract:
            "Measures this machine: transports, kernels, layers, and the parameter server itself.",
        discussion: """
            Each command but layers, device and overhead prints one JSON object. Times are medians in milliseconds. Machines that are \
            shared are noisy: compare runs made in turn, and their ratios (make bench does).

            EXAMPLES
              geeps bench exchange --bytes 4200000 --transport tcp
              geeps bench exchange --bytes 67000000 --workers 2 --transport shared-memory
              geeps bench step --batch 32 --workers 2
              geeps bench overhead Examples/digits.yaml
              geeps bench memory --budget 35%
              geeps bench layers Examples/digits.yaml
              geeps bench kernels
              geeps bench device --device cuda
              geeps bench net
            """,
        subcommands: [
            ExchangeBench.self, SparseBench.self, StepBench.self, OverheadBench.self,
            MemoryBench.self, LayerBench.self, KernelBench.self, DeviceBench.self, NetBench.self,
        ])
}

/// Carriers by the names that job files use.
enum CarrierName: String, ExpressibleByArgument, CaseIterable {
    case auto
    case tcp
    case sharedMemory = "shared-memory"
    case unixSocket = "unix-socket"
    case ucx

    var choice: CarrierChoice {
        switch self {
        case .auto: .auto
        case .tcp: .fixed(.tcp)
        case .sharedMemory: .fixed(.sharedMemory)
        case .unixSocket: .fixed(.unixSocket)
        case .ucx: .fixed(.ucx)
        }
    }
}

/// Update rules that are measured.
enum BenchRule: String, ExpressibleByArgument, CaseIterable {
    case add
    case sgd
    case adamw

    var configuration: OptimizerConfiguration {
        switch self {
        case .add: OptimizerConfiguration(rule: .add, learningRate: 0, reduction: .sum)
        case .sgd:
            OptimizerConfiguration(
                rule: .sgd(momentum: 0.9, dampening: 0, nesterov: false), learningRate: 0.01)
        case .adamw:
            OptimizerConfiguration(
                rule: .adamW(beta1: 0.9, beta2: 0.999, epsilon: 1e-8), learningRate: 1e-3,
                weightDecay: 0.01)
        }
    }
}

/// Durations of a thing done many times.
struct Stopwatch {
    private(set) var milliseconds: [Double] = []

    mutating func add(_ nanoseconds: UInt64) { milliseconds.append(Double(nanoseconds) / 1e6) }

    mutating func time<R>(_ measure: () throws -> R) rethrows -> R {
        let start = monotonicNanoseconds()
        defer { add(monotonicNanoseconds() - start) }
        return try measure()
    }

    /// The middle value; of an even number the upper of the two.
    var median: Double {
        milliseconds.isEmpty ? .nan : milliseconds.sorted()[milliseconds.count / 2]
    }

    var least: Double { milliseconds.min() ?? .nan }

    var json: JSONValue {
        .object([
            "median_ms": .number(median), "min_ms": .number(least),
            "runs": .integer(Int64(milliseconds.count)),
        ])
    }
}

extension Launch {
    /// The place of this process in a benchmark of `processes`; nil where they are still to be started, which
    /// is done then.
    static func ofBenchmark(processes: Int) throws -> Launch? {
        let environment = processEnvironment()
        if let launch = try LaunchEnvironment.launch(from: environment) { return launch }
        if processes == 1 { return .alone }
        try LocalLaunch.run(processes: processes, port: 0, environment: environment)
        return nil
    }
}
