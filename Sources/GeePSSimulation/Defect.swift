/// A mistake planted into the simulated shells around the protocol machines, to show that the
/// checkers would see it.
///
/// None is in the code that ships.
public enum Defect: String, CaseIterable, Sendable {
    /// The keeper adds a push again that it was told is a duplicate.
    case replayAppliedTwice
    /// After a reconnect the worker sends what is new before what was lost.
    case newPushesOvertakeReplay
    /// The worker sends nothing again after a reconnect.
    case pushesNotReplayed
    /// A read waits for the freshest block of its table instead of the oldest.
    case ageRaisedBeforeLastBlock
    /// A read accepts rows one tick older than its staleness allows.
    case readIgnoresStaleness
    /// The keeper publishes the next age when one worker is still missing.
    case publishedBeforeLastWorker
    /// The keeper adds contributions as they come, not by rank.
    case foldedInArrivalOrder
    /// The keeper loses the payload of a push whose turn has not come.
    case heldPushesForgotten
    /// The keeper adds the first contribution of a tick to the sum of the tick before.
    case sumNotReplaced
    /// The worker reuses an update log entry before the keeper acknowledged it.
    case logReusedBeforeAcknowledgement
    /// The keeper does not send its rows to a worker that comes back.
    case reconnectWithoutRepublish
    /// The keeper sends rows to a worker that comes back though it has them.
    case rowsSentTwice
    /// The worker stores rows that are not news.
    case olderRowsOverwriteNewer
    /// Rank 0 sends the initial values once only.
    case initialValuesNotResent
    /// The keeper takes initial values that came a second time.
    case initialValuesTakenTwice
    /// An asynchronous keeper tells only the sender when the slowest worker has moved.
    case raisedAgeNotPublished
    /// Frames from before a rollback are taken as if they were of this generation.
    case oldGenerationAccepted
    /// A checkpoint counts as complete when the first block is in it.
    case rolledBackToIncompleteCheckpoint
}
