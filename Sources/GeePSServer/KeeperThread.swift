internal import GeePSCore

/// One of a keeper's threads: adds the workers' updates of its blocks in rank order, runs the optimiser,
/// publishes fresh rows.
///
/// Its blocks are those whose index leaves `part` when divided by `partCount`. Everything here is touched by
/// that thread only; it is reached through its mailbox.
final class KeeperThread: @unchecked Sendable {
    // Sendable: `mailbox` and `publications` are; the rest belongs to this thread.
    enum Event: ~Copyable {
        case frame(ReceivedFrame, Session)
        case joined(Session)
        case halt(Halt)
        case hold(BlockNorms)
        case release(scale: Float?)
    }

    private let keeper: Int
    private let part: Int
    private let partCount: Int
    private let blocks: [Block]
    private let publications: Publications
    private let map: ShardMap
    private let workerCount: Int
    private let policy: ApplyPolicy
    private let mailbox: Mailbox<Event>
    private let onFailure: @Sendable (TransportError, Session) -> Void
    private var thread: DedicatedThread?

    // This thread only; of `store`, the rows of its blocks.
    private var rules: KeeperProtocol
    private let store: RowStore
    private var held: HeldPushes
    private var contributions: [Int]
    private var learningRates: [Double]
    private var sessions: [[Session?]]
    // The two-phase clock: who is told when all blocks wait, and the blocks that do.
    private var norms: BlockNorms?
    private var heldBlocks: [Int] = []
    private var gradientScale: Float? = 1

    init(
        part: Int, of partCount: Int, store: RowStore, publications: Publications,
        workerCount: Int, policy: ApplyPolicy, lanesMaximum: Int,
        onFailure: @escaping @Sendable (TransportError, Session) -> Void
    ) {
        keeper = store.keeper
        self.part = part
        self.partCount = partCount
        self.store = store
        self.publications = publications
        map = store.shardMap
        self.workerCount = workerCount
        self.policy = policy
        self.onFailure = onFailure
        let map = store.shardMap
        blocks = map.blocksOfKeeper[store.keeper].map { map.blocks[$0] }
        rules = KeeperProtocol(
            workerCount: workerCount, blockCount: blocks.count, policy: policy)
        let bytesMaximum = blocks.map { map.byteCount(of: $0) }.max() ?? 0
        held = HeldPushes(
            blockCount: blocks.count, workerCount: workerCount, bytesMaximum: bytesMaximum)
        contributions = Array(repeating: 0, count: blocks.count)
        learningRates = Array(repeating: 0, count: blocks.count)
        sessions = Array(repeating: [], count: workerCount)
        mailbox = Mailbox(
            capacity: max(16, workerCount * lanesMaximum * Limits.framesInMailboxPerLane))
    }

    /// Starts the thread.
    func start() {
        let name = partCount == 1 ? "keeper \(keeper)" : "keeper \(keeper).\(part)"
        thread = DedicatedThread(name: name) { [self] in run() }
    }

    /// Hands a frame over; waits while the keeper is behind.
    ///
    /// False when the keeper has stopped.
    func post(_ frame: consuming ReceivedFrame, from session: Session) -> Bool {
        mailbox.send(.frame(frame, session))
    }

    /// A worker's lane is open.
    func post(joined session: Session) { mailbox.send(.joined(session)) }

    /// Nothing more goes into the mailbox; the thread ends when it is empty.
    func close() { mailbox.close() }

    /// Waits for the thread; after `close`.
    func join() {
        thread?.join()
        thread = nil
    }

    /// Has the thread stand still; false when it has ended.
    func post(_ halt: Halt) -> Bool { mailbox.send(.halt(halt)) }

    /// Lets every block wait before its next step until `release`; false when the thread has ended.
    func hold(_ norms: BlockNorms) -> Bool { mailbox.send(.hold(norms)) }

    /// Lets the blocks go on, with gradients multiplied by `scale`, or dropped when it is nil.
    func release(scale: Float?) { mailbox.send(.release(scale: scale)) }

    private func run() {
        while let event = mailbox.receive() {
            switch consume event {
            case .joined(let session): join(session)
            case .halt(let halt): halt.arrive(store)
            case .hold(let norms):
                self.norms = norms
                tellIfHeld()
            case .release(let scale): release(withScale: scale)
            case .frame(let frame, let session):
                do throws(TransportError) {
                    try take(frame, from: session)
                } catch {
                    onFailure(error, session)
                    session.close()
                }
            }
        }
    }

    private func join(_ session: Session) {
        if sessions[session.worker].count != session.laneCount {
            sessions[session.worker] = Array(repeating: nil, count: session.laneCount)
        }
        sessions[session.worker][session.lane] = session
        for block in ownBlocks
        where block % session.laneCount == session.lane {
            if rules.age(block: block) != nil { session.enqueue(block: block) }
        }
    }

    private func take(_ frame: borrowing ReceivedFrame, from session: Session)
        throws(TransportError)
    {
        let block = try locate(frame.header, payloadBytes: frame.payload.count, from: session)
        switch frame.header.kind {
        case .initialise: try initialise(block, frame: frame, from: session)
        case .push: try push(block, frame: frame, from: session)
        default:
            throw TransportError(
                .malformed,
                "\(session.peer) sent a \(frame.header.kind) frame where a push is expected")
        }
    }

    private func initialise(
        _ block: Int, frame: borrowing ReceivedFrame, from session: Session
    ) throws(TransportError) {
        guard session.worker == 0 else {
            throw TransportError(
                .malformed,
                "\(session.peer) sent initial values; only rank 0 gives them, this is \(session.worker)"
            )
        }
        guard frame.payload.count == map.byteCount(of: blocks[block]) else {
            throw TransportError(
                .malformed,
                "\(session.peer) sent initial values of \(frame.payload.count) bytes, expected "
                    + "\(map.byteCount(of: blocks[block]))")
        }
        guard rules.initialise(block: block) else { return }
        store.initialise(block, from: floats(frame.payload))
        publish(block, to: nil)
    }

    private func push(
        _ block: Int, frame: borrowing ReceivedFrame, from session: Session
    ) throws(TransportError) {
        let header = frame.header
        let learningRate = Double(bitPattern: header.second)
        switch rules.offer(worker: session.worker, block: block, tick: header.tick) {
        case .duplicate: return
        case .hold:
            held.hold(
                block: block, worker: session.worker, payload: frame.payload,
                learningRate: learningRate)
        case .fold:
            let isAlone = (workerCount == 1 && norms == nil) || policy == .onArrival
            if isAlone {
                try step(block, alone: frame.payload, learningRate: learningRate)
                return
            }
            fold(block, frame.payload, learningRate: learningRate, worker: session.worker)
        case .refused(let refusal):
            throw TransportError(
                .malformed,
                "\(session.peer) pushed table \(map.tables[blocks[block].table].name) rows "
                    + "\(blocks[block].rows) at tick \(header.tick): \(refusal)")
        }
        finishReady(block)
    }

    /// Does all steps the rules allow for `block`.
    private func finishReady(_ block: Int) {
        while true {
            if norms != nil, rules.foldedCount(block: block) == workerCount {
                heldBlocks.append(block)
                return tellIfHeld()
            }
            guard let step = rules.next(block: block) else { return }
            switch step {
            case .foldHeld(let worker, _):
                let push = held.take(block: block, worker: worker)
                fold(
                    block, UnsafeRawBufferPointer(push.values ?? .init(start: nil, count: 0)),
                    learningRate: push.learningRate, worker: worker)
                held.recycle(push)
            case .apply:
                if contributions[block] > 0, let gradientScale {
                    store.apply(
                        block, learningRate: learningRates[block], workerCount: workerCount,
                        gradientScale: gradientScale)
                }
                contributions[block] = 0
                publish(block, to: nil)
            case .applyAlone: break  // `step(_:alone:)` takes these
            }
        }
    }

    private var ownBlocks: StrideTo<Int> {
        stride(from: part, to: blocks.count, by: partCount)
    }

    private var ownBlockCount: Int { max(0, blocks.count - part + partCount - 1) / partCount }

    private func tellIfHeld() {
        guard heldBlocks.count == ownBlockCount, let norms else { return }
        for block in ownBlocks where contributions[block] > 0 {
            norms.set(store.squaredNormOfSum(block), of: block)
        }
        norms.threadIsDone()
    }

    private func release(withScale scale: Float?) {
        norms = nil
        gradientScale = scale
        let ready = heldBlocks
        heldBlocks = []
        for block in ready { finishReady(block) }
        gradientScale = 1
    }

    /// One worker's update is all there is to apply: no sum is needed.
    private func step(
        _ block: Int, alone payload: UnsafeRawBufferPointer, learningRate: Double
    ) throws(TransportError) {
        guard let step = rules.next(block: block) else { return }
        switch step {
        case .apply:
            apply(block, payload, learningRate: learningRate)
            publish(block, to: nil)
        case .applyAlone(let worker, _, let raisesAge):
            apply(block, payload, learningRate: learningRate)
            publish(block, to: raisesAge ? nil : worker)
        case .foldHeld: break  // nobody else's push is ever held here
        }
    }

    private func apply(
        _ block: Int, _ payload: UnsafeRawBufferPointer, learningRate: Double
    ) {
        guard !payload.isEmpty else { return }
        store.apply(
            block, gradient: floats(payload), learningRate: learningRate, workerCount: workerCount)
    }

    /// The values of a payload whose length `locate` has checked; carriers align payloads to 64 bytes.
    private func floats(_ payload: UnsafeRawBufferPointer) -> UnsafePointer<Float> {
        guard let start = payload.baseAddress else {
            preconditionFailure("an empty payload has no values")
        }
        return start.assumingMemoryBound(to: Float.self)
    }

    private func fold(
        _ block: Int, _ payload: UnsafeRawBufferPointer, learningRate: Double, worker: Int
    ) {
        // Rank 0's learning rate holds for all: two workers may not disagree about a step.
        if worker == 0 { learningRates[block] = learningRate }
        guard !payload.isEmpty else { return }
        store.fold(
            block, contribution: floats(payload), isFirst: contributions[block] == 0)
        contributions[block] += 1
    }

    /// Offers the rows of `block` to `worker`, or to all.
    private func publish(_ block: Int, to worker: Int?) {
        publications.publish(
            block: block, rows: UnsafeRawBufferPointer(store.values(block)),
            age: rules.age(block: block) ?? 0,
            received: { rules.received(block: block, from: $0) })
        if let worker {
            enqueue(block, worker: worker)
        } else {
            // Rotates who is served first, so that no worker is always last (GeePS b.4).
            let first = Int(truncatingIfNeeded: rules.age(block: block) ?? 0) % workerCount
            for offset in 0..<workerCount { enqueue(block, worker: (first + offset) % workerCount) }
        }
    }

    private func enqueue(_ block: Int, worker: Int) {
        let lanes = sessions[worker]
        guard !lanes.isEmpty else { return }
        lanes[block % lanes.count]?.enqueue(block: block)
    }

    /// The block a frame speaks of; every field is checked against the shard map.
    private func locate(
        _ header: FrameHeader, payloadBytes: Int, from session: Session
    ) throws(TransportError) -> Int {
        guard header.third < UInt64(blocks.count),
            Int(header.third) % session.laneCount == session.lane
        else {
            throw TransportError(
                .malformed, "\(session.peer) sent block \(header.third), which is not of this lane")
        }
        let block = blocks[Int(header.third)]
        let bytes = map.byteCount(of: block)
        guard header.table == UInt32(block.table), header.firstRow == UInt64(block.rows.lowerBound),
            Int(header.rowCount) == block.rows.count, payloadBytes == 0 || payloadBytes == bytes
        else {
            throw TransportError(
                .malformed,
                "\(session.peer) sent table \(header.table) rows \(header.firstRow)+\(header.rowCount) "
                    + "in \(payloadBytes) bytes for block \(header.third) of keeper \(keeper), expected "
                    + "table \(block.table) rows \(block.rows) in 0 or \(bytes)")
        }
        return Int(header.third)
    }
}
