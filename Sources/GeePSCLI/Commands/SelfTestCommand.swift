import ArgumentParser
import GeePSCore
import GeePSDevice
import GeePSNN
import Glibc

/// `geeps selftest`.
struct SelfTestCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "selftest",
        abstract: "Tests a device: copies, kernels, order, layers, managed memory, training.",
        discussion: """
            Needs no data, no toolchain and a few seconds. Everything a device computes is compared with plain loops \
            or with the host; a GPU's results may differ from the host's by 1e-4 of the largest.

            EXAMPLES
              geeps selftest
              geeps selftest --device cuda
              geeps selftest --device cuda:1 --json | jq '.failed'
            """)

    @Option(help: ArgumentHelp("The device: host, auto, cuda or cuda:N.", valueName: "device"))
    var device = "host"

    @Flag(help: "Prints one JSON object instead of a line a test.")
    var json = false

    func run() throws {
        let choice = try DeviceChoice(parsing: device)
        let bench = try BenchDevice(choice, source: .system)
        if !json { writeOutput("\(bench.name)\n") }
        let outcomes = SelfTest.run(on: bench.selfTest) { outcome in
            guard !json else { return }
            let mark = outcome.failure == nil ? "ok    " : "FAILED"
            let time = Text.duration(outcome.nanoseconds)
            writeOutput("  \(mark) \(outcome.suite): \(outcome.name) (\(time))\n")
            if let failure = outcome.failure { writeOutput("         \(failure)\n") }
        }
        let failed = outcomes.count { $0.failure != nil }
        if json {
            writeOutput(Self.json(outcomes, on: bench.name).text + "\n")
        } else {
            writeOutput(
                failed == 0
                    ? "all \(outcomes.count) passed\n" : "\(failed) of \(outcomes.count) FAILED\n")
        }
        if failed > 0 { throw SupervisedExit(code: 1) }
    }

    private static func json(_ outcomes: [SelfTest.Outcome], on device: String) -> JSONValue {
        .object([
            "schema": .string("geeps.selftest/1"), "device": .string(device),
            "tests": .integer(Int64(outcomes.count)),
            "failed": .integer(Int64(outcomes.count { $0.failure != nil })),
            "outcomes": .array(
                outcomes.map { outcome in
                    .object([
                        "suite": .string(outcome.suite), "name": .string(outcome.name),
                        "seconds": .number(Double(outcome.nanoseconds) / 1e9),
                        "failure": outcome.failure.map { .string($0) } ?? .null,
                    ])
                }),
        ])
    }
}

/// A device that is tested or measured by itself.
struct BenchDevice {
    /// "host", "cuda:0, NVIDIA H200".
    let name: String
    let device: any Device
    let selfTest: SelfTestBench

    /// - Throws: what is missing and how to get it.
    init(_ choice: DeviceChoice, source: CUDASource) throws {
        guard let gpu = try Self.gpu(choice, source) else {
            selfTest = SelfTestBench()
            device = selfTest.device
            name = "host"
            return
        }
        let compute = try source.compute(try gpu.makeCUDAStream(name: "compute"), .float32)
        selfTest = SelfTestBench(gpu, compute)
        device = gpu
        name = "\(gpu.name), \(gpu.properties.name)"
    }

    /// The GPU of `choice` with memory for tests; nil for the host.
    static func gpu(_ choice: DeviceChoice, _ source: CUDASource) throws -> CUDADevice? {
        if choice == .host { return nil }
        let driver: CUDADriver
        let count: Int
        do throws(DeviceError) {
            driver = try source.driver()
            count = try driver.initialise()
        } catch {
            if choice == .auto, error.code == .unavailable { return nil }
            throw error
        }
        guard let ordinal = choice.ordinal(localRank: 0, deviceCount: count) else { return nil }
        return try CUDADevice(
            driver: driver, ordinal: ordinal, limitBytes: memoryBytes, kernels: source.kernels())
    }

    /// What tests and measurements take of a GPU.
    private static let memoryBytes = 1 << 30
}
