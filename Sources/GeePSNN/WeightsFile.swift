internal import Safetensors

/// Parameters of a network, and what its layers remember, in a safetensors file: named and shaped as PyTorch's
/// `state_dict`.
public enum WeightsFile {
    /// What a file holds.
    public struct Contents: Hashable, Sendable {
        /// By parameter, in the network's order.
        public var weights: [[Float]]
        /// Running statistics of batch normalisations.
        public var states: NetworkStates

        /// What a file is to hold.
        public init(weights: [[Float]], states: NetworkStates) {
            self.weights = weights
            self.states = states
        }
    }

    /// Reads the tensors of `network`; the file must have these and no others, as with PyTorch's
    /// `load_state_dict(strict=True)`: a tensor too many mostly means another model.
    ///
    /// - Throws: `.file` when the file cannot be read or is not safetensors; `.model` naming every tensor that
    ///   is missing, of another shape or type, or not the network's.
    public static func read(_ path: String, for network: Network) throws(NNError) -> Contents {
        let file: SafetensorsFile
        do throws(SafetensorsError) {
            file = try SafetensorsFile(path: path)
        } catch {
            throw NNError(.file, error.message)
        }
        if let error = mismatch(path, file, network) { throw error }
        do throws(SafetensorsError) {
            return try contents(file, network)
        } catch {
            throw NNError(.file, error.message)
        }
    }

    /// Writes the tensors of `network`; the file is replaced whole or not at all.
    public static func write(_ path: String, _ contents: Contents, of network: Network)
        throws(NNError)
    {
        var tensors = zip(network.parameters, contents.weights).flatMap { parameters, values in
            parameters.tensors.map { source($0, values) }
        }
        for (index, state) in network.states.enumerated() {
            tensors += state.tensors.map { source($0, contents.states.values[index]) }
            let count = contents.states.batchCounts[index].littleEndian
            tensors.append(
                TensorSource(
                    name: state.batchCountName, elementType: .int64, shape: [],
                    bytes: withUnsafeBytes(of: count, Array.init)))
        }
        do throws(SafetensorsError) {
            try SafetensorsWriter.write(path: path, tensors: tensors)
        } catch {
            throw NNError(.file, error.message)
        }
    }

    private static func source(_ tensor: ParameterTensor, _ values: [Float]) -> TensorSource {
        TensorSource(name: tensor.name, shape: tensor.shape, floats: Array(values[tensor.range]))
    }

    private static func contents(
        _ file: SafetensorsFile, _ network: Network
    ) throws(SafetensorsError) -> Contents {
        var weights: [[Float]] = []
        for parameters in network.parameters {
            var values: [Float] = []
            for tensor in parameters.tensors { values += try file.floats(tensor.name) }
            weights.append(values)
        }
        var states = NetworkStates(startOf: network)
        for (index, state) in network.states.enumerated() {
            for tensor in state.tensors {
                states.values[index].replaceSubrange(
                    tensor.range, with: try file.floats(tensor.name))
            }
            states.batchCounts[index] = try file.withBytes(state.batchCountName) {
                Int64(littleEndian: $0.loadUnaligned(as: Int64.self))
            }
        }
        return Contents(weights: weights, states: states)
    }

    // MARK: What a file must have

    private struct Expected {
        var name: String
        var shape: [Int]
        var elementType = ElementType.float32

        func problem(_ found: TensorInfo?) -> String? {
            guard let found else { return "\(name) is missing, expected shape \(shape)" }
            guard found.elementType == elementType else {
                return "\(name) is \(found.elementType.rawValue), expected \(elementType.rawValue)"
            }
            guard found.shape == shape else {
                return "\(name) has shape \(found.shape), expected \(shape)"
            }
            return nil
        }
    }

    private static func mismatch(
        _ path: String, _ file: SafetensorsFile, _ network: Network
    ) -> NNError? {
        let floats = network.parameters.flatMap(\.tensors) + network.states.flatMap(\.tensors)
        let expected =
            floats.map { Expected(name: $0.name, shape: $0.shape) }
            + network.states.map {
                Expected(name: $0.batchCountName, shape: [], elementType: .int64)
            }
        let names = Set(expected.map(\.name))
        let found = file.tensors.map(\.name).sorted()
        let problems =
            expected.compactMap { $0.problem(file.header[$0.name]) }
            + found.filter { !names.contains($0) }.map { "\($0) is not a tensor of the model" }
        guard !problems.isEmpty else { return nil }
        return NNError(
            .model,
            "\(path) does not fit the model: \(problems.joined(separator: "; ")). It has "
                + found.joined(separator: ", "))
    }
}
