import ArgumentParser
import CGeePSShims
import GeePSCore
import GeePSDevice
import GeePSNN
import Glibc

/// `geeps doctor`.
struct DoctorCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "doctor",
        abstract:
            "Says what this machine has for training: processor, GPUs, libraries, links; and who launched this.",
        discussion: """
            What is missing comes with how to get it. On a GPU it measures the link both ways, which takes a second.

            EXAMPLES
              geeps doctor
              geeps doctor --json | jq '.gpus[].name'
              geeps doctor --require cuda && geeps train job.yaml --set memory.device=cuda
            """)

    @Option(
        help: ArgumentHelp(
            "Fails with 69 unless this can be trained on: host or cuda.", valueName: "device"))
    var require: String?

    @Flag(help: "Prints one JSON object.")
    var json = false

    func validate() throws {
        guard let require, !["host", "cuda"].contains(require) else { return }
        throw ValidationError("--require is \(require), expected host or cuda")
    }

    func run() throws {
        let findings = DoctorFindings()
        writeOutput(json ? findings.json.text + "\n" : findings.text)
        guard require == "cuda", let missing = findings.missingForCUDA else { return }
        throw CLIError(.unavailable, missing)
    }
}

/// What a machine has.
struct DoctorFindings {
    /// A library: where it is, or what is missing.
    struct Library {
        var name: String
        var path: String?
        var problem: String?
    }

    /// A GPU.
    struct GPU {
        var properties: CUDAProperties
        var freeBytes: Int?
        /// Gigabytes a second to the device, from it, and the sum of both at once; nil where not measured.
        var link: (toDevice: Double, toHost: Double, both: Double)?
        var problem: String?
    }

    var cpu = LayerTimes.cpuOfThisMachine
    var cores = Int(geeps_available_cores())
    var memoryBytes = sysconf(Int32(_SC_PHYS_PAGES)) * sysconf(Int32(_SC_PAGESIZE))
    var instructionSet = Kernels.instructionSet
    var driverVersion: String?
    var driverProblem: String?
    var gpus: [GPU] = []
    var libraries: [Library]
    var kernelDirectories = KernelCache.standard.directories
    var launch = DoctorLaunch(environment: processEnvironment())
    var network = DoctorNetwork()

    init() {
        libraries = CUDALibrary.allCases.map { library in
            do throws(DeviceError) {
                return Library(name: library.name, path: try library.open().path)
            } catch {
                return Library(name: library.name, problem: error.message)
            }
        }
        do throws(DeviceError) {
            let driver = try CUDADriver.load()
            let count = try driver.initialise()
            driverVersion = CUDADriver.versionText(try driver.version())
            for ordinal in 0..<count { gpus.append(try Self.gpu(ordinal, driver)) }
        } catch {
            driverProblem = error.message
        }
    }

    private static func gpu(_ ordinal: Int, _ driver: CUDADriver) throws(DeviceError) -> GPU {
        var gpu = GPU(properties: try CUDAProperties(driver: driver, ordinal: ordinal))
        do throws(DeviceError) {
            let device = try CUDADevice(driver: driver, ordinal: ordinal, limitBytes: 256 << 20)
            gpu.freeBytes = try device.freeBytes()
            gpu.link = try LinkMeasurement(device).run()
        } catch {
            gpu.problem = error.message
        }
        return gpu
    }

    /// What stands in the way of training on a GPU; nil when nothing does.
    var missingForCUDA: String? {
        driverProblem ?? gpus.compactMap(\.problem).first
            ?? libraries.first { $0.problem != nil && $0.name != CUDALibrary.nvrtc.name }?.problem
    }

    var text: String {
        var lines =
            launch.lines + [
                "host",
                "  processor      \(cpu), \(cores) core\(cores == 1 ? "" : "s"), kernels \(instructionSet)",
                "  memory         \(Text.bytes(UInt64(max(0, memoryBytes))))",
                "gpu",
            ]
        if let driverProblem { lines.append("  ✗ \(driverProblem)") }
        if let driverVersion { lines.append("  ✓ driver for CUDA \(driverVersion)") }
        for gpu in gpus {
            let properties = gpu.properties
            let free = gpu.freeBytes.map { ", \(Text.bytes(UInt64($0))) free" } ?? ""
            lines.append(
                "  ✓ cuda:\(properties.ordinal)  \(properties.name), capability "
                    + "\(properties.capability), \(Text.bytes(UInt64(properties.totalBytes)))\(free), "
                    + "bus \(properties.pciBusID)")
            if let link = gpu.link {
                lines.append(
                    "    link  \(Text.fixed(link.toDevice, 1)) GB/s in, \(Text.fixed(link.toHost, 1)) "
                        + "out, \(Text.fixed(link.both, 1)) both at once")
            }
            if let problem = gpu.problem { lines.append("  ✗ \(problem)") }
        }
        lines += network.lines
        lines.append("libraries of NVIDIA's")
        for library in libraries {
            if let path = library.path { lines.append("  ✓ \(library.name)  \(path)") }
            if let problem = library.problem { lines.append("  ✗ \(problem)") }
        }
        lines += ["kernels are kept in"] + kernelDirectories.map { "  \($0)" }
        return lines.joined(separator: "\n") + "\n"
    }

    var json: JSONValue {
        .object([
            "schema": .string("geeps.doctor/1"), "launch": launch.json, "cpu": .string(cpu),
            "cores": .integer(Int64(cores)), "memory_bytes": .integer(Int64(memoryBytes)),
            "instruction_set": .string(instructionSet),
            "driver_cuda_version": driverVersion.map { .string($0) } ?? .null,
            "driver_problem": driverProblem.map { .string($0) } ?? .null,
            "network": network.json, "gpus": .array(gpus.map(Self.json)),
            "libraries": .array(
                libraries.map { library in
                    .object([
                        "name": .string(library.name),
                        "path": library.path.map { .string($0) } ?? .null,
                        "problem": library.problem.map { .string($0) } ?? .null,
                    ])
                }),
            "kernel_directories": .array(kernelDirectories.map { .string($0) }),
        ])
    }

    private static func json(_ gpu: GPU) -> JSONValue {
        let properties = gpu.properties
        return .object([
            "ordinal": .integer(Int64(properties.ordinal)), "name": .string(properties.name),
            "capability": .string("\(properties.capability)"),
            "memory_bytes": .integer(Int64(properties.totalBytes)),
            "free_bytes": gpu.freeBytes.map { .integer(Int64($0)) } ?? .null,
            "multiprocessors": .integer(Int64(properties.multiprocessors)),
            "copy_engines": .integer(Int64(properties.copyEngines)),
            "pci_bus": .string(properties.pciBusID),
            "link_gb_per_s": gpu.link.map { link in
                .object([
                    "to_device": .number(link.toDevice), "to_host": .number(link.toHost),
                    "both": .number(link.both),
                ])
            } ?? .null, "problem": gpu.problem.map { .string($0) } ?? .null,
        ])
    }
}

/// How fast pinned memory is copied between host and device.
struct LinkMeasurement {
    private let device: any Device
    private static let byteCount = 64 << 20

    init(_ device: any Device) { self.device = device }

    /// Gigabytes a second each way, and the sum of both ways at once.
    func run() throws(DeviceError) -> (toDevice: Double, toHost: Double, both: Double) {
        let bytes = Self.byteCount
        let host = try device.allocateHost(
            byteCount: 2 * bytes, for: .localData, preferPinned: true)
        let memory = try device.allocate(byteCount: 2 * bytes, for: .localData)
        let (into, out) = (
            try device.makeStream(name: "in"), try device.makeStream(name: "out")
        )
        defer {
            into.close()
            out.close()
        }
        let (hostStart, deviceStart) = (host.address, memory.address)
        let copyIn = {
            into.copy(
                from: hostStart, to: deviceStart, byteCount: bytes, direction: .hostToDevice)
        }
        let copyOut = {
            out.copy(
                from: deviceStart + bytes, to: hostStart + bytes, byteCount: bytes,
                direction: .deviceToHost)
        }
        func speed(_ copies: [() -> Void]) throws(DeviceError) -> Double {
            var best = 0.0
            for _ in 0..<4 {
                let start = monotonicNanoseconds()
                for copy in copies { copy() }
                try into.synchronise(deadline: .after(.seconds(30)))
                try out.synchronise(deadline: .after(.seconds(30)))
                let nanoseconds = Double(monotonicNanoseconds() - start)
                best = max(best, Double(bytes * copies.count) / nanoseconds)
            }
            return best
        }
        return (try speed([copyIn]), try speed([copyOut]), try speed([copyIn, copyOut]))
    }
}
