import GeePSCore
import GeePSMemory

/// A training iteration without its arithmetic: what it touches, in which order, and how long it would compute.
///
/// Sizes and times can be scaled down together, so that a small machine can play a large one: what matters for
/// overlap is the relation of bytes over bandwidth to compute.
struct EmulatedWorkload {
    /// A layer of one mini-batch.
    struct Layer {
        var name: String
        /// Of the whole mini-batch.
        var outputBytes: Int
        var parameterBytes: Int
        /// Multiplications of the forward pass for one sample; the backward pass has twice as many.
        var connections: Double
    }

    var name: String
    var inputBytes: Int
    var layers: [Layer]
    /// Each worker keeps momentum beside the parameters, as GeePS's Caffe does.
    var hasMomentum = true
    var batchSize: Int
    /// Compute time of a mini-batch, forward and backward.
    var nanoseconds: Double
    /// Mini-batches before the clock.
    var batchesPerClock = 1

    /// Multiplications of a clock, backward pass included.
    var connectionsPerClock: Double {
        3 * layers.reduce(0) { $0 + $1.connections } * Double(batchSize * batchesPerClock)
    }

    /// Tables, by layer with parameters.
    var tables: [TableLayout] {
        layers.filter { $0.parameterBytes > 0 }.map {
            TableLayout(name: $0.name, valueCount: max(1, $0.parameterBytes / 4))
        }
    }

    /// The same with bytes divided by `bytes` and times by `time`.
    func scaled(bytes: Int, time: Double) -> EmulatedWorkload {
        var small = self
        small.inputBytes /= bytes
        for index in layers.indices {
            small.layers[index].outputBytes /= bytes
            small.layers[index].parameterBytes /= bytes
        }
        small.nanoseconds /= time
        return small
    }

    /// The same work in `count` mini-batches a clock.
    func cut(into count: Int) -> EmulatedWorkload {
        var cut = self
        cut.batchSize /= count
        cut.inputBytes /= count
        for index in layers.indices { cut.layers[index].outputBytes /= count }
        cut.nanoseconds /= Double(count)
        cut.batchesPerClock *= count
        return cut
    }
}

extension EmulatedWorkload {
    /// What GeePS calls AdamLike (§5.1): 5 convolutions, 3 linear layers of 3000, 3000 and 22000 outputs, 200
    /// images of 3 x 227 x 227; on a Tesla K20C a mini-batch computes for 2.15 s (figure 14).
    static let adamLike: EmulatedWorkload = {
        let images = 200
        func layer(_ name: String, _ output: Int, _ parameters: Int, _ connections: Int) -> Layer {
            Layer(
                name: name, outputBytes: output * 4 * images, parameterBytes: parameters * 4,
                connections: Double(connections))
        }
        return EmulatedWorkload(
            name: "AdamLike", inputBytes: 3 * 227 * 227 * 4 * images,
            layers: [
                layer("conv1", 96 * 55 * 55, 34_944, 55 * 55 * 34_848),
                layer("norm1", 96 * 55 * 55, 0, 96 * 55 * 55 * 5),
                layer("pool1", 96 * 27 * 27, 0, 96 * 27 * 27 * 9),
                layer("conv2", 256 * 27 * 27, 307_456, 27 * 27 * 307_200),
                layer("norm2", 256 * 27 * 27, 0, 256 * 27 * 27 * 5),
                layer("pool2", 256 * 13 * 13, 0, 256 * 13 * 13 * 9),
                layer("conv3", 384 * 13 * 13, 885_120, 13 * 13 * 884_736),
                layer("conv4", 384 * 13 * 13, 663_936, 13 * 13 * 663_552),
                layer("conv5", 256 * 13 * 13, 442_624, 13 * 13 * 442_368),
                layer("pool5", 256 * 6 * 6, 0, 256 * 6 * 6 * 9),
                layer("fc6", 3000, 9216 * 3000 + 3000, 9216 * 3000),
                layer("fc7", 3000, 3000 * 3000 + 3000, 3000 * 3000),
                layer("fc8", 22000, 3000 * 22000 + 22000, 3000 * 22000),
            ],
            batchSize: images, nanoseconds: 2.15e9)
    }()

    /// Fully connected layers of 373 MB, as GeePS's models of 20 GB (§5.3, figure 13); `count` of them.
    ///
    /// The paper gives neither batch nor time. A layer is taken to compute for as long as a K20C, at half its
    /// 3.5 Tflop/s, needs for 768 samples: 82 ms forward and 164 ms backward, where copying its parameters takes
    /// 62 ms at 6 GB/s.
    static func linearStack(_ count: Int) -> EmulatedWorkload {
        let values = 9660 * 9660
        let samples = 768
        return EmulatedWorkload(
            name: "\(count) linear layers", inputBytes: 9660 * 4 * samples,
            layers: (0..<count).map { index in
                Layer(
                    name: "fc\(index)", outputBytes: 9660 * 4 * samples, parameterBytes: values * 4,
                    connections: Double(values))
            },
            hasMomentum: false, batchSize: samples,
            nanoseconds: Double(count) * 6 * Double(values * samples) / 1.75e12 * 1e9)
    }
}

// MARK: - As accesses

extension EmulatedWorkload {
    /// The iteration with its phases' times.
    var iteration: (problem: PlanProblem, phaseNanoseconds: [UInt64]) {
        var builder = Builder(self)
        builder.build()
        return (builder.problem, builder.times.map { UInt64($0.rounded()) })
    }

    private struct Builder {
        let workload: EmulatedWorkload
        var problem = PlanProblem(accesses: [], locals: [], batches: [], tables: [])
        var times: [Double] = []
        private var outputs: [Int] = []
        private var gradients: [Int?] = []
        private var momenta: [Int?] = []
        private var batches: [Int?] = []

        init(_ workload: EmulatedWorkload) { self.workload = workload }

        mutating func build() {
            outputs = [local("input", workload.inputBytes)]
            gradients = [nil]
            for layer in workload.layers {
                outputs.append(local("\(layer.name).output", layer.outputBytes))
                gradients.append(local("\(layer.name).output.gradient", layer.outputBytes))
                batches.append(layer.parameterBytes > 0 ? table(layer) : nil)
                momenta.append(
                    workload.hasMomentum && layer.parameterBytes > 0
                        ? local("\(layer.name).momentum", layer.parameterBytes) : nil)
            }
            for number in 1...workload.batchesPerClock {
                pass(isLast: number == workload.batchesPerClock)
            }
            problem.accesses.append(Access(.clock))
        }

        private mutating func local(_ name: String, _ bytes: Int) -> Int {
            problem.locals.append(PlanProblem.Local(name: name, byteCount: bytes))
            return problem.locals.count - 1
        }

        private mutating func table(_ layer: Layer) -> Int {
            let layout = TableLayout(name: layer.name, valueCount: max(1, layer.parameterBytes / 4))
            problem.tables.append(
                PlanProblem.Table(name: layer.name, cacheBytes: layout.byteCount))
            problem.batches.append(
                PlanProblem.Batch(
                    table: problem.tables.count - 1, byteCount: layout.byteCount))
            return problem.batches.count - 1
        }

        /// Forward and backward over one mini-batch; momentum moves once a clock.
        private mutating func pass(isLast: Bool) {
            let layers = workload.layers
            let total = 3 * layers.reduce(0) { $0 + $1.connections }
            func time(_ connections: Double) -> Double {
                workload.nanoseconds * connections / total
            }
            step("load", [(outputs[0], false, true)], time: 0)
            for (index, layer) in layers.enumerated() {
                step(
                    "\(layer.name) forward",
                    [(outputs[index], true, true), (outputs[index + 1], false, true)],
                    read: batches[index], time: time(layer.connections))
            }
            let top = layers.count
            if let gradient = gradients[top] {
                step(
                    "loss", [(outputs[top], true, false), (gradient, false, true)], time: 0)
            }
            for index in layers.indices.reversed() {
                var uses = [(outputs[index], true, false)]
                if let gradient = gradients[index + 1] { uses.append((gradient, true, false)) }
                if let gradient = gradients[index] { uses.append((gradient, false, true)) }
                if isLast, let momentum = momenta[index] { uses.append((momentum, true, true)) }
                step(
                    "\(layers[index].name) backward", uses, read: batches[index],
                    update: batches[index], time: time(2 * layers[index].connections))
            }
        }

        /// - Parameter uses: local batch, fetch, keep.
        private mutating func step(
            _ name: String, _ uses: [(Int, Bool, Bool)], read: Int? = nil, update: Int? = nil,
            time: Double
        ) {
            problem.phaseNames.append(name)
            times.append(time)
            var accesses = uses.map { Access(.local, batch: $0.0, matters: $0.1) }
            if let read { accesses.append(Access(.read, batch: read)) }
            if let update {
                accesses.append(Access(.update, batch: update))
                accesses.append(Access(.endUpdate, batch: update))
            }
            if let read { accesses.append(Access(.endRead, batch: read)) }
            problem.accesses +=
                accesses
                + uses.map {
                    Access(.endLocal, batch: $0.0, matters: $0.2)
                }
        }
    }
}
