import GeePSCore
public import GeePSDevice

/// All tensors, parameters and gradients of a network in a device's memory: for evaluation and tests of networks
/// that compute on a stream.
///
/// Every call waits for the stream.
public final class DeviceNetworkMemory {
    private let network: Network
    private let stream: any DeviceStream
    private let memory: SharedBuffer
    private let table: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    /// Values and gradients of the layers with parameters, in device memory.
    let parameters: [UnsafeMutablePointer<Float>]
    let gradients: [UnsafeMutablePointer<Float>]
    private let timeout = Duration.seconds(120)

    /// Bytes of device memory that it takes for `network`.
    public static func byteCount(of network: Network) -> Int {
        Layout(network).byteCount
    }

    /// Where everything is, in bytes from the start.
    private struct Layout {
        var tensors: [Int] = []
        var parameters: [Int] = []
        var gradients: [Int] = []
        var byteCount = 0

        init(_ network: Network) {
            for tensor in network.tensors { tensors.append(add(tensor.byteCount)) }
            for layer in network.parameters { parameters.append(add(layer.valueCount * 4)) }
            guard network.purpose == .training else { return }
            for layer in network.parameters { gradients.append(add(layer.valueCount * 4)) }
        }

        private mutating func add(_ bytes: Int) -> Int {
            defer { byteCount += (bytes + 255) & ~255 }
            return byteCount
        }
    }

    /// Memory of `device` for `network`, whose target's stream is one of the device's; states hold what training
    /// begins with.
    public init(_ network: Network, on device: any Device) throws(DeviceError) {
        guard let stream = network.target.stream else {
            preconditionFailure("a network of the host has its memory on the host: NetworkMemory")
        }
        self.network = network
        self.stream = stream
        let layout = Layout(network)
        let memory = SharedBuffer(
            try device.allocate(byteCount: max(1, layout.byteCount), for: .localData))
        self.memory = memory
        parameters = layout.parameters.map {
            (memory.address + $0).assumingMemoryBound(to: Float.self)
        }
        gradients = layout.gradients.map {
            (memory.address + $0).assumingMemoryBound(to: Float.self)
        }
        table = .allocate(capacity: network.tensors.count)
        for (index, offset) in layout.tensors.enumerated() {
            (table + index).initialize(to: memory.address + offset)
        }
        try write(NetworkStates(startOf: network))
    }

    deinit {
        // What is under way still uses the memory; bounded by it.
        try? stream.synchronise(deadline: .after(timeout))
        table.deallocate()
    }

    /// Puts parameters of all layers there, in the network's order.
    public func write(parameters values: [[Float]]) throws(DeviceError) {
        for (values, target) in zip(values, parameters) {
            try write(values.withUnsafeBytes { Array($0) }, to: UnsafeMutableRawPointer(target))
        }
    }

    /// Puts the values of `states` there.
    public func write(_ states: NetworkStates) throws(DeviceError) {
        for (values, tensor) in zip(states.values, network.stateTensors) {
            try write(tensor: tensor, values.withUnsafeBytes { Array($0) })
        }
    }

    /// The values of `Network.states`.
    public func readStates() throws(DeviceError) -> [[Float]] {
        var all: [[Float]] = []
        for tensor in network.stateTensors { all.append(try read(tensor: tensor)) }
        return all
    }

    /// Puts bytes into tensor `index`.
    public func write(tensor index: Int, _ bytes: [UInt8]) throws(DeviceError) {
        guard let target = table[index] else { return }
        try write(bytes, to: target)
    }

    /// The gradients of all layers' parameters.
    public func readGradients() throws(DeviceError) -> [[Float]] {
        var all: [[Float]] = []
        for (layer, source) in zip(network.parameters, gradients) {
            all.append(try read(UnsafeRawPointer(source), valueCount: layer.valueCount))
        }
        return all
    }

    /// The values of tensor `index` as float32.
    public func read(tensor index: Int) throws(DeviceError) -> [Float] {
        guard let source = table[index] else { return [] }
        return try read(
            UnsafeRawPointer(source), valueCount: network.tensors[index].byteCount / 4)
    }

    /// Runs an iteration on `images`, `[B, C, H, W]`, and `labels`.
    public func runIteration(
        images: [Float], labels: [Int32], noise: NoiseKey = NoiseKey(seed: 0)
    ) throws -> BatchResult {
        try write(tensor: network.inputTensor, images.withUnsafeBytes { Array($0) })
        try write(tensor: network.labelsTensor, labels.withUnsafeBytes { Array($0) })
        for step in network.steps { try run(step, noise: noise) }
        guard let results = network.resultsTensor else {
            preconditionFailure("a network on a stream has a tensor of results")
        }
        let values = try read(tensor: results)
        return try values.withUnsafeBytes { bytes throws(NNError) in
            guard let start = bytes.baseAddress else { preconditionFailure("a batch has samples") }
            return try network.batchResult(start)
        }
    }

    /// Where tensor `index` is.
    func address(ofTensor index: Int) -> UnsafeMutableRawPointer? { table[index] }

    /// Puts one step on the stream; `runIteration` puts all of them there.
    public func run(_ step: NetworkStep, noise: NoiseKey) throws(NNError) {
        var lent = StepMemory(tensors: UnsafePointer(table), noise: noise)
        lent.parameters = step.parametersRead.map { UnsafePointer(parameters[$0]) }
        lent.parameterGradients = step.parametersUpdated.map { gradients[$0] }
        try network.run(step, lent)
    }

    // Pageable memory is staged before the call returns; nothing here is a hot path.

    private func write(_ bytes: [UInt8], to target: UnsafeMutableRawPointer) throws(DeviceError) {
        let copy = { (bytes: UnsafeRawBufferPointer) in
            guard let source = bytes.baseAddress else { return }
            self.stream.copy(
                from: source, to: target, byteCount: bytes.count, direction: .hostToDevice,
                label: "write")
            // The array may go once this is done.
            _ = try? self.stream.synchronise(deadline: .after(self.timeout))
        }
        bytes.withUnsafeBytes(copy)
        try stream.synchronise(deadline: .after(timeout))
    }

    private func read(
        _ source: UnsafeRawPointer, valueCount: Int
    ) throws(DeviceError) -> [Float] {
        var values = [Float](repeating: 0, count: valueCount)
        values.withUnsafeMutableBytes { bytes in
            guard let target = bytes.baseAddress else { return }
            stream.copy(
                from: source, to: target, byteCount: bytes.count, direction: .deviceToHost,
                label: "read")
            _ = try? stream.synchronise(deadline: .after(timeout))
        }
        try stream.synchronise(deadline: .after(timeout))
        return values
    }
}
