internal import GeePSCore

/// A worker's lane as its keeper sees it: a reader that feeds the keeper's mailbox and a writer
/// that sends what is published.
///
/// Neither ever makes the keeper's thread wait for a slow worker.
final class Session: @unchecked Sendable {
    // Sendable: `state` is guarded by `signal`; the rest is constant after `start`.
    let worker: Int
    let lane: Int
    let laneCount: Int
    let keeper: Int
    private let connection: any Connection
    private let blocks: [Block]
    private let publications: Publications
    private let signal = Signal()
    private var state: State
    private var reader: DedicatedThread?
    private var writer: DedicatedThread?

    private struct State {
        var queue: [Int] = []
        var queueHead = 0
        var isQueued: [Bool]
        var isEnding = false
        var hasSaidGoodbye = false
    }

    init(
        worker: Int, lane: Int, laneCount: Int, keeper: Int, connection: any Connection,
        blocks: [Block], publications: Publications
    ) {
        self.worker = worker
        self.lane = lane
        self.laneCount = laneCount
        self.keeper = keeper
        self.connection = connection
        self.blocks = blocks
        self.publications = publications
        state = State(isQueued: Array(repeating: false, count: blocks.count))
    }

    var peer: String { connection.peer }

    /// Starts both threads.
    ///
    /// `onFrame` gets every frame but the goodbye, and may wait; `onFailure` is called by the
    /// thread that finds the connection broken.
    func start(
        onFrame: @escaping @Sendable (consuming ReceivedFrame, Session) -> Bool,
        onFailure: @escaping @Sendable (TransportError, Session) -> Void
    ) {
        reader = DedicatedThread(name: "keep<\(worker).\(lane)") { [self] in
            do throws(TransportError) {
                while true {
                    let frame = try connection.receive(deadline: nil)
                    if frame.header.kind == .goodbye { break }
                    guard onFrame(frame, self) else { break }
                }
                signal.withLock {
                    state.hasSaidGoodbye = true
                    signal.wakeAll()
                }
            } catch {
                if !hasEnded { onFailure(error, self) }
            }
        }
        writer = DedicatedThread(name: "keep>\(worker).\(lane)") { [self] in
            do throws(TransportError) {
                while let block = nextBlock() { try send(block) }
                try connection.send(
                    FrameHeader(.goodbye), payload: UnsafeRawBufferPointer(start: nil, count: 0))
            } catch {
                if !hasEnded { onFailure(error, self) }
            }
        }
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

    /// Waits for both threads; after `close`.
    func join() {
        reader?.join()
        writer?.join()
    }

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
