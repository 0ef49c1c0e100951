internal import GeePSCore

/// The rows of one shard and the threads that own them, block by block in turn.
///
/// Blocks know nothing of each other, so threads need no lock between them and any number gives the same bits.
final class Keeper: @unchecked Sendable {
    // Sendable: `capture` is touched by the one who asks for cuts; the rest is constant after init.
    let blocks: [Block]
    let publications: Publications
    private let store: RowStore
    private var capture: ShardCapture?
    private let threads: [KeeperThread]

    init(
        index: Int, configuration: ServerConfiguration, lanesMaximum: Int,
        onFailure: @escaping @Sendable (TransportError, Session) -> Void
    ) throws(RowStoreError) {
        let policy = ApplyPolicy(configuration.staleness)
        let map = configuration.map
        let blocks = map.blocksOfKeeper[index].map { map.blocks[$0] }
        let publications = Publications(
            blockCount: blocks.count, workerCount: configuration.workerCount,
            copies: policy != .aggregated(staleness: 0))
        let store = try RowStore(
            shardMap: map, keeper: index, optimizer: Optimizer(configuration.optimizer))
        if let restored = configuration.restored { try restored.fill(store) }
        self.store = store
        self.blocks = blocks
        self.publications = publications
        threads = (0..<configuration.keeperThreads).map { part in
            KeeperThread(
                part: part, of: configuration.keeperThreads, store: store,
                publications: publications, workerCount: configuration.workerCount,
                policy: policy, lanesMaximum: lanesMaximum,
                restoredTick: configuration.restored?.tick, onFailure: onFailure)
        }
    }

    /// Starts the threads.
    func start() { for thread in threads { thread.start() } }

    /// Hands a frame to the thread of its block; waits while that is behind.
    ///
    /// False when the keeper has stopped. A block that does not exist has a thread too, which refuses it.
    func post(_ frame: consuming ReceivedFrame, from session: Session) -> Bool {
        let part = Int(frame.header.third % UInt64(threads.count))
        return threads[part].post(frame, from: session)
    }

    /// A worker's lane is open.
    func post(joined session: Session) {
        for thread in threads { thread.post(joined: session) }
    }

    /// Copies every block when its `tick` is applied, while all goes on; `onFull` gets the whole.
    ///
    /// The copy of the last cut is used again: nobody may read it any more.
    func cut(
        at tick: UInt64, onFull: @escaping @Sendable (ShardCapture) -> Void
    ) throws(RowStoreError) {
        if capture == nil { capture = try ShardCapture(store) }
        guard let capture else { return }
        capture.begin(tick: tick, onFull: onFull)
        for thread in threads { thread.post(capture) }
    }

    /// Finishes what is in the mailboxes and ends the threads.
    func stop() {
        for thread in threads { thread.stop() }
    }
}
