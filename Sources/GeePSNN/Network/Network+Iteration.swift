import GeePSCore
public import GeePSMemory

extension Network {
    /// An iteration as the parameter server sees it: what each step borrows and gives back, then the clock.
    ///
    /// - Parameters:
    ///   - rowBatches: ids of the batches that are whole tables, by parameter.
    ///   - localBatches: ids of the local batches, by tensor.
    func accesses(rowBatches: [Int], localBatches: [Int]) -> [Access] {
        var accesses: [Access] = []
        for step in steps {
            for use in step.accesses {
                accesses.append(
                    Access(.local, batch: localBatches[use.tensor], matters: use.fetch))
            }
            if let read = step.parametersRead {
                accesses.append(Access(.read, batch: rowBatches[read]))
            }
            if let updated = step.parametersUpdated {
                accesses.append(Access(.update, batch: rowBatches[updated]))
                accesses.append(Access(.endUpdate, batch: rowBatches[updated]))
            }
            if let read = step.parametersRead {
                accesses.append(Access(.endRead, batch: rowBatches[read]))
            }
            for use in step.accesses {
                accesses.append(
                    Access(.endLocal, batch: localBatches[use.tensor], matters: use.keep))
            }
        }
        accesses.append(Access(.clock))
        return accesses
    }

    /// What a planner is asked before anything of the network exists: batches and tables by parameter, local
    /// batches by tensor, a phase a step.
    public func planProblem() -> PlanProblem {
        let tables = Trainer.tables(of: self)
        var problem = PlanProblem(
            accesses: accesses(
                rowBatches: Array(tables.indices), localBatches: Array(tensors.indices)),
            locals: tensors.map { tensor in
                PlanProblem.Local(
                    name: tensor.name, byteCount: tensor.byteCount,
                    bytesPerSample: tensor.role == .scratch
                        ? nil : tensor.byteCount / batchSize)
            },
            batches: tables.enumerated().map { index, layout in
                PlanProblem.Batch(table: index, byteCount: layout.byteCount)
            },
            tables: tables.map {
                PlanProblem.Table(name: $0.name, cacheBytes: $0.byteCount)
            })
        problem.phaseNames = steps.map(name(of:))
        problem.batchSize = batchSize
        return problem
    }

    /// "conv1 backward".
    public func name(of step: NetworkStep) -> String {
        switch step.kind {
        case .load: "load"
        case .forward(let layer): "\(layerNames[layer]) forward"
        case .loss: "loss"
        case .backward(let layer): "\(layerNames[layer]) backward"
        }
    }
}
