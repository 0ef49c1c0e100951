/// The first thing that went wrong with a process of the job; every process reports the same one.
public struct PeerFailure: Hashable, Sendable, CustomStringConvertible {
    /// How it was noticed.
    ///
    /// Numbers travel (docs/formats/control.md).
    public enum Kind: UInt8, Sendable, CaseIterable {
        /// Its control connection closed without a goodbye: the process or its machine died.
        case closed = 1
        /// Nothing was heard from it for too long: it is stopped, or the network is cut.
        case silent = 2
        /// It gave up and said why.
        case aborted = 3
        /// It sent what the control format forbids.
        case malformed = 4
        /// Rank 0 ended before the others had finished; without it there is no control plane.
        case leftEarly = 5
    }

    /// Who failed.
    public var rank: Int
    /// How it was noticed.
    public var kind: Kind
    /// silent: for how long.
    ///
    /// aborted: the reason given. malformed: what was wrong. leftEarly: for whom it had waited.
    /// Otherwise empty.
    public var detail: String
    /// The host of the process that failed.
    public var host: String
    /// Its process id there.
    public var pid: UInt32

    init(_ news: FailureNews, of process: ProcessDescription) {
        rank = news.rank
        kind = news.kind
        detail = news.detail
        host = process.host
        pid = process.pid
    }

    /// One sentence: "rank 2 (node7, pid 1234) is gone: its connection closed without a goodbye".
    public var description: String {
        let name = "rank \(rank) (\(host), pid \(pid))"
        switch kind {
        case .closed: return "\(name) is gone: its connection closed without a goodbye"
        case .silent: return "\(name) has been silent for \(detail)"
        case .aborted: return "\(name) failed: \(detail)"
        case .malformed: return "\(name) sent what the control format forbids: \(detail)"
        case .leftEarly: return "\(name) left before the others had finished: \(detail)"
        }
    }
}

/// A failure as it travels; host and process id are known from the roster.
struct FailureNews: Hashable, Sendable {
    var rank: Int
    var kind: PeerFailure.Kind
    var detail: String

    init(rank: Int, kind: PeerFailure.Kind, detail: String = "") {
        self.rank = rank
        self.kind = kind
        self.detail = detail
    }
}
