import GeePS
import GeePSCore

/// Sums over all ranks, one after another, on a thread of its own: they cost training nothing as long as it does
/// not ask for a result before the others have come as far.
///
/// `begin` and `finish` take turns and belong to one thread; in between no other collective may be called.
final class Rounds: @unchecked Sendable {
    // Sendable: the mailboxes and the membership are; `thread` is written before `init` returns.
    private let questions = Mailbox<[Double]>(capacity: 1)
    private let answers = Mailbox<Result<[Double], LaunchError>>(capacity: 1)
    private var thread: DedicatedThread?

    /// How long a round waits for the slowest rank.
    private static let patience = Duration.seconds(600)

    init(_ membership: Membership) {
        thread = DedicatedThread(name: "agree") { [questions, answers] in
            while let values = questions.receive() {
                do throws(LaunchError) {
                    let sum = try membership.sum(
                        values, label: "checkpoint", deadline: .after(Self.patience))
                    answers.send(.success(sum))
                } catch {
                    answers.send(.failure(error))
                }
            }
        }
    }

    /// Takes part in the next round.
    func begin(_ values: [Double]) { questions.send(values) }

    /// Waits for the result of the round that was begun.
    func finish() throws(LaunchError) -> [Double] {
        guard let answer = answers.receive() else {
            throw LaunchError(.left, "this process has left the job")
        }
        return try answer.get()
    }

    /// Ends the thread; a round that waits must end first, by its result or a failure.
    func close() {
        questions.close()
        answers.close()
        thread?.join()
        thread = nil
    }
}
