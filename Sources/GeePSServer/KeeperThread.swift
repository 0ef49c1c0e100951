internal import GeePSCore

/// One of a keeper's threads: adds the workers' updates of its blocks in rank order, runs the optimiser,
/// publishes fresh rows.
///
/// Its blocks are those whose index leaves `part` when divided by `partCount`. Everything here is touched by
/// that thread only; it is reached through its mailbox. In place there is no thread: whoever posts an event runs it
/// himself, when it is his turn (decision 0005).
final class KeeperThread: @unchecked Sendable {
    // Sendable: `mailbox` and `publications` are; the rest belongs to this thread, or to whose turn it is.
    enum Event: ~Copyable {
        /// When it came, too.
        case frame(ReceivedFrame, Session, nanoseconds: UInt64)
        case joined(Session)
        case cut(ShardCapture)
        case halt(Halt)
        case hold(BlockNorms)
        case release(scale: Float?)
    }

    private let keeper: Int
    private let part: Int
    private let partCount: Int
    private let blocks: [Block]
    private let publications: Publications
    private let board: KeeperBoard
    private let ledger: WaitLedger
    private let map: ShardMap
    private let workerCount: Int
    private let policy: ApplyPolicy
    private let mailbox: Mailbox<Event>
    private let onFailure: @Sendable (TransportError, Session) -> Void
    private var thread: DedicatedThread?
    // In place: held by who runs an event; whether events are over, and who uses the rows, under it.
    private let isInPlace: Bool
    private let turn = Signal()
    private var isOver = false
    private var user: (any RowUser)?

    // This thread only; of `store`, the rows of its blocks.
    private var rules: KeeperProtocol
    private let store: RowStore
    private var held: HeldPushes
    private var times: ArrivalTimes
    private var contributions: [Int]
    private var learningRates: [Double]
    private var sessions: [[Session?]]
    // The copy that is being made and how many blocks it still wants; let go with the last.
    private var capture: ShardCapture?
    private var blocksToCapture = 0
    // The two-phase clock: who is told when all blocks wait, and the blocks that do.
    private var norms: BlockNorms?
    private var heldBlocks: [Int] = []
    private var gradientScale: Float? = 1

    /// - Parameter restoredTick: the tick that `store` is at; nil where it waits for initial values.
    init(
        part: Int, of partCount: Int, store: RowStore, publications: Publications,
        board: KeeperBoard, ledger: WaitLedger,
        workerCount: Int, policy: ApplyPolicy, lanesMaximum: Int, restoredTick: UInt64?,
        isInPlace: Bool, onFailure: @escaping @Sendable (TransportError, Session) -> Void
    ) {
        keeper = store.keeper
        self.part = part
        self.partCount = partCount
        self.store = store
        self.publications = publications
        self.board = board
        self.ledger = ledger
        map = store.shardMap
        self.workerCount = workerCount
        self.policy = policy
        self.isInPlace = isInPlace
        self.onFailure = onFailure
        let map = store.shardMap
        blocks = map.blocksOfKeeper[store.keeper].map { map.blocks[$0] }
        rules =
            if let restoredTick {
                KeeperProtocol(
                    workerCount: workerCount, blockCount: blocks.count, policy: policy,
                    restoredAt: restoredTick)
            } else {
                KeeperProtocol(
                    workerCount: workerCount, blockCount: blocks.count, policy: policy)
            }
        let bytesMaximum = blocks.map { map.byteCount(of: $0) }.max() ?? 0
        held = HeldPushes(
            blockCount: blocks.count, workerCount: workerCount, bytesMaximum: bytesMaximum)
        times = ArrivalTimes(
            blockCount: (blocks.count + partCount - 1) / partCount, workerCount: workerCount,
            policy: policy)
        contributions = Array(repeating: 0, count: blocks.count)
        learningRates = Array(repeating: 0, count: blocks.count)
        sessions = Array(repeating: [], count: workerCount)
        mailbox = Mailbox(
            capacity: max(16, workerCount * lanesMaximum * Limits.framesInMailboxPerLane))
    }

    /// Starts the thread, where there is one.
    func start() {
        guard !isInPlace else { return }
        let name = partCount == 1 ? "keeper \(keeper)" : "keeper \(keeper).\(part)"
        thread = DedicatedThread(name: name) { [self] in run() }
    }

    /// Hands a frame over; waits while the keeper is behind.
    ///
    /// False when the keeper has stopped.
    func post(_ frame: consuming ReceivedFrame, from session: Session) -> Bool {
        post(.frame(frame, session, nanoseconds: monotonicNanoseconds()))
    }

    /// A worker has said what it has of the blocks of a lane.
    func post(joined session: Session) { _ = post(.joined(session)) }

    /// Has each block copied into `capture` as soon as its tick is applied; a tick that is over is now.
    func post(_ capture: ShardCapture) { _ = post(.cut(capture)) }

    /// Nothing more goes into the mailbox; the thread ends when it is empty.
    func close() {
        mailbox.close()
        turn.withLock { isOver = true }
    }

    /// Waits for the thread; after `close`.
    func join() {
        thread?.join()
        thread = nil
    }

    /// Has the thread stand still; false when it has ended.
    func post(_ halt: Halt) -> Bool { post(.halt(halt)) }

    /// Lets every block wait before its next step until `release`; false when the thread has ended.
    func hold(_ norms: BlockNorms) -> Bool { post(.hold(norms)) }

    /// Lets the blocks go on, with gradients multiplied by `scale`, or dropped when it is nil.
    func release(scale: Float?) { _ = post(.release(scale: scale)) }

    private func post(_ event: consuming Event) -> Bool {
        guard isInPlace else { return mailbox.send(event) }
        turn.lock()
        defer { turn.unlock() }
        guard !isOver else { return false }
        run(event)
        return true
    }

    private func run() {
        // Restored rows wait for those who join.
        for block in ownBlocks where rules.age(block: block) != nil { publish(block, to: nil) }
        while let event = mailbox.receive() { run(event) }
    }

    private func run(_ event: consuming Event) {
        switch consume event {
        case .joined(let session): join(session)
        case .cut(let capture):
            blocksToCapture = ownBlockCount
            self.capture = blocksToCapture == 0 ? nil : capture
            for block in ownBlocks { captureIfDue(block) }
        case .halt(let halt): halt.arrive(store)
        case .hold(let norms):
            self.norms = norms
            tellIfHeld()
        case .release(let scale): release(withScale: scale)
        case .frame(let frame, let session, let nanoseconds):
            do throws(TransportError) {
                try take(frame, from: session, at: nanoseconds)
            } catch {
                onFailure(error, session)
                session.close()
            }
        }
    }

    // MARK: In place

    /// Who uses the rows; before anything is posted.
    func setUser(_ user: any RowUser) { turn.withLock { self.user = user } }

    /// Gives a block its initial values.
    func initialise(_ block: Int, from values: UnsafePointer<Float>) {
        turn.withLock {
            guard !isOver, rules.initialise(block: block) else { return }
            change(block...block) { store.initialise(block, from: values) }
            publish(block, to: nil)
        }
    }

    /// Takes the only worker's update of some blocks, from where it lies; `crew` helps with their steps.
    func take(
        _ pieces: [GradientPiece]?, of blocks: [Int], tick: UInt64, learningRate: Double,
        with crew: Crew
    ) {
        turn.withLock {
            guard !isOver else { return }
            for block in blocks { accept(block, tick: tick) }
            if norms == nil {
                step(blocks, by: pieces, learningRate: learningRate, with: crew)
                for block in blocks { endStep(block) }
            } else {
                for block in blocks { hold(block, pieces, learningRate: learningRate) }
            }
        }
    }

    /// Steps all blocks of a table; rows that somebody else has written count as changed, too.
    private func step(
        _ blocks: [Int], by pieces: [GradientPiece]?, learningRate: Double, with crew: Crew
    ) {
        guard let first = blocks.first, let last = blocks.last else { return }
        change(first...last) {
            guard let pieces else { return }
            crew.perform(count: blocks.count) { [store] index in
                store.apply(
                    blocks[index], pieces: pieces, learningRate: learningRate, workerCount: 1)
            }
        }
    }

    /// Runs `body`, which changes the rows of blocks of one table, while nobody reads them.
    private func change(_ range: ClosedRange<Int>, _ body: () -> Void) {
        guard let user else { return body() }
        let (first, last) = (blocks[range.lowerBound], blocks[range.upperBound])
        user.change(first.table, rows: first.rows.lowerBound..<last.rows.upperBound, body)
    }

    private func accept(_ block: Int, tick: UInt64) {
        let answer = rules.offer(worker: 0, block: block, tick: tick)
        guard case .fold = answer else {
            preconditionFailure("the only worker's tick \(tick) of block \(block): \(answer)")
        }
        board.show(block: block, worker: 0, tick: tick, at: monotonicNanoseconds())
    }

    private func endStep(_ block: Int) {
        guard case .apply? = rules.next(block: block) else {
            preconditionFailure("block \(block) has its only worker's update and no step")
        }
        publish(block, to: nil)
    }

    private func hold(_ block: Int, _ pieces: [GradientPiece]?, learningRate: Double) {
        learningRates[block] = learningRate
        if let pieces {
            store.fold(block, pieces: pieces, isFirst: contributions[block] == 0)
            contributions[block] += 1
        }
        finishReady(block)
    }

    // MARK: Frames

    private func join(_ session: Session) {
        if sessions[session.worker].count != session.laneCount {
            sessions[session.worker] = Array(repeating: nil, count: session.laneCount)
        }
        sessions[session.worker][session.lane] = session
        let blocks = ownBlocks.filter { $0 % session.laneCount == session.lane }
        session.answer(
            blocks.map { ($0, rules.resumePoint(block: $0, worker: session.worker)) }, of: partCount
        )
        for block in blocks
        where rules.owesRows(
            block: block, to: session.worker, having: session.resumePoint(ofBlock: block))
        {
            session.enqueue(block: block)
        }
    }

    private func take(
        _ frame: borrowing ReceivedFrame, from session: Session, at nanoseconds: UInt64
    ) throws(TransportError) {
        let block = try locate(frame.header, payloadBytes: frame.payload.count, from: session)
        switch frame.header.kind {
        case .initialise: try initialise(block, frame: frame, from: session)
        case .push: try push(block, frame: frame, from: session, at: nanoseconds)
        case .waited: tellApart(frame.header, block: block, worker: session.worker)
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
        _ block: Int, frame: borrowing ReceivedFrame, from session: Session, at nanoseconds: UInt64
    ) throws(TransportError) {
        let header = frame.header
        let learningRate = Double(bitPattern: header.second)
        switch rules.offer(worker: session.worker, block: block, tick: header.tick) {
        case .duplicate: return
        case .hold:
            note(header, block: block, worker: session.worker, at: nanoseconds)
            held.hold(
                block: block, worker: session.worker, payload: frame.payload,
                learningRate: learningRate)
        case .fold:
            note(header, block: block, worker: session.worker, at: nanoseconds)
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
                change(block...block) {
                    guard contributions[block] > 0, let gradientScale else { return }
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

    private func captureIfDue(_ block: Int) {
        guard let capture, let age = rules.age(block: block), age >= capture.tick,
            capture.take(block)
        else { return }
        blocksToCapture -= 1
        if blocksToCapture == 0 { self.capture = nil }
    }

    /// Offers the rows of `block` to `worker`, or to all.
    private func publish(_ block: Int, to worker: Int?) {
        captureIfDue(block)
        let age = rules.age(block: block) ?? 0
        board.show(block: block, age: age)
        if isInPlace {
            let place = blocks[block]
            let number = place.index - map.blocksOfTable[place.table].lowerBound
            user?.noteFresh(place.table, block: number, age: age)
            return
        }
        times.notePublished(block: block / partCount, tick: age, at: monotonicNanoseconds())
        publications.publish(
            block: block, rows: UnsafeRawBufferPointer(store.values(block)),
            age: age, received: { rules.received(block: block, from: $0) })
        if let worker {
            enqueue(block, worker: worker)
        } else {
            // Rotates who is served first, so that no worker is always last (GeePS b.4).
            let first = Int(truncatingIfNeeded: age) % workerCount
            for offset in 0..<workerCount { enqueue(block, worker: (first + offset) % workerCount) }
        }
    }

    // MARK: Who waits for whom

    private func note(_ header: FrameHeader, block: Int, worker: Int, at nanoseconds: UInt64) {
        board.show(block: block, worker: worker, tick: header.tick, at: nanoseconds)
        times.note(
            block: block / partCount, worker: worker, tick: header.tick, at: nanoseconds,
            busyMicroseconds: header.busyMicroseconds)
    }

    private func tellApart(_ header: FrameHeader, block: Int, worker: Int) {
        let split = times.split(
            block: block / partCount, worker: worker, tick: header.tick, header.notice)
        if let split { ledger.add(split, of: worker) }
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
        guard header.blockInKeeper < UInt64(blocks.count),
            Int(header.blockInKeeper) % session.laneCount == session.lane
        else {
            throw TransportError(
                .malformed,
                "\(session.peer) sent block \(header.blockInKeeper), which is not of this lane")
        }
        let block = blocks[Int(header.blockInKeeper)]
        let bytes = map.byteCount(of: block)
        guard header.table == UInt32(block.table), header.firstRow == UInt64(block.rows.lowerBound),
            Int(header.rowCount) == block.rows.count, payloadBytes == 0 || payloadBytes == bytes
        else {
            throw TransportError(
                .malformed,
                "\(session.peer) sent table \(header.table) rows \(header.firstRow)+\(header.rowCount) "
                    + "in \(payloadBytes) bytes for block \(header.blockInKeeper) of keeper \(keeper), expected "
                    + "table \(block.table) rows \(block.rows) in 0 or \(bytes)")
        }
        return Int(header.blockInKeeper)
    }
}
