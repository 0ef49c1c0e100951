import GeePSCore
public import GeePSMemory

extension Network {
    /// A clock as the parameter server sees it: what each step borrows and gives back, mini-batch after
    /// mini-batch, then the clock.
    ///
    /// - Parameters:
    ///   - rowBatches: ids of the batches that are whole tables, by parameter.
    ///   - localBatches: ids of the local batches, by tensor.
    ///   - batchesPerClock: how often the steps are repeated.
    func accesses(
        rowBatches: [Int], localBatches: [Int], batchesPerClock: Int = 1
    ) -> [Access] {
        Self.accesses(
            of: repeated(steps, batchesPerClock), rowBatches: rowBatches, localBatches: localBatches
        )
    }

    /// The same for any `steps`.
    static func accesses(
        of steps: [NetworkStep], rowBatches: [Int], localBatches: [Int]
    ) -> [Access] {
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
    ///
    /// - Parameter batchesPerClock: mini-batches whose updates are added up before the clock; each has steps
    ///   of its own, and uses the same local data.
    public func planProblem(batchesPerClock: Int = 1) -> PlanProblem {
        planProblem(of: steps, batchesPerClock: batchesPerClock)
    }

    /// The same for the `steps` of one mini-batch.
    func planProblem(of steps: [NetworkStep], batchesPerClock: Int) -> PlanProblem {
        let tables = Trainer.tables(of: self)
        var problem = PlanProblem(
            accesses: Self.accesses(
                of: repeated(steps, batchesPerClock), rowBatches: Array(tables.indices),
                localBatches: Array(tensors.indices)),
            locals: tensors.map { tensor in
                PlanProblem.Local(
                    name: tensor.name, byteCount: tensor.byteCount,
                    bytesPerSample: tensor.role == .scratch || tensor.role == .state
                        ? nil : tensor.byteCount / batchSize)
            },
            batches: tables.enumerated().map { index, layout in
                PlanProblem.Batch(
                    table: index, byteCount: layout.byteCount, isWholeTable: true)
            },
            tables: tables.map {
                PlanProblem.Table(name: $0.name, cacheBytes: $0.byteCount)
            })
        let names = steps.map(name(of:))
        for batch in 1...batchesPerClock {
            let suffix = batchesPerClock > 1 ? " (\(batch)/\(batchesPerClock))" : ""
            problem.phaseNames += names.map { $0 + suffix }
        }
        problem.batchSize = batchSize
        return problem
    }

    /// `steps` for each of `batchesPerClock` mini-batches.
    func repeated(_ steps: [NetworkStep], _ batchesPerClock: Int) -> [NetworkStep] {
        precondition(
            batchesPerClock > 0, "a clock has at least 1 mini-batch, got \(batchesPerClock)")
        return (0..<batchesPerClock).flatMap { _ in steps }
    }

    /// "conv1 backward".
    public func name(of step: NetworkStep) -> String {
        switch step.kind {
        case .load: "load"
        case .forward(let layer): "\(layerNames[layer]) forward"
        case .recompute(let layer): "\(layerNames[layer]) forward again"
        case .loss: "loss"
        case .backward(let layer): "\(layerNames[layer]) backward"
        }
    }
}
