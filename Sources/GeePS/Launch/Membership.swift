public import GeePSCore
public import GeePSTransport
import Glibc

/// How the control plane keeps time.
///
/// Heartbeat and silence should be the same in all processes.
public struct ControlSettings: Sendable {
    /// How often a process says that it is alive.
    public var heartbeat: Duration
    /// After which silence a process counts as dead; several heartbeats.
    public var silence: Duration
    /// How long a connection to the rendezvous may take to say who it is.
    public var handshake: Duration
    /// How long rank 0 tries to listen while an earlier run still holds the port.
    public var listenPatience: Duration
    /// How long rank 0 stays after a refusal to tell it to processes that come a little later.
    public var refusalLinger: Duration
    /// What the processes of the job know; nil: what `JobSecret.ofEnvironment` finds.
    public var secret: JobSecret?
    /// The certificate, key and CA of this process; nil: what `GEEPS_TLS_CERTIFICATE`, `GEEPS_TLS_KEY` and
    /// `GEEPS_TLS_CA` name.
    ///
    /// Where neither says anything the job is not encrypted.
    public var tls: TLSFiles?
    /// What `tls` came to; found once and then kept.
    var tlsContext: TLSContext?
    /// Where rank 0 listens when the address that the others connect to is none of its machine's, as that of a
    /// cluster's service is; nil: nowhere.
    public var interface: String?
    /// Whether a process whose control connection was lost is known to be gone: nobody listens where it did.
    ///
    /// Waits a fraction of a second at most; false where that cannot be told. Nil: a lost connection is a lost process.
    var isGone: (@Sendable (ProcessDescription) -> Bool)?
    /// Takes a line about something odd that is no error: a stranger at the port.
    public var log: @Sendable (String) -> Void
    /// At rank 0, called with "host:port" once it listens; with port 0 this is the way to learn the port.
    public var onListening: @Sendable (String) -> Void

    /// The settings of a job, unless a test wants them shorter.
    public init(
        heartbeat: Duration = .milliseconds(500), silence: Duration = .seconds(5),
        handshake: Duration = .seconds(5), listenPatience: Duration = .seconds(5),
        refusalLinger: Duration = .seconds(2), secret: JobSecret? = nil, tls: TLSFiles? = nil,
        interface: String? = nil,
        log: @escaping @Sendable (String) -> Void = logToStandardError,
        onListening: @escaping @Sendable (String) -> Void = { _ in }
    ) {
        self.heartbeat = heartbeat
        self.silence = silence
        self.handshake = handshake
        self.listenPatience = listenPatience
        self.refusalLinger = refusalLinger
        self.secret = secret
        self.tls = tls
        self.interface = interface
        self.log = log
        self.onListening = onListening
    }

    /// The secret, looked for where none was given.
    func knownSecret() throws(LaunchError) -> JobSecret {
        if let secret { return secret }
        return try JobSecret.ofEnvironment(warn: log)
    }

    /// What connections are encrypted with; nil: they are not.
    ///
    /// - Throws: `LaunchError` (certificate) when a file is missing or will not do.
    func knownTLS() throws(LaunchError) -> TLSContext? {
        if let tlsContext { return tlsContext }
        guard let files = try TLSFiles.known(beside: tls) else { return nil }
        do throws(TransportError) {
            let context = try TLSContext(files)
            if let warning = context.warning { log(warning) }
            return context
        } catch {
            throw LaunchError(.certificate, error.message)
        }
    }
}

/// This process's place in a running job: who else is there, whether all are alive, and small
/// numbers on which all agree.
///
/// Made by `Rendezvous.join`.
///
/// Calls come from any thread but not from a failure handler. Letting the last reference go without
/// `leave` closes the connection without a goodbye: the others then see this process as dead.
public final class Membership: Sendable {
    /// This process's place.
    public let rank: Int
    /// All processes in rank order, this one included, as they described themselves.
    public let processes: [ProcessDescription]
    private let member: Member
    private let coordinator: Coordinator?

    init(
        rank: Int, processes: [ProcessDescription], member: Member, coordinator: Coordinator?
    ) {
        self.rank = rank
        self.processes = processes
        self.member = member
        self.coordinator = coordinator
        coordinator?.start()
        member.start()
    }

    deinit {
        member.end()
        coordinator?.stop(.dropped)
    }

    /// Processes in the job.
    public var worldSize: Int { processes.count }

    /// The first failure of the job, the same in every process; nil while all is well.
    public var failure: PeerFailure? { member.failure }

    /// The first failure of the job, for somebody who has just lost a connection to another process.
    ///
    /// When a process dies, a data lane may break a moment before the control plane says who is gone;
    /// this waits for that moment, at most `patience`.
    public func awaitFailure(within patience: Duration = .milliseconds(1500)) -> PeerFailure? {
        let deadline = Deadline.after(patience)
        while member.failure == nil, !deadline.hasPassed { usleep(10_000) }
        return member.failure
    }

    /// Heartbeats and silences so far.
    public var counters: ControlCounters { coordinator?.counters.value ?? member.counters.value }

    /// Has `handler` called once when a process of the job fails: on the control thread, or before this
    /// returns if a failure is known already.
    ///
    /// The handler closes what others may wait on; it must not call `leave` and not drop the last
    /// reference to the membership. Several handlers are called in the order they were given.
    public func onFailure(_ handler: @escaping @Sendable (PeerFailure) -> Void) {
        member.onFailure(handler)
    }

    /// Has others' questions of where this process stands answered by `source`.
    func setStatusSource(_ source: (@Sendable () -> [UInt8])?) { member.setStatusSource(source) }

    /// At rank 0, what all others say where they stand; elsewhere nothing.
    ///
    /// Waits for the slowest, until `deadline`. For one thread at a time.
    func statuses(until deadline: Deadline) -> [[UInt8]] {
        let answers = coordinator?.statuses(until: deadline) ?? [:]
        return answers.keys.sorted().compactMap { answers[$0] }.filter { !$0.isEmpty }
    }

    /// Adds up `values` over all ranks, elementwise in rank order, so that all get the same bits
    /// whoever calls first.
    ///
    /// Waits for all ranks.
    ///
    /// The n-th collective of every rank is one round, which ends the same way for all: a round that
    /// failed is over, also for ranks that come later. Calls of several threads are taken one by one; all
    /// ranks must then call in one order.
    ///
    /// - Parameters:
    ///   - values: at most 131,072, equally many at every rank.
    ///   - label: equal at every rank, at most 256 bytes; for messages.
    ///   - deadline: the earliest of all ranks counts.
    /// - Throws: `.timeout` naming the ranks that did not arrive, `.mismatch`, `.left`, `.argument`, or
    ///   `.peerLost` as soon as a failure is known.
    public func sum(
        _ values: [Double], label: String, deadline: Deadline
    ) throws(LaunchError) -> [Double] {
        decodeDoubles(try call(.sum, label, encodeDoubles(values), deadline))
    }

    /// Waits until all ranks have come here; see `sum` for the rules.
    public func barrier(label: String, deadline: Deadline) throws(LaunchError) {
        _ = try call(.barrier, label, [], deadline)
    }

    /// Gives every rank the bytes of rank 0, at most 1 MiB; other ranks' argument is ignored.
    ///
    /// See `sum`.
    public func broadcast(
        _ bytes: [UInt8] = [], label: String, deadline: Deadline
    ) throws(LaunchError) -> [UInt8] {
        try call(.broadcast, label, rank == 0 ? bytes : [], deadline)
    }

    /// Says goodbye, waits until all have, and ends the control plane of this process.
    ///
    /// A process that leaves before the others is not dead, but when rank 0 stops waiting its end is a
    /// failure for those who have not finished: there is no control plane without it. After a failure
    /// this returns at once. Idempotent.
    ///
    /// - Returns: whether all said goodbye within `bound`.
    @discardableResult
    public func leave(within bound: Duration = .seconds(30)) -> Bool {
        let isComplete = member.leave(deadline: .after(bound))
        member.end()
        coordinator?.stop(.leftEarly(waited: bound))
        return isComplete
    }

    /// Tells all why this rank gives up: everybody's failure then reads "rank 1 (...) failed: reason".
    ///
    /// Returns when the others have been told, or after two seconds; `leave` remains to be called.
    public func abort(reason: String) { member.abort(reason: reason) }

    private func call(
        _ operation: Contribution.Operation, _ label: String, _ payload: [UInt8],
        _ deadline: Deadline
    ) throws(LaunchError) -> [UInt8] {
        guard label.utf8.count <= ControlLimits.labelBytes else {
            throw LaunchError(
                .argument,
                "a label of \(label.utf8.count) bytes, at most \(ControlLimits.labelBytes) fit")
        }
        guard payload.count <= ControlLimits.collectiveBytes else {
            throw LaunchError(
                .argument,
                "\(operation) \"\(label)\" of \(payload.count) bytes, at most "
                    + "\(ControlLimits.collectiveBytes) fit; large data takes the data lanes")
        }
        return try member.call(operation, label, payload, deadline: deadline)
    }
}
