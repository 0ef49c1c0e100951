import ArgumentParser
import GeePSCore
import GeePSDevice
import GeePSNN

/// `geeps bench layers`.
struct LayerBench: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "layers",
        abstract: "Times every layer of a job's network, forward and backward.",
        discussion: """
            Runs iterations on plain memory, without parameter server and without the job's data. The \
            medians go into a file beside the job, where geeps plan and geeps train find them: with them \
            and a link the planner knows what a copy costs and what computing again costs.

            It computes with as many threads as each of the job's workers will have on this machine; \
            OMP_NUM_THREADS says otherwise. On a GPU it measures by the GPU's own clock.

            EXAMPLES
              geeps bench layers Examples/digits.yaml
              geeps bench layers job.yaml --runs 50 --output /tmp/job.layers.json
              geeps bench layers job.yaml --set data.batch_size=64 --json | jq .steps
              geeps bench layers job.yaml --set memory.device=cuda
              OMP_NUM_THREADS=4 geeps bench layers job.yaml
            """)

    @Argument(help: "The job file.", completion: .file(extensions: ["yaml", "yml"]))
    var job: String

    @Option(help: "Iterations; the median of each step counts.")
    var runs = 20

    @Option(
        help: ArgumentHelp(
            "Where the times go; without it, beside the job: job.layers.json of job.yaml.",
            valueName: "path"),
        completion: .file(extensions: ["json"]))
    var output: String?

    @Option(
        name: .customLong("set"), parsing: .singleValue,
        help: ArgumentHelp(
            "Puts a value in place of the job file's; list elements by position.",
            valueName: "key.path=value"))
    var assignments: [String] = []

    @Flag(help: "Prints the file's JSON object instead of a table.")
    var json = false

    func validate() throws {
        guard 1...100_000 ~= runs else {
            throw ValidationError("--runs is \(runs), expected an integer from 1 to 100000")
        }
    }

    func run() throws {
        let loader = JobLoader(
            file: job, assignments: assignments, workers: nil, defaultWorkers: 1, checksPaths: false
        )
        let job = try loader.load()
        let device = try JobDevice(job, launch: .alone, source: .system) { warning in
            writeError("geeps: \(warning)\n")
        }
        let network = try PlanCommand.network(of: job, on: device.target)
        let times = try measure(network, on: device)
        let path = output ?? LayerTimes.path(besideJob: self.job)
        try times.write(to: path)
        if json { return writeOutput(times.json.text + "\n") }
        let name = self.job.split(separator: "/").last.map(String.init) ?? self.job
        writeOutput(LayerTable(times, of: network).text(title: name, runs: runs))
        writeOutput("\nwritten to \(path)\n")
    }

    private func measure(_ network: Network, on device: JobDevice) throws -> LayerTimes {
        guard let stream = network.target.stream, let timer = stream.makeTimer() else {
            return try LayerMeasurement(network).times(runs: runs)
        }
        let memory = try DeviceNetworkMemory(network, on: device.beside(for: network))
        let name = device.description ?? "GPU"
        return try StreamLayerMeasurement(network, memory, stream, timer).times(
            runs: runs, deviceName: name)
    }
}

/// The numbers that are computed with instead of data.
struct LayerBatch {
    let images: [Float]
    let labels: [Int32]

    /// A fixed sequence below 1 in magnitude: Knuth's multiplier spreads it.
    init(of network: Network) {
        images = (0..<(network.batchSize * network.input.count)).map { index in
            Float(Int32(truncatingIfNeeded: index &* 2_654_435_761)) / 0x1p31
        }
        labels = (0..<network.batchSize).map { Int32($0 % network.classCount) }
    }
}

extension LayerTimes {
    /// The medians of steps that `time` measures in turn, after an iteration that does not count.
    init<E: Error>(
        of network: Network, runs: Int, threads: Int, computedBy name: String,
        _ time: (NetworkStep) throws(E) -> UInt64
    ) throws(E) {
        var samples = network.steps.map { _ in [UInt64]() }
        for run in 0...runs {
            for (index, step) in network.steps.enumerated() {
                let time = try time(step)
                if run > 0 { samples[index].append(time) }
            }
        }
        self.init(
            fingerprint: LayerTimes.fingerprint(of: network), batchSize: network.batchSize,
            threads: threads, cpu: name,
            steps: zip(network.steps, samples).map { step, samples in
                let median = samples.sorted()[samples.count / 2]
                return .init(
                    name: network.name(of: step),
                    nanoseconds: min(median, LayerTimes.nanosecondsMaximum))
            })
    }
}

/// A network in the memory of a stream's device, measured step by step by the device's clock.
struct StreamLayerMeasurement {
    private let network: Network
    private let memory: DeviceNetworkMemory
    private let stream: any DeviceStream
    private let timer: any StreamTimer

    init(
        _ network: Network, _ memory: DeviceNetworkMemory, _ stream: any DeviceStream,
        _ timer: any StreamTimer
    ) {
        self.network = network
        self.memory = memory
        self.stream = stream
        self.timer = timer
    }

    /// The median time of every step.
    func times(runs: Int, deviceName: String) throws -> LayerTimes {
        try memory.write(
            parameters: network.parameters.map { parameters in
                var values = [Float](repeating: 0, count: parameters.valueCount)
                values.withUnsafeMutableBufferPointer { buffer in
                    guard let start = buffer.baseAddress else { return }
                    Initializer.fill(start, for: parameters, seed: 1)
                }
                return values
            })
        let batch = LayerBatch(of: network)
        return try LayerTimes(of: network, runs: runs, threads: 1, computedBy: deviceName) { step in
            // Copies of data are the planner's to count.
            if step.kind == .load {
                try memory.write(
                    tensor: network.inputTensor, batch.images.withUnsafeBytes { Array($0) })
                try memory.write(
                    tensor: network.labelsTensor, batch.labels.withUnsafeBytes { Array($0) })
                return 0
            }
            timer.start()
            try memory.run(step, noise: NoiseKey(seed: 1))
            timer.stop()
            try stream.synchronise()
            return timer.takeNanoseconds()
        }
    }
}

/// A network on plain memory, with parameters as training starts from and numbers instead of data.
final class LayerMeasurement {
    private let network: Network
    private let memory: NetworkMemory
    private let batch: LayerBatch
    /// By parameter.
    private var values: [UnsafeMutablePointer<Float>] = []
    private var gradients: [UnsafeMutablePointer<Float>] = []

    init(_ network: Network) {
        self.network = network
        memory = NetworkMemory(network)
        batch = LayerBatch(of: network)
        for parameters in network.parameters {
            let value = Self.zeros(parameters.valueCount)
            Initializer.fill(value, for: parameters, seed: 1)
            values.append(value)
            gradients.append(Self.zeros(parameters.valueCount))
        }
    }

    deinit { for pointer in values + gradients { pointer.deallocate() } }

    /// The median time of every step, after an iteration that does not count.
    func times(runs: Int) throws(NNError) -> LayerTimes {
        try LayerTimes(
            of: network, runs: runs, threads: LayerTimes.threadsOfThisProcess,
            computedBy: LayerTimes.cpuOfThisMachine, time)
    }

    private func time(_ step: NetworkStep) throws(NNError) -> UInt64 {
        let start = monotonicNanoseconds()
        if step.kind == .load {
            _ = memory.input.update(fromContentsOf: batch.images)
            _ = memory.labels.update(fromContentsOf: batch.labels)
        } else {
            var lent = StepMemory(tensors: memory.tensors, noise: NoiseKey(seed: 1))
            lent.parameters = step.parametersRead.map { UnsafePointer(values[$0]) }
            lent.parameterGradients = step.parametersUpdated.map { gradients[$0] }
            _ = try network.run(step, lent)
        }
        return monotonicNanoseconds() - start
    }

    private static func zeros(_ count: Int) -> UnsafeMutablePointer<Float> {
        let memory = UnsafeMutableRawPointer.allocate(
            byteCount: count * 4, alignment: LocalTensor.alignment
        ).bindMemory(to: Float.self, capacity: count)
        memory.initialize(repeating: 0, count: count)
        return memory
    }
}

/// Times of a network, a row a layer.
struct LayerTable {
    private struct Row {
        var name: String
        var forward: UInt64?
        var backward: UInt64?
        var sum: UInt64 { (forward ?? 0) + (backward ?? 0) }
    }

    private let times: LayerTimes
    private let rows: [Row]

    /// `times` must match `network`.
    init(_ times: LayerTimes, of network: Network) {
        self.times = times
        var load = Row(name: "load")
        var loss = Row(name: "loss")
        var layers = network.layerNames.map { Row(name: $0) }
        for (step, time) in zip(network.steps, times.nanoseconds(for: network)) {
            switch step.kind {
            case .load: load.forward = time
            case .loss: loss.forward = time
            case .forward(let layer), .recompute(let layer): layers[layer].forward = time
            case .backward(let layer): layers[layer].backward = time
            }
        }
        rows = [load] + layers + [loss]
    }

    /// Table, bars and total.
    func text(title: String, runs: Int) -> String {
        let total = rows.reduce(0) { $0 + $1.sum }
        let most = max(1, rows.map(\.sum).max() ?? 1)
        var cells = [["layer", "forward", "backward", "share", ""]]
        for row in rows {
            let width = Int((Double(row.sum) / Double(most) * 30).rounded())
            cells.append([
                row.name, Self.text(row.forward), Self.text(row.backward),
                Text.percent(Double(row.sum) / Double(max(1, total))),
                String(repeating: "█", count: width),
            ])
        }
        let rate = Double(times.batchSize) / (Double(max(1, total)) / 1e9)
        let threads = "\(times.threads) thread\(times.threads == 1 ? "" : "s")"
        return "\(title): batch \(times.batchSize), \(threads), median of \(runs)\n\n"
            + Columns.lines(cells, right: [1, 2, 3]).joined(separator: "\n")
            + "\n\n  an iteration computes for \(Text.duration(total)): "
            + "\(Text.rate(rate)) samples/s\n"
    }

    private static func text(_ nanoseconds: UInt64?) -> String {
        nanoseconds.map { Text.duration($0) } ?? "-"
    }
}
