import CGeePSShims
import GeePSCore
import Glibc

/// Runs the processes of a job on this machine and ends when all have ended.
///
/// Rank 0 has the supervisor's own output; the lines of the others go to the log with their rank. A signal
/// is passed on to all, a second one kills them. When one fails the others get `grace` to notice by
/// themselves, then they are killed. The thread that runs it must outlive it: the kernel kills the
/// processes when that thread ends.
struct Supervisor {
    /// How a job ended.
    struct Outcome: Hashable, Sendable {
        /// Of the rank that failed first; 0 when none did.
        var exitCode: Int32
        /// That rank.
        var failedRank: Int?
        /// By rank.
        var ends: [ProcessEnd]
        /// The last signal that was passed on to the ranks.
        var signal: Int32?
    }

    private struct Rank {
        var process: ChildProcess
        /// Read end of the pipe with its output; nil for rank 0 and after its end.
        var output: Int32?
        var lines: LinePrefixer
        /// Whether the supervisor ended it, so that its end is no news.
        var wasKilled = false
    }

    private let grace: Duration
    private let signals: Int32
    private let log: (String) -> Void
    private let onFirstFailure: (Int, ChildProcess) -> Void
    private var ranks: [Rank] = []
    /// In the order seen, without those that were killed.
    private var failures: [Int] = []
    private var deadline: Deadline?
    private var signal: Int32?

    /// A supervisor.
    ///
    /// - Parameters:
    ///   - grace: what is left to the others after the first failure; enough for the silence of a peer
    ///     to be noticed, and so short that all end within ten seconds.
    ///   - signals: a non-blocking descriptor with a byte for each signal received.
    ///   - onFirstFailure: called with the rank that failed first and its process, while others run.
    ///   - log: takes whole lines.
    init(
        grace: Duration = .seconds(8), signals: Int32,
        onFirstFailure: @escaping (Int, ChildProcess) -> Void = { _, _ in },
        log: @escaping (String) -> Void
    ) {
        self.grace = grace
        self.signals = signals
        self.onFirstFailure = onFirstFailure
        self.log = log
    }

    /// Starts one process a rank and waits for all.
    ///
    /// - Parameters:
    ///   - output: standard output of rank 0.
    ///   - error: standard error of rank 0.
    /// - Throws: `CLIError` when a process cannot be started; those already running are killed.
    mutating func run(
        _ commands: [ProcessCommand], output: Int32 = STDOUT_FILENO, error: Int32 = STDERR_FILENO
    ) throws(CLIError) -> Outcome {
        do {
            for (rank, command) in commands.enumerated() {
                ranks.append(try Self.start(command, rank: rank, output: output, error: error))
            }
        } catch {
            killAll()
            while ranks.contains(where: { $0.process.end == nil }) { step() }
            throw error
        }
        while ranks.contains(where: { $0.process.end == nil }) { step() }
        return outcome()
    }

    private static func start(
        _ command: ProcessCommand, rank: Int, output: Int32, error: Int32
    ) throws(CLIError) -> Rank {
        let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(input) }
        let lines = LinePrefixer(prefix: "[rank \(rank)] ")
        guard rank > 0 else {
            return Rank(
                process: try ChildProcess(command, input: input, output: output, error: error),
                output: nil, lines: lines)
        }
        var ends: [Int32] = [0, 0]
        guard geeps_output_pipe(&ends) == 0 else {
            throw CLIError(.internalError, "cannot make a pipe for rank \(rank): \(lastError())")
        }
        defer { close(ends[1]) }
        do {
            let process = try ChildProcess(command, input: input, output: ends[1], error: ends[1])
            return Rank(process: process, output: ends[0], lines: lines)
        } catch {
            close(ends[0])
            throw error
        }
    }

    /// Waits a moment for news and deals with it.
    private mutating func step() {
        var waiting = [pollfd(fd: signals, events: Int16(POLLIN), revents: 0)]
        waiting += ranks.compactMap(\.output).map {
            pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
        }
        // The end of rank 0 has no descriptor to wait on, so the wait is short.
        poll(&waiting, nfds_t(waiting.count), 20)
        takeSignals()
        for rank in ranks.indices { passOn(rank) }
        let ended = ranks.indices.filter { ranks[$0].process.reap() }
        for rank in ended { passOn(rank, isLast: true) }
        note(ended)
        if let deadline, deadline.hasPassed { killAll() }
    }

    private mutating func takeSignals() {
        var byte: UInt8 = 0
        while read(signals, &byte, 1) == 1 {
            let received = Int32(byte)
            if signal == nil {
                signal = received
                for rank in ranks { rank.process.send(received) }
            } else {
                log("geeps: second signal (\(signalName(received))): killing all ranks\n")
                killAll()
                signal = received
            }
        }
    }

    /// Logs what a rank has written; what its own children write after its end is not waited for.
    private mutating func passOn(_ rank: Int, isLast: Bool = false) {
        guard let output = ranks[rank].output else { return }
        var chunk = [UInt8](repeating: 0, count: 16384)
        var isOpen = true
        while true {
            let count = read(output, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 {
                isOpen = count < 0 && errno == EAGAIN
                break
            }
            ranks[rank].lines.lines(of: chunk[..<count]).forEach(log)
        }
        guard isLast || !isOpen else { return }
        if let rest = ranks[rank].lines.finish() { log(rest) }
        close(output)
        ranks[rank].output = nil
    }

    /// Remembers which of the ranks that ended failed, and starts the others' grace.
    private mutating func note(_ ended: [Int]) {
        let failed = ended.filter { !ranks[$0].wasKilled && ranks[$0].process.end?.exitCode != 0 }
        guard !failed.isEmpty else { return }
        let isFirst = failures.isEmpty
        failures += failed
        let running = ranks.count { $0.process.end == nil }
        // That a rank ends by the signal it was sent, or as that asks it to, is no news.
        let news = failed.filter {
            guard let signal else { return true }
            let end = ranks[$0].process.end
            return end != .killed(signal: signal) && end != .exited(CLIExit.preempted.rawValue)
        }
        for rank in news {
            guard let end = ranks[rank].process.end else { continue }
            log("geeps: rank \(rank) \(end)\n")
        }
        guard isFirst && running > 0 else { return }
        deadline = .after(grace)
        if let rank = failed.first { onFirstFailure(rank, ranks[rank].process) }
        guard !news.isEmpty else { return }
        log(
            "geeps: waiting up to \(grace.jobText) for \(running) other rank\(running == 1 ? "" : "s")\n"
        )
    }

    private mutating func killAll() {
        for rank in ranks.indices where ranks[rank].process.end == nil && !ranks[rank].wasKilled {
            ranks[rank].wasKilled = true
            ranks[rank].process.send(SIGKILL)
            if deadline != nil && signal == nil {
                log("geeps: rank \(rank) did not end, killing it\n")
            }
        }
        deadline = nil
    }

    /// The first failure, but never "a peer left" when another rank has a reason of its own: ranks that
    /// lose a peer may end before the peer has.
    private func outcome() -> Outcome {
        let ends = ranks.map { $0.process.end ?? .exited(CLIExit.internalError.rawValue) }
        let cause =
            failures.first { ends[$0] != .exited(CLIExit.unavailable.rawValue) } ?? failures.first
        if let cause {
            return Outcome(
                exitCode: ends[cause].exitCode, failedRank: cause, ends: ends, signal: signal)
        }
        let wasKilled = ranks.contains { $0.wasKilled }
        return Outcome(
            exitCode: wasKilled ? signal.map { 128 + $0 } ?? CLIExit.internalError.rawValue : 0,
            failedRank: nil, ends: ends, signal: signal)
    }
}
