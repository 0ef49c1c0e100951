import GeePSCore
import GeePSMemory
import GeePSNN

/// What a layer needs, and where it lives.
struct PlanLayer: Hashable, Sendable {
    var name: String
    /// Rows of its table, padding included.
    var parameterBytes = 0
    /// Where the parameters are; nil without.
    var cacheHome: Placement.CacheHome?
    /// Activations, gradients and workspaces.
    var localBytes = 0
    /// Of `localBytes`, what is copied between host and device.
    var movingBytes = 0
    /// Copied per clock for its local data and parameters.
    var bytesIn = 0
    var bytesOut = 0

    /// Bytes of the layer that stay on the device, or on it while they are used.
    var stayingBytes: Int {
        localBytes - movingBytes + (cacheHome == .device ? parameterBytes : 0)
    }

    /// All bytes of the layer.
    var byteCount: Int { parameterBytes + localBytes }

    /// "stays", "moves", "mixed", "-".
    var localHome: String {
        guard localBytes > 0 else { return "-" }
        if movingBytes == 0 { return "stays" }
        return movingBytes == localBytes ? "moves" : "part moves"
    }

    /// The layers of `network`, bottom to top; what belongs to none (the batch, scratch) by its own name.
    static func layers(of network: Network, _ placement: Placement) -> [PlanLayer] {
        var layers: [PlanLayer] = []
        var tensorLayer: [Int] = []
        func index(_ name: String) -> Int {
            if let known = layers.firstIndex(where: { $0.name == name }) { return known }
            layers.append(PlanLayer(name: name))
            return layers.count - 1
        }
        _ = index("batch")
        for name in network.layerNames { _ = index(name) }
        for (tensor, home) in zip(network.tensors, placement.homes) {
            let layer = index(owner(of: tensor, network))
            tensorLayer.append(layer)
            layers[layer].localBytes += tensor.byteCount
            if home == .moves { layers[layer].movingBytes += tensor.byteCount }
        }
        var tableLayer: [Int] = []
        for (table, home) in zip(Trainer.tables(of: network), placement.cacheHomes) {
            let layer = index(table.name)
            tableLayer.append(layer)
            layers[layer].parameterBytes += table.byteCount
            layers[layer].cacheHome = home
            if home == .device { layers[layer].bytesIn += table.byteCount }
        }
        for stay in placement.stays {
            let layer: Int
            switch stay.item {
            case .local(let id): layer = tensorLayer[id]
            case .read(let id), .update(let id), .cache(let id): layer = tableLayer[id]
            }
            if stay.fetchesIn { layers[layer].bytesIn += stay.byteCount }
            if stay.savesOut { layers[layer].bytesOut += stay.byteCount }
        }
        return layers.filter { $0.byteCount > 0 }
    }

    /// "conv1" of "conv1.output.gradient": the longest layer name that begins the tensor's.
    private static func owner(of tensor: LocalTensor, _ network: Network) -> String {
        switch tensor.role {
        case .input, .labels: return "batch"
        case .results, .scratch: return tensor.name
        case .activation, .gradient, .workspace, .state: break
        }
        let owners = network.layerNames.filter { tensor.name.hasPrefix("\($0).") }
        return owners.max { $0.count < $1.count } ?? tensor.name
    }
}
