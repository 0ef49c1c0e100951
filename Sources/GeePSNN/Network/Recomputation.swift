/// Layers that write one activation, in order: the first makes it, the others change it in place.
///
/// What is recomputed is recomputed as a whole, since the values between are nowhere.
struct RecomputeUnit {
    /// As in `Network.layerNames`.
    var layers: Range<Int>
    /// What the first layer reads.
    var input: Int
    /// What is written, in place or not.
    var output: Int
    /// The activation and the workspaces of the layers.
    var tensors: [Int]
    /// Some layer reads parameters.
    var hasParameters: Bool
}

extension Network {
    /// The layers, grouped by the activation they write, bottom to top.
    var recomputeUnits: [RecomputeUnit] {
        var units: [RecomputeUnit] = []
        for (index, placement) in placements.enumerated() {
            let workspace = [placement.workspace].compactMap { $0 }
            if let last = units.last, last.output == placement.output {
                units[units.count - 1].layers = last.layers.lowerBound..<(index + 1)
                units[units.count - 1].tensors += workspace
                units[units.count - 1].hasParameters =
                    last.hasParameters || placement.parameterIndex != nil
                continue
            }
            units.append(
                RecomputeUnit(
                    layers: index..<(index + 1), input: placement.input, output: placement.output,
                    tensors: [placement.output] + workspace,
                    hasParameters: placement.parameterIndex != nil))
        }
        return units
    }

    /// Tensors that some backward step reads.
    var tensorsReadBackward: Set<Int> {
        var tensors: Set<Int> = []
        for step in steps {
            guard case .backward = step.kind else { continue }
            for access in step.accesses where access.fetch { tensors.insert(access.tensor) }
        }
        return tensors
    }

    /// The steps of a mini-batch in which what `units` made is dropped after its last use in the forward
    /// pass, and made again just before the first backward step that reads it.
    ///
    /// - Parameter units: positions in `recomputeUnits`. One whose input is dropped as well has its input
    ///   made again first; one whose input no backward step reads keeps the input until then.
    func steps(recomputing units: Set<Int>) -> [NetworkStep] {
        var restorer = StepRestorer(self, units)
        for step in steps { restorer.append(step) }
        let results = [
            purpose == .training ? inputGradientTensor : logitsTensor, resultsTensor,
        ]
        return NetworkStep.planned(
            restorer.drafts, results: Set(results.compactMap { $0 } + stateTensors))
    }
}

/// Puts steps in a row and makes dropped tensors again where they are read.
private struct StepRestorer {
    private let network: Network
    private let units: [RecomputeUnit]
    /// By tensor that is dropped, and not yet made again: its unit.
    private var unitOfLost: [Int: Int] = [:]
    private var forwardSteps: [Int: NetworkStep] = [:]
    private(set) var drafts: [StepDraft] = []

    init(_ network: Network, _ chosen: Set<Int>) {
        self.network = network
        units = network.recomputeUnits
        for unit in chosen {
            for tensor in units[unit].tensors { unitOfLost[tensor] = unit }
        }
        for step in network.steps {
            if case .forward(let layer) = step.kind { forwardSteps[layer] = step }
        }
    }

    mutating func append(_ step: NetworkStep) {
        if case .backward = step.kind {
            for access in step.accesses where access.fetch { restore(access.tensor) }
        }
        drafts.append(StepDraft(step, scratch: network.scratchTensor))
    }

    private mutating func restore(_ tensor: Int) {
        guard let index = unitOfLost[tensor] else { return }
        let unit = units[index]
        for tensor in unit.tensors { unitOfLost[tensor] = nil }
        restore(unit.input)
        for layer in unit.layers {
            guard var step = forwardSteps[layer] else { continue }
            step.kind = .recompute(layer: layer)
            // A batch goes into a layer's state once.
            step.accesses.removeAll { network.stateTensors.contains($0.tensor) }
            drafts.append(StepDraft(step, scratch: network.scratchTensor))
        }
    }
}

extension StepDraft {
    /// What a step of an iteration reads and writes; the flags that depend on later steps are left out.
    fileprivate init(_ step: NetworkStep, scratch: Int?) {
        self.step = step
        reads = step.accesses.filter(\.fetch).map(\.tensor)
        writes = step.accesses.filter { $0.writes && $0.tensor != scratch }.map(\.tensor)
        self.scratch = step.accesses.contains { $0.tensor == scratch } ? scratch : nil
    }
}
