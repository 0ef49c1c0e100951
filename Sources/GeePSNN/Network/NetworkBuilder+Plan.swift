extension NetworkBuilder {
    /// The steps of an iteration and what each touches.
    func plan() -> [NetworkStep] {
        var drafts = [draft(.load, writes: [inputTensor, labelsTensor])]
        for (index, placement) in placements.enumerated() {
            drafts.append(forwardDraft(index, placement))
        }
        var loss = draft(
            .loss, reads: [current.activation, labelsTensor],
            writes: [isTraining ? current.gradient : nil, resultsTensor].compactMap { $0 })
        if resultsTensor != nil, !isTraining { loss.scratch = scratchTensor }
        drafts.append(loss)
        if isTraining {
            for (index, placement) in placements.enumerated().reversed()
            where placement.needsBackward {
                drafts.append(backwardDraft(index, placement))
            }
        }
        let results = isTraining ? [inputGradientTensor].compactMap { $0 } : [current.activation]
        // The next iteration reads what this one leaves of a layer's state.
        let kept = placements.compactMap(\.state) + [resultsTensor].compactMap { $0 }
        return NetworkStep.planned(drafts, results: Set(results + kept))
    }

    private func draft(
        _ kind: NetworkStep.Kind, reads: [Int] = [], writes: [Int] = []
    ) -> StepDraft {
        StepDraft(step: NetworkStep(kind: kind, accesses: []), reads: reads, writes: writes)
    }

    private func forwardDraft(_ index: Int, _ placement: LayerPlacement) -> StepDraft {
        var draft = draft(
            .forward(layer: index), reads: [placement.input],
            writes: [placement.output] + [placement.workspace].compactMap { $0 })
        if let state = placement.state {
            draft.reads.append(state)
            if isTraining { draft.writes.append(state) }
        }
        draft.step.parametersRead = placement.parameterIndex
        if placement.layer.traits.forwardScratchBytes > 0 { draft.scratch = scratchTensor }
        return draft
    }

    private func backwardDraft(_ index: Int, _ placement: LayerPlacement) -> StepDraft {
        let reads = placement.layer.traits.backwardReads
        var draft = draft(.backward(layer: index))
        draft.reads = [placement.outputGradient].compactMap { $0 }
        if reads.contains(.input) { draft.reads.append(placement.input) }
        if reads.contains(.output) { draft.reads.append(placement.output) }
        if let workspace = placement.workspace { draft.reads.append(workspace) }
        draft.writes = [placement.inputGradient].compactMap { $0 }
        if reads.contains(.parameters) { draft.step.parametersRead = placement.parameterIndex }
        draft.step.parametersUpdated = placement.parameterIndex
        if placement.layer.traits.backwardScratchBytes > 0 { draft.scratch = scratchTensor }
        return draft
    }
}
