import CGeePSShims
import GeePSCore
import Glibc

/// Runs the processes of a job on this machine and ends when all have ended.
///
/// Rank 0 has the supervisor's own output; the lines of the others go to the log with their rank. A signal
/// is passed on to all, a second one kills them. When one fails the others get `grace` to notice by
/// themselves, or to follow a SIGTERM, then they are killed. The thread that runs it must outlive it: the kernel kills the
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

    /// What is done with the output of the ranks.
    enum Output {
        /// That of rank 0 is the supervisor's own; the lines of the others go to the log.
        case ofRankZero
        /// The lines of all ranks keep their stream.
        case ofAll(print: (String) -> Void)
    }

    private struct Rank {
        var process: ChildProcess
        var streams: [Stream]
        /// Whether it was told to end because another failed, so that its end is no news.
        var wasAsked = false
        /// Whether the supervisor ended it, so that its end is no news.
        var wasKilled = false
    }

    /// A pipe with output of a rank.
    private struct Stream {
        /// Nil after its end.
        var descriptor: Int32?
        var lines: LinePrefixer
        let isError: Bool
    }

    private let grace: Duration
    private let endsOthers: Bool
    private let outputs: Output
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
    ///   - endsOthers: whether the others are sent SIGTERM when one fails: programs that do not notice by
    ///     themselves. Not when it stopped early in good order, as then they are about to.
    ///   - outputs: what is done with the output of the ranks.
    ///   - signals: a non-blocking descriptor with a byte for each signal received.
    ///   - onFirstFailure: called with the rank that failed first and its process, while others run.
    ///   - log: takes whole lines.
    init(
        grace: Duration = .seconds(8), endsOthers: Bool = false, outputs: Output = .ofRankZero,
        signals: Int32,
        onFirstFailure: @escaping (Int, ChildProcess) -> Void = { _, _ in },
        log: @escaping (String) -> Void
    ) {
        self.grace = grace
        self.endsOthers = endsOthers
        self.outputs = outputs
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
                ranks.append(try start(command, rank: rank, output: output, error: error))
            }
        } catch {
            killAll()
            while ranks.contains(where: { $0.process.end == nil }) { step() }
            throw error
        }
        while ranks.contains(where: { $0.process.end == nil }) { step() }
        return outcome()
    }

    private func start(
        _ command: ProcessCommand, rank: Int, output: Int32, error: Int32
    ) throws(CLIError) -> Rank {
        let input = open("/dev/null", O_RDONLY | O_CLOEXEC)
        defer { close(input) }
        // The write ends, by stream; where there is one pipe it takes both.
        let kinds: [Bool]
        switch outputs {
        case .ofRankZero: kinds = rank == 0 ? [] : [true]
        case .ofAll: kinds = [false, true]
        }
        var writers: [Int32] = []
        var streams: [Stream] = []
        defer { writers.forEach { close($0) } }
        do throws(CLIError) {
            for isError in kinds {
                var ends: [Int32] = [0, 0]
                guard geeps_output_pipe(&ends) == 0 else {
                    throw CLIError(
                        .internalError, "cannot make a pipe for rank \(rank): \(lastError())")
                }
                writers.append(ends[1])
                streams.append(
                    Stream(
                        descriptor: ends[0], lines: LinePrefixer(prefix: "[rank \(rank)] "),
                        isError: isError))
            }
            let process = try ChildProcess(
                command, input: input, output: writers.first ?? output,
                error: writers.last ?? error)
            return Rank(process: process, streams: streams)
        } catch {
            streams.compactMap(\.descriptor).forEach { close($0) }
            throw error
        }
    }

    /// Waits a moment for news and deals with it.
    private mutating func step() {
        var waiting = [pollfd(fd: signals, events: Int16(POLLIN), revents: 0)]
        waiting += ranks.flatMap(\.streams).compactMap(\.descriptor).map {
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
            if received == SIGUSR1 || received == SIGUSR2 {
                // Means something to the ranks alone.
                for rank in ranks { rank.process.send(received) }
            } else if signal == nil {
                signal = received
                for rank in ranks { rank.process.send(received) }
            } else {
                log("geeps: second signal (\(signalName(received))): killing all ranks\n")
                killAll()
                signal = received
            }
        }
    }

    /// Hands on what a rank has written; what its own children write after its end is not waited for.
    private mutating func passOn(_ rank: Int, isLast: Bool = false) {
        for stream in ranks[rank].streams.indices { passOn(rank, stream, isLast: isLast) }
    }

    private mutating func passOn(_ rank: Int, _ stream: Int, isLast: Bool) {
        guard let source = ranks[rank].streams[stream].descriptor else { return }
        let write = sink(ranks[rank].streams[stream])
        var chunk = [UInt8](repeating: 0, count: 16384)
        var isOpen = true
        while true {
            let count = read(source, &chunk, chunk.count)
            if count < 0 && errno == EINTR { continue }
            if count <= 0 {
                isOpen = count < 0 && errno == EAGAIN
                break
            }
            ranks[rank].streams[stream].lines.lines(of: chunk[..<count]).forEach(write)
        }
        guard isLast || !isOpen else { return }
        if let rest = ranks[rank].streams[stream].lines.finish() { write(rest) }
        close(source)
        ranks[rank].streams[stream].descriptor = nil
    }

    private func sink(_ stream: Stream) -> (String) -> Void {
        if case .ofAll(let print) = outputs, !stream.isError { return print }
        return log
    }

    /// Remembers which of the ranks that ended failed, and starts the others' grace.
    private mutating func note(_ ended: [Int]) {
        let failed = ended.filter {
            !ranks[$0].wasKilled && !ranks[$0].wasAsked && ranks[$0].process.end?.exitCode != 0
        }
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
        if let rank = failed.first, endsOthers { askOthers(because: rank) }
        if let rank = failed.first { onFirstFailure(rank, ranks[rank].process) }
        guard !news.isEmpty else { return }
        log(
            "geeps: waiting up to \(grace.jobText) for \(running) other rank\(running == 1 ? "" : "s")\n"
        )
    }

    private mutating func askOthers(because rank: Int) {
        let end = ranks[rank].process.end
        guard signal == nil, end != .exited(CLIExit.preempted.rawValue) else { return }
        for other in ranks.indices where ranks[other].process.end == nil {
            ranks[other].wasAsked = true
            ranks[other].process.send(SIGTERM)
        }
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
