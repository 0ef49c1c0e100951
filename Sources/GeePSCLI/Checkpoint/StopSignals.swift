import CGeePSShims
import GeePSCore
import Glibc
import Synchronization

/// Turns the first SIGTERM or SIGUSR1 into a flag, which the run looks at between two clocks.
///
/// Once the ranks train together, those that follow change nothing: schedulers repeat themselves, and Slurm's srun sends
/// SIGTERM to the ranks still at work as soon as the first of them has ended with 75. Before that there may never be a
/// clock to stop at, and the second ends the process at once. SIGINT and SIGKILL end it as ever.
final class StopSignals: Sendable {
    /// What a scheduler sends before it takes the machine away.
    static let signals = [SIGTERM, SIGUSR1]

    private let received = Atomic<Int32>(0)
    private let isTraining = Atomic(false)

    /// The signal that has come; nil while none has.
    var signal: Int32? {
        let signal = received.load(ordering: .relaxed)
        return signal == 0 ? nil : signal
    }

    /// All ranks are there: a clock at which the run can stop will come.
    func noteTraining() { isTraining.store(true, ordering: .relaxed) }

    /// From now on these signals do not end the process; once a process.
    static func watch() throws(CLIError) -> StopSignals {
        let stop = StopSignals()
        let pipe = geeps_signal_pipe(signals, Int32(signals.count))
        guard pipe >= 0 else {
            throw CLIError(.internalError, "cannot watch for signals: \(lastError())")
        }
        // Not joined: it waits as long as the process lives.
        _ = DedicatedThread(name: "signals") { stop.wait(on: pipe) }
        return stop
    }

    private func wait(on pipe: Int32) {
        while true {
            var item = pollfd(fd: pipe, events: Int16(POLLIN), revents: 0)
            poll(&item, 1, -1)
            var byte: UInt8 = 0
            guard read(pipe, &byte, 1) == 1 else { continue }
            let signal = Int32(byte)
            if self.signal != nil {
                guard isTraining.load(ordering: .relaxed) else { _exit(128 + signal) }
                continue
            }
            received.store(signal, ordering: .relaxed)
        }
    }
}

/// A run that has ended before its last step, in good order, with a checkpoint.
struct StoppedEarly: Error, Hashable, Sendable {
    /// Clocks in the checkpoint; nil where none could be written.
    var tick: UInt64?
}
