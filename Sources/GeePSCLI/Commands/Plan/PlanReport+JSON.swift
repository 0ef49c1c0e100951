import GeePSMemory
import GeePSNN

extension PlanReport {
    /// The object that `--json` prints: `geeps.plan/1`.
    var json: JSONValue {
        .object([
            "schema": .string("geeps.plan/1"),
            "job": .string(job),
            "policy": .string(plan.problem.policy.rawValue),
            "batch_size": .integer(Int64(network.batchSize)),
            "budget_bytes": .integer(Int64(budgetBytes)),
            "least_bytes": .integer(Int64(plan.leastBytes)),
            "full_bytes": .integer(Int64(plan.fullBytes)),
            "arena_bytes": .integer(Int64(placement.arenaBytes)),
            "peak_bytes": .integer(Int64(placement.peakBytes)),
            "fixed_bytes": .integer(Int64(placement.fixedBytes)),
            "bytes_in": .integer(Int64(placement.bytesIn)),
            "bytes_out": .integer(Int64(placement.bytesOut)),
            "bytes_of_arriving_rows": .integer(Int64(placement.bytesOfArrivingRows)),
            "bytes_of_updates": .integer(Int64(placement.bytesOfUpdates)),
            "bytes_of_local_data": .integer(Int64(placement.bytesOfLocalData)),
            "single_buffered": .integer(Int64(placement.singleBufferedCount)),
            "batches_per_clock": .integer(Int64(batchesPerClock)),
            "link_bytes_per_second": plan.problem.link.map { .number($0.bytesPerSecondIn) }
                ?? .null,
            "forecast": placement.forecast.map {
                $0.json(samplesPerSecond: $0.samplesPerSecond(samplesPerClock))
            } ?? .null,
            "recomputed": .array(plan.recomputedLayers.map(JSONValue.string)),
            "layers": .array(PlanLayer.layers(of: network, placement).map(\.json)),
            "phases": .array(
                zip(plan.problem.phaseNames, placement.phaseBytes).map { name, bytes in
                    .object(["name": .string(name), "bytes": .integer(Int64(bytes))])
                }),
            "stays": .array(placement.stays.map(json)),
        ])
    }

    private func json(_ stay: Placement.Stay) -> JSONValue {
        let problem = plan.problem
        let (kind, name): (String, String) =
            switch stay.item {
            case .local(let id): ("local", problem.locals[id].name)
            case .read(let id): ("read", problem.tables[problem.batches[id].table].name)
            case .update(let id): ("update", problem.tables[problem.batches[id].table].name)
            case .cache(let table): ("cache", problem.tables[table].name)
            }
        return .object([
            "kind": .string(kind),
            "name": .string(name),
            "offset": .integer(Int64(stay.offset)),
            "bytes": .integer(Int64(stay.byteCount)),
            "pinned": .bool(stay.isPinned),
            "first_access": .integer(Int64(stay.firstAccess)),
            "last_access": .integer(Int64(stay.lastAccess)),
            "fetches_in": .bool(stay.fetchesIn),
            "saves_out": .bool(stay.savesOut),
            "single_buffered": .bool(stay.isSingleBuffered),
        ])
    }
}

extension Forecast {
    /// Samples that one worker trains on a second, `samplesPerClock` in each iteration; nothing infinite.
    func samplesPerSecond(_ samplesPerClock: Int) -> Double {
        Double(samplesPerClock) / (Double(max(1, iterationNanoseconds)) / 1e9)
    }

    /// The object under `forecast`.
    fileprivate func json(samplesPerSecond: Double) -> JSONValue {
        .object([
            "iteration_nanoseconds": .integer(Int64(clamping: iterationNanoseconds)),
            "stall_nanoseconds": .integer(Int64(clamping: stallNanoseconds)),
            "efficiency": .number(efficiency),
            "samples_per_second": .number(samplesPerSecond),
        ])
    }
}

extension PlanLayer {
    fileprivate var json: JSONValue {
        .object([
            "name": .string(name),
            "parameter_bytes": .integer(Int64(parameterBytes)),
            "parameters_on": cacheHome.map { .string($0.rawValue) } ?? .null,
            "local_bytes": .integer(Int64(localBytes)),
            "moving_bytes": .integer(Int64(movingBytes)),
            "bytes_in": .integer(Int64(bytesIn)),
            "bytes_out": .integer(Int64(bytesOut)),
        ])
    }
}
