internal import GeePSCore
import Synchronization

/// Asks the processes of a running job where they stand.
public struct StatusQuery: Sendable {
    /// The environment's variable with the directory of a job's status sockets.
    public static let variable = "GEEPS_STATUS_DIR"

    /// What has come of it.
    public struct Answer: Sendable {
        /// Where those stand that have answered, in rank order.
        public var statuses: [ProcessStatus] = []
        /// Ranks whose process took the call but did not answer: it is stopped, or its machine is overloaded.
        public var silent: [Int] = []
        /// What came that was no answer.
        public var problems: [String] = []

        /// Whether somebody is there.
        public var isAlive: Bool { !statuses.isEmpty || !silent.isEmpty }

        /// Nobody has answered yet.
        public init() {}
    }

    private let directory: String

    /// A job whose sockets are in `directory`.
    public init(directory: String) { self.directory = directory }

    /// Asks all that have a socket here at once, and rank 0 also for those on other machines.
    ///
    /// Waits for the slowest, at most `patience`.
    public func ask(patience: Duration = .seconds(2)) -> Answer {
        guard let sockets = try? StatusDirectory(directory) else { return Answer() }
        let deadline = Deadline.after(patience)
        let box = ReplyBox()
        let threads = sockets.ranks.map { rank in
            DedicatedThread(name: "ask \(rank)") {
                box.add(rank, Self.ask(rank, sockets, deadline))
            }
        }
        for thread in threads { thread.join() }
        return box.answer
    }

    private enum Reply: Sendable {
        case nobody
        case silence
        case nonsense(String)
        case statuses([ProcessStatus])
    }

    private static func ask(
        _ rank: Int, _ sockets: StatusDirectory, _ deadline: Deadline
    ) -> Reply {
        guard let peer = sockets.connect(to: rank) else { return .nobody }
        let question: StatusMessage.Question = rank == 0 ? .all : .own
        StatusMessage.send([question.rawValue], to: peer, until: deadline)
        guard
            let bytes = StatusMessage.receive(
                ProcessStatus.bytesMaximum, from: peer, until: deadline)
        else { return .silence }
        // It has ended between our call and its answer.
        guard !bytes.isEmpty else { return .nobody }
        do throws(ByteError) {
            return .statuses(try StatusMessage.statuses(bytes))
        } catch {
            return .nonsense("the answer of rank \(rank): \(error)")
        }
    }

    /// Collects what the callers have heard.
    private final class ReplyBox: Sendable {
        private let replies = Mutex<[Int: Reply]>([:])

        func add(_ rank: Int, _ reply: Reply) { replies.withLock { $0[rank] = reply } }

        var answer: Answer {
            var answer = Answer()
            var byRank: [Int: ProcessStatus] = [:]
            let replies = replies.withLock { $0 }
            for rank in replies.keys.sorted() {
                switch replies[rank] {
                case .silence: answer.silent.append(rank)
                case .nonsense(let problem): answer.problems.append(problem)
                case .statuses(let statuses):
                    for status in statuses { byRank[status.rank] = status }
                case .nobody, nil: break
                }
            }
            answer.silent.removeAll { byRank[$0] != nil }
            answer.statuses = byRank.keys.sorted().compactMap { byRank[$0] }
            return answer
        }
    }
}
