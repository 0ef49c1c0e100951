internal import Safetensors

/// Parameters of a network in a safetensors file, named and shaped as PyTorch's `state_dict`.
public enum WeightsFile {
    /// Reads the parameters of `network`; the file must have these and no others, as with PyTorch's
    /// `load_state_dict(strict=True)`: a tensor too many mostly means another model.
    ///
    /// - Returns: by parameter, in the network's order.
    /// - Throws: `.file` when the file cannot be read or is not safetensors; `.model` naming every tensor that
    ///   is missing, of another shape or type, or not the network's.
    public static func read(_ path: String, for network: Network) throws(NNError) -> [[Float]] {
        let file: SafetensorsFile
        do throws(SafetensorsError) {
            file = try SafetensorsFile(path: path)
        } catch {
            throw NNError(.file, error.message)
        }
        let expected = network.parameters.flatMap(\.tensors)
        let problems =
            expected.compactMap { problem(of: file.header[$0.name], expecting: $0) }
            + file.tensors.map(\.name).sorted().filter { name in
                !expected.contains { $0.name == name }
            }.map { "\($0) is not a tensor of the model" }
        guard problems.isEmpty else {
            let found = file.tensors.map(\.name).sorted().joined(separator: ", ")
            throw NNError(
                .model,
                "\(path) does not fit the model: \(problems.joined(separator: "; ")). It has \(found)"
            )
        }
        do throws(SafetensorsError) {
            var weights: [[Float]] = []
            for parameters in network.parameters {
                var values: [Float] = []
                for tensor in parameters.tensors { values += try file.floats(tensor.name) }
                weights.append(values)
            }
            return weights
        } catch {
            throw NNError(.file, error.message)
        }
    }

    /// Writes the parameters of `network`; the file is replaced whole or not at all.
    public static func write(_ path: String, _ weights: [[Float]], of network: Network)
        throws(NNError)
    {
        let tensors = zip(network.parameters, weights).flatMap { parameters, values in
            parameters.tensors.map {
                TensorSource(name: $0.name, shape: $0.shape, floats: Array(values[$0.range]))
            }
        }
        do throws(SafetensorsError) {
            try SafetensorsWriter.write(path: path, tensors: tensors)
        } catch {
            throw NNError(.file, error.message)
        }
    }

    private static func problem(of found: TensorInfo?, expecting tensor: ParameterTensor)
        -> String?
    {
        guard let found else { return "\(tensor.name) is missing, expected shape \(tensor.shape)" }
        guard found.elementType == .float32 else {
            return "\(tensor.name) is \(found.elementType.rawValue), expected F32"
        }
        guard found.shape == tensor.shape else {
            return "\(tensor.name) has shape \(found.shape), expected \(tensor.shape)"
        }
        return nil
    }
}
