public import GeePSClient
public import GeePSCore
public import GeePSDevice
public import GeePSMemory

/// How a worker trains; equal on all workers but for the rank.
public struct TrainerConfiguration: Sendable {
    /// This worker.
    public var rank: Int
    /// Workers that share every step.
    public var workerCount: Int
    /// Seeds initial values, the order of samples and dropout.
    public var seed: UInt64
    /// Whether each epoch has an order of its own.
    public var isShuffled: Bool
    /// Mini-batches of every worker in a clock; their gradients are averaged.
    public var batchesPerClock = 1
    /// Where the steps leave spans.
    public var timeline: Timeline?
    /// How long the layers take at least, on the host; nil: as long as they need.
    public var pace: EmulatedPace?
    /// What a worker multiplies its gradients by before it sends them; nil sends them as they are.
    ///
    /// A function of the tick that the update completes. Where keepers only add (GeePS's own mode), the worker
    /// makes the step: this is the negative learning rate then.
    public var updateScale: (@Sendable (UInt64) -> Double)?

    /// A configuration.
    public init(
        rank: Int = 0, workerCount: Int = 1, seed: UInt64 = 1, isShuffled: Bool = true,
        updateScale: (@Sendable (UInt64) -> Double)? = nil
    ) {
        self.rank = rank
        self.workerCount = workerCount
        self.seed = seed
        self.isShuffled = isShuffled
        self.updateScale = updateScale
    }
}

/// Where a worker's time went.
public struct TrainingTimes: Hashable, Sendable {
    /// Nanoseconds in the layers.
    public var compute: UInt64 = 0
    /// Nanoseconds making batches.
    public var data: UInt64 = 0
    /// Nanoseconds waiting in read, update and local.
    public var stall: UInt64 = 0
    /// Nanoseconds of the whole.
    public var total: UInt64 = 0
}

/// Trains a network whose parameters are tables of the parameter server: one table a layer.
///
/// Each step of the network borrows what it touches from the client and gives it back; the same list of steps
/// is the dry run. The trainer owns no parameters, activations or gradients.
public final class Trainer {
    /// The network; its batch size is this worker's.
    public let network: Network
    /// What is trained on.
    public let dataset: any Dataset
    /// The worker's side of the parameter server.
    public let client: Client
    /// Which worker this is.
    public let configuration: TrainerConfiguration
    /// Where the time went so far.
    public private(set) var times = TrainingTimes()
    private let steps: [NetworkStep]
    /// Steps of a clock that compute.
    private let computeStepCount: Int
    private let track: Timeline.Track?
    /// Between the host and layers that compute on a stream; nil where they compute on this thread.
    private let port: StreamPort?
    private let timer: (any StreamTimer)?
    private var sampler: Sampler
    /// The mini-batch of this clock that is at work.
    private var batchInClock = 0
    private let batches: [RowBatch]
    private let locals: [LocalBatch]
    private let addresses: UnsafeMutablePointer<UnsafeMutableRawPointer?>
    private let lent: UnsafeMutablePointer<LocalBuffer>
    /// By state of the network: mini-batches in it before this trainer's first.
    private let firstBatchCounts: [Int64]

    /// The tables that hold the parameters of `network`, in its order.
    public static func tables(of network: Network) -> [TableLayout] {
        network.parameters.map { TableLayout(name: $0.name, valueCount: $0.valueCount) }
    }

    /// A trainer on `client`, whose tables are those of `tables(of: network)`; makes the dry run.
    ///
    /// - Parameters:
    ///   - plan: what a clock does and where it has what, for a client whose memory is managed; nil leaves
    ///     the placement to the client.
    ///   - states: what this worker's layers remember; nil for what training begins with.
    /// - Throws: `NNError` when the data does not fit the network; `AccessError` without memory.
    public init(
        network: Network, dataset: any Dataset, client: Client, configuration: TrainerConfiguration,
        plan: NetworkPlan? = nil, states: NetworkStates? = nil
    ) throws {
        guard dataset.shape == network.input, dataset.classCount <= network.classCount else {
            throw NNError(
                .data,
                "\(dataset.name) has samples of \(dataset.shape) in \(dataset.classCount) classes, the "
                    + "network takes \(network.input) and ends in \(network.classCount) values")
        }
        self.network = network
        self.dataset = dataset
        self.client = client
        self.configuration = configuration
        track = configuration.timeline?.makeTrack(name: "compute")
        steps =
            plan?.steps
            ?? (0..<configuration.batchesPerClock).flatMap { _ in network.steps }
        computeStepCount = max(1, steps.count { $0.kind != .load })
        // A clock takes what one batch of all its mini-batches together would.
        sampler = try Sampler(
            sampleCount: dataset.count, workerCount: configuration.workerCount,
            batchSize: network.batchSize * configuration.batchesPerClock,
            shuffleSeed: configuration.isShuffled ? configuration.seed : nil)
        batches = network.parameters.indices.map { client.batch(of: $0) }
        locals = try network.tensors.map { tensor in
            try client.localBatch(
                name: tensor.name, byteCount: tensor.byteCount,
                for: tensor.role == .scratch ? .workspaces : .localData)
        }
        let states = states ?? NetworkStates(startOf: network)
        firstBatchCounts = states.batchCounts
        for (values, tensor) in zip(states.values, network.stateTensors) {
            try client.write(values, to: locals[tensor])
        }
        addresses = .allocate(capacity: network.tensors.count)
        addresses.initialize(repeating: nil, count: network.tensors.count)
        lent = .allocate(capacity: network.tensors.count)
        if let stream = network.target.stream {
            port = try StreamPort(
                network, device: client.device, stream: stream,
                batchesPerClock: configuration.batchesPerClock,
                waitTimeout: client.configuration.waitTimeout)
            timer = stream.makeTimer()
            client.setApplicationStream(stream)
        } else {
            port = nil
            timer = nil
        }
        try client.dryRun(placement: plan?.placement, record)
    }

    deinit {
        addresses.deallocate()
        lent.deallocate()
    }

    /// Steps of an epoch.
    public var stepsPerEpoch: Int { sampler.stepsPerEpoch }

    /// Gives the tables their initial values; rank 0 calls it, others need not.
    ///
    /// - Parameter weights: by parameter of the network; nil for PyTorch's default initialisation.
    public func initialise(weights: [[Float]]? = nil) throws(AccessError) {
        for (index, parameters) in network.parameters.enumerated() {
            var values = [Float](repeating: 0, count: parameters.valueCount)
            if let weights {
                values = weights[index]
            } else {
                values.withUnsafeMutableBufferPointer { buffer in
                    guard let start = buffer.baseAddress else { return }
                    Initializer.fill(start, for: parameters, seed: configuration.seed)
                }
            }
            let result = values.withUnsafeBufferPointer { buffer -> Result<Void, AccessError> in
                do throws(AccessError) {
                    return .success(try client.initialise(index, values: buffer))
                } catch {
                    return .failure(error)
                }
            }
            try result.get()
        }
    }

    /// One clock: a batch forward and backward, updates sent as they become ready.
    ///
    /// Where layers compute on a stream it returns with the loss, while the backward pass is still at work.
    ///
    /// - Returns: loss and correct count of this worker's batches.
    public func step() throws -> BatchResult {
        let start = monotonicNanoseconds()
        let stalled = client.stallNanoseconds
        var result = BatchResult(lossSum: 0, correctCount: 0, sampleCount: 0)
        batchInClock = -1
        for step in steps {
            if step.kind == .load { batchInClock += 1 }
            if let answer = try run(step) { result.add(answer) }
        }
        client.clock()
        if let port {
            for batch in 0..<configuration.batchesPerClock {
                result.add(try port.result(batch: batch))
            }
        }
        times.total += monotonicNanoseconds() - start
        if let timer {
            // Whenever the stream was not in a layer it was waiting: for copies, rows, or this thread.
            times.compute += timer.takeNanoseconds()
            times.stall = times.total - min(times.total, times.compute)
        } else {
            times.stall += client.stallNanoseconds - stalled
        }
        return result
    }

    /// The values of every parameter now.
    ///
    /// - Parameter staleness: how far they may lag; by default all workers' updates are in.
    public func weights(staleness: Staleness = .bulkSynchronous) throws(AccessError) -> [[Float]] {
        var weights: [[Float]] = []
        for (index, parameters) in network.parameters.enumerated() {
            let buffer = try client.read(
                batches[index], staleness: staleness, isPlanned: false)
            weights.append(
                Array(UnsafeBufferPointer(start: buffer.values, count: parameters.valueCount)))
        }
        return weights
    }

    /// What this worker's layers remember now; between clocks.
    ///
    /// Waits for what layers on a stream have yet to do.
    public func states() throws -> NetworkStates {
        if let port {
            try port.stream.synchronise(deadline: .after(client.configuration.waitTimeout))
        }
        let clocks = client.tick.count - client.configuration.firstTick.count
        let batches = Int64(clocks) * Int64(configuration.batchesPerClock)
        return NetworkStates(
            values: try network.stateTensors.map { try client.values(of: locals[$0]) },
            batchCounts: firstBatchCounts.map { $0 &+ batches })
    }

    // MARK: One step of the network

    private func run(_ step: NetworkStep) throws -> BatchResult? {
        for access in step.accesses {
            let buffer = try client.local(locals[access.tensor], fetch: access.fetch)
            addresses[access.tensor] = buffer.address
            (lent + access.tensor).initialize(to: buffer)
        }
        defer {
            for access in step.accesses {
                (lent + access.tensor).move().release(keep: access.keep)
                addresses[access.tensor] = nil
            }
        }
        if step.kind == .load {
            try fillBatch()
            return nil
        }
        var memory = StepMemory(
            tensors: UnsafePointer(addresses),
            noise: NoiseKey(
                seed: configuration.seed, rank: configuration.rank, step: batchNumber))
        return try compute(step, &memory)
    }

    /// Mini-batches of this worker before the one at work.
    private var batchNumber: UInt64 {
        client.tick.count * UInt64(configuration.batchesPerClock) + UInt64(batchInClock)
    }

    private func compute(_ step: NetworkStep, _ memory: inout StepMemory) throws -> BatchResult? {
        switch (step.parametersRead, step.parametersUpdated) {
        case (nil, nil): return try timed(step, memory)
        case (let read?, nil):
            let rows = try client.read(batches[read])
            memory.parameters = rows.values
            return try timed(step, memory)
        case (nil, let updated?):
            let update = try client.update(batches[updated])
            memory.parameterGradients = update.values
            let result = try timed(step, memory)
            finish(update, of: updated)
            return result
        case (let read?, let updated?):
            let rows = try client.read(batches[read])
            let update = try client.update(batches[updated])
            memory.parameters = rows.values
            memory.parameterGradients = update.values
            let result = try timed(step, memory)
            finish(update, of: updated)
            return result
        }
    }

    /// Values beyond the layer's, which pad the last row, get no gradient.
    private func finish(_ update: consuming UpdateBuffer, of index: Int) {
        let count = network.parameters[index].valueCount
        if let port {
            port.finish(
                update.values, count: count, paddedCount: update.count, scale: updateScale)
            return update.finish()
        }
        if let scale = updateScale {
            for position in 0..<count { update.values[position] *= scale }
        }
        for position in count..<update.count { update.values[position] = 0 }
        update.finish()
    }

    /// What gradients are multiplied by: the worker's step where it makes one, the mean over mini-batches.
    private var updateScale: Float? {
        let own = configuration.updateScale.map { Float($0(client.tick.next.count)) }
        guard configuration.batchesPerClock > 1 else { return own }
        return (own ?? 1) / Float(configuration.batchesPerClock)
    }

    private func timed(_ step: NetworkStep, _ memory: StepMemory) throws(NNError) -> BatchResult? {
        if let port { return try enqueue(step, memory, port) }
        let start = monotonicNanoseconds()
        defer {
            let end = monotonicNanoseconds()
            times.compute += end - start
            if let track, track.isRecording {
                track.add(
                    operation: "compute", label: network.name(of: step), startNanoseconds: start,
                    endNanoseconds: end)
            }
        }
        let result = try network.run(step, memory)
        if let pace = configuration.pace {
            let clock = pace.nanoseconds(
                tick: client.tick.count, rank: configuration.rank,
                workerCount: configuration.workerCount)
            sleepRoughly(until: start + clock / UInt64(computeStepCount))
        }
        return result
    }

    /// Puts a step on the stream, with its results on their way back behind it.
    private func enqueue(
        _ step: NetworkStep, _ memory: StepMemory, _ port: StreamPort
    ) throws(NNError) -> BatchResult? {
        timer?.start()
        _ = try network.run(step, memory)
        timer?.stop()
        if step.kind == .loss, let results = network.resultsTensor, let address = addresses[results]
        {
            port.fetchResults(from: address, batch: batchInClock)
        }
        return nil
    }

    private func fillBatch() throws {
        let start = monotonicNanoseconds()
        defer { times.data += monotonicNanoseconds() - start }
        guard let images = addresses[network.inputTensor],
            let labels = addresses[network.labelsTensor]
        else { preconditionFailure("the load step lends input and labels") }
        let samples = sampler.indices(step: client.tick.count, rank: configuration.rank)
        let first = batchInClock * network.batchSize
        let batch = Array(samples[first..<(first + network.batchSize)])
        if let port {
            return try port.load(images: images, labels: labels) {
                dataset.fill(batch, images: $0, labels: $1)
            }
        }
        dataset.fill(
            batch, images: images.assumingMemoryBound(to: Float.self),
            labels: labels.assumingMemoryBound(to: Int32.self))
    }

    /// The iteration as the parameter server sees it; mirrors `run`.
    private func record(_ recorder: inout AccessRecorder) {
        let accesses = Network.accesses(
            of: steps, rowBatches: batches.map(\.id), localBatches: locals.map(\.id))
        for access in accesses { recorder.append(access) }
    }
}
