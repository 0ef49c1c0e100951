internal import GeePSCore

/// The rows of one shard and the threads that own them, block by block in turn.
///
/// Blocks know nothing of each other, so threads need no lock between them and any number gives the same bits.
final class Keeper: Sendable {
    let blocks: [Block]
    let publications: Publications
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
        self.blocks = blocks
        self.publications = publications
        threads = (0..<configuration.keeperThreads).map { part in
            KeeperThread(
                part: part, of: configuration.keeperThreads, store: store,
                publications: publications, workerCount: configuration.workerCount,
                policy: policy, lanesMaximum: lanesMaximum, onFailure: onFailure)
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

    /// Finishes what is in the mailboxes and ends the threads.
    func stop() {
        for thread in threads { thread.stop() }
    }
}
