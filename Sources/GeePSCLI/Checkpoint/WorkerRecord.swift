import GeePSCheckpoint
import GeePSNN
import Safetensors

/// Losses of one worker by epoch, as far as it has come.
struct EpochLosses: Hashable, Sendable {
    /// Sums over samples.
    var sums: [Double]
    /// The samples in them.
    var samples: [Double]

    /// Nothing yet.
    init(epochCount: Int) {
        sums = Array(repeating: 0, count: epochCount)
        samples = sums
    }

    /// Adds what another worker, or an earlier part of the run, has; epochs beyond these are left out.
    mutating func add(_ other: EpochLosses) {
        for epoch in sums.indices where epoch < other.sums.count {
            sums[epoch] += other.sums[epoch]
            samples[epoch] += other.samples[epoch]
        }
    }

    /// Mean loss of an epoch so far.
    func mean(_ epoch: Int) -> Double { sums[epoch] / max(1, samples[epoch]) }
}

/// What a worker has beside the rows: running statistics, and losses for the report.
struct WorkerRecord: Hashable, Sendable {
    var states: NetworkStates
    var losses: EpochLosses

    /// As tensors of the worker's file.
    func tensors(of network: Network) -> [TensorSource] {
        var tensors = [
            Self.doubles("losses", losses.sums), Self.doubles("samples", losses.samples),
        ]
        for (index, state) in network.states.enumerated() {
            let values = states.values[index]
            tensors.append(
                TensorSource(name: "states/\(state.name)", shape: [values.count], floats: values))
            tensors.append(
                TensorSource(
                    name: "batches/\(state.name)", elementType: .int64, shape: [],
                    bytes: withUnsafeBytes(of: states.batchCounts[index].littleEndian, Array.init)))
        }
        return tensors
    }

    private static func doubles(_ name: String, _ values: [Double]) -> TensorSource {
        TensorSource(
            name: name, elementType: .float64, shape: [values.count],
            bytes: values.map(\.bitPattern.littleEndian).withUnsafeBytes(Array.init))
    }

    /// Reads the file of worker `worker`.
    ///
    /// - Throws: `.damaged` when it has not what it should.
    init(_ checkpoint: Checkpoint, worker: Int, network: Network) throws(CheckpointError) {
        let path = try checkpoint.path(ofFile: Manifest.fileName(ofWorker: worker))
        do throws(SafetensorsError) {
            let file = try SafetensorsFile(path: path)
            losses = EpochLosses(epochCount: 0)
            losses.sums = try Self.doubles(file, "losses")
            losses.samples = try Self.doubles(file, "samples")
            states = NetworkStates(startOf: network)
            for (index, state) in network.states.enumerated() {
                states.values[index] = try file.floats("states/\(state.name)")
                states.batchCounts[index] = try file.withBytes("batches/\(state.name)") {
                    $0.count == 8 ? Int64(littleEndian: $0.loadUnaligned(as: Int64.self)) : 0
                }
            }
        } catch {
            throw CheckpointError(.damaged, error.message)
        }
        let counts = zip(states.values, network.states).map { ($0.count, $1.valueCount) }
        guard losses.sums.count == losses.samples.count, counts.allSatisfy({ $0.0 == $0.1 }) else {
            throw CheckpointError(.damaged, "\(path) has tensors of other lengths than the model")
        }
    }

    init(states: NetworkStates, losses: EpochLosses) {
        self.states = states
        self.losses = losses
    }

    private static func doubles(_ file: SafetensorsFile, _ name: String) throws(SafetensorsError)
        -> [Double]
    {
        try file.withBytes(name) { bytes in
            (0..<bytes.count / 8).map {
                Double(
                    bitPattern: UInt64(
                        littleEndian: bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self)))
            }
        }
    }
}
