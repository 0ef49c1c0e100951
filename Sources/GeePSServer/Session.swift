internal import GeePSCore

/// One connection of a worker's lane as its keeper sees it: a reader that feeds the keeper's mailbox and a writer
/// that sends what is published.
///
/// It begins with both sides' resume points. Neither thread ever makes the keeper's wait for a slow worker.
final class Session: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`; `points` is written by the reader before the keeper's threads hear
    // of the session; the rest is constant.
    let worker: Int
    let lane: Int
    let laneCount: Int
    let keeper: Int
    /// Higher than those of the lane's earlier connections.
    let number: UInt32
    private let connection: any Connection
    private let blocks: [Block]
    private let publications: Publications
    // By block of the lane, what the worker has.
    private var points: [ResumePoint] = []
    private let signal = Signal()
    private var state: State

    private struct State {
        var queue: [Int] = []
        var queueHead = 0
        var isQueued: [Bool]
        var isEnding = false
        var hasSaidGoodbye = false
        // By block of the lane, what the keeper has; how many of its threads have said so.
        var answer: [ResumePoint]
        var answers = 0
        var isAnswered = false
        // The session that this one takes the place of, until its threads have ended.
        var predecessor: Session?
        var threads: [DedicatedThread] = []
        var threadsRunning = 0
    }

    init(
        worker: Int, lane: Int, laneCount: Int, keeper: Int, number: UInt32,
        connection: any Connection, blocks: [Block], publications: Publications
    ) {
        self.worker = worker
        self.lane = lane
        self.laneCount = laneCount
        self.keeper = keeper
        self.number = number
        self.connection = connection
        self.blocks = blocks
        self.publications = publications
        let ownBlocks = stride(from: lane, to: blocks.count, by: laneCount)
        state = State(
            isQueued: Array(repeating: false, count: blocks.count),
            answer: ownBlocks.map { _ in ResumePoint(age: nil, tick: 0) })
    }

    var peer: String { connection.peer }

    /// Starts both threads, unless the session was closed before.
    ///
    /// `onResume` is called once the worker has said what it has, before the first frame. `onFrame` gets every
    /// further frame but the goodbye, and may wait; `onFailure` is called by the thread that finds the connection
    /// broken.
    func start(
        onResume: @escaping @Sendable (Session) -> Void,
        onFrame: @escaping @Sendable (consuming ReceivedFrame, Session) -> Bool,
        onFailure: @escaping @Sendable (TransportError, Session) -> Void
    ) {
        signal.withLock {
            guard !state.isEnding else { return }
            run("keep<", onFailure) { [self] () throws(TransportError) in
                try takeResumePoints(try connection.receive(deadline: nil))
                onResume(self)
                while true {
                    let frame = try connection.receive(deadline: nil)
                    if frame.header.kind == .goodbye { break }
                    guard onFrame(frame, self) else { break }
                }
                signal.withLock {
                    state.hasSaidGoodbye = true
                    signal.wakeAll()
                }
            }
            run("keep>", onFailure) { [self] () throws(TransportError) in
                try sendResumePoints()
                while let block = nextBlock() { try send(block) }
                try connection.send(FrameHeader(.goodbye), bytes: [])
            }
        }
    }

    // With the signal held.
    private func run(
        _ name: String, _ onFailure: @escaping @Sendable (TransportError, Session) -> Void,
        _ body: @escaping @Sendable () throws(TransportError) -> Void
    ) {
        state.threadsRunning += 1
        let thread = DedicatedThread(name: "\(name)\(worker).\(lane)") { [self] in
            do throws(TransportError) {
                try body()
            } catch {
                if !hasEnded { onFailure(error, self) }
            }
            signal.withLock {
                state.threadsRunning -= 1
                signal.wakeAll()
            }
        }
        state.threads.append(thread)
    }

    /// The newest rows of `block` should go to this worker; returns at once.
    func enqueue(block: Int) {
        signal.withLock {
            guard !state.isQueued[block], !state.isEnding else { return }
            state.isQueued[block] = true
            state.queue.append(block)
            signal.wakeAll()
        }
    }

    /// Whether nothing more is expected from or owed to the worker.
    var hasEnded: Bool { signal.withLock { state.isEnding || state.hasSaidGoodbye } }

    /// Breaks the connection; both threads end.
    func close() {
        signal.withLock {
            state.isEnding = true
            signal.wakeAll()
        }
        connection.close()
    }

    /// Waits for both threads, and for those of the sessions before this one; after `close`.
    ///
    /// Bounded by the keeper, which takes what the readers have read. Several may wait.
    func join() {
        let predecessor = signal.withLock { state.predecessor }
        predecessor?.join()
        let threads = signal.withLock {
            state.predecessor = nil
            while state.threadsRunning > 0 { _ = signal.wait() }
            return state.threads
        }
        for thread in threads { thread.join() }
    }

    /// This session takes the place of `other`; `endPredecessor` ends it.
    func follow(_ other: Session) { signal.withLock { state.predecessor = other } }

    /// Ends the session before this one, so that nothing of it comes after what this one brings.
    ///
    /// Before `start`; waits as `join` does.
    func endPredecessor() {
        guard let predecessor = signal.withLock({ state.predecessor }) else { return }
        predecessor.close()
        predecessor.join()
        signal.withLock { state.predecessor = nil }
    }

    // MARK: Resume points

    /// What the worker has said that it has of `block`, which is of this lane.
    func resumePoint(ofBlock block: Int) -> ResumePoint { points[block / laneCount] }

    /// One of the keeper's `threadCount` threads says what it has of its blocks of this lane.
    func answer(_ part: [(block: Int, point: ResumePoint)], of threadCount: Int) {
        signal.withLock {
            for (block, point) in part { state.answer[block / laneCount] = point }
            state.answers += 1
            guard state.answers == threadCount else { return }
            state.isAnswered = true
            signal.wakeAll()
        }
    }

    private func takeResumePoints(_ frame: consuming ReceivedFrame) throws(TransportError) {
        let count = signal.withLock { state.answer.count }
        guard frame.header.kind == .resume,
            let points = ResumePoint.decode(frame.payload, count: count)
        else {
            throw TransportError(
                .malformed,
                "\(peer) began by a \(frame.header.kind) frame of \(frame.payload.count) bytes, expected "
                    + "the resume points of \(count) blocks in \(count * ResumePoint.byteCount)")
        }
        self.points = points
    }

    private func sendResumePoints() throws(TransportError) {
        let answer: [ResumePoint]? = signal.withLock {
            while !state.isAnswered, !state.isEnding { _ = signal.wait() }
            return state.isAnswered ? state.answer : nil
        }
        guard let answer else { return }
        var header = FrameHeader(.resume)
        header.sender = UInt32(keeper)
        try connection.send(header, bytes: ResumePoint.encode(answer))
    }

    // MARK: Rows

    private func nextBlock() -> Int? {
        signal.lock()
        defer { signal.unlock() }
        while state.queueHead == state.queue.count {
            state.queue.removeAll(keepingCapacity: true)
            state.queueHead = 0
            guard !state.isEnding, !state.hasSaidGoodbye else { return nil }
            _ = signal.wait()
        }
        let block = state.queue[state.queueHead]
        state.queueHead += 1
        state.isQueued[block] = false
        return block
    }

    private func send(_ index: Int) throws(TransportError) {
        guard let (version, age, received) = publications.begin(block: index, worker: worker) else {
            return
        }
        defer { publications.end(version) }
        let block = blocks[index]
        var header = FrameHeader(.rows)
        header.table = UInt32(block.table)
        header.sender = UInt32(keeper)
        header.firstRow = UInt64(block.rows.lowerBound)
        header.rowCount = UInt32(block.rows.count)
        header.tick = age
        header.second = received
        header.third = UInt64(index)
        try connection.send(header, payload: UnsafeRawBufferPointer(version.rows))
    }
}
