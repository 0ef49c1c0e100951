import CGeePSShims
public import GeePSCore
import Glibc
import Synchronization

/// What a benchmark of a carrier measured.
///
/// Sender and receiver are threads of one process, so carriers between processes run as they would
/// there but for the scheduler.
public struct TransportMeasurement: Sendable {
    /// The carrier, with one lane or several.
    public var carrier: Carrier
    /// Parallel connections, each with a sending and a receiving thread.
    public var lanes: Int
    /// Bytes of each frame's payload.
    public var payloadBytes: Int
    /// Payload bytes moved, over all lanes.
    public var totalBytes: Int
    /// From the first send to the last receive.
    public var seconds: Double
    /// Processor time of both sides.
    public var cpuSeconds: Double
    /// TCP: the congestion control in force; otherwise empty.
    public var congestionControl: String

    /// Payload bytes a second, in units of 10^9.
    public var gigabytesPerSecond: Double { Double(totalBytes) / seconds / 1e9 }
    /// Processor seconds for 10^9 payload bytes, both sides.
    public var cpuSecondsPerGigabyte: Double { cpuSeconds / (Double(totalBytes) / 1e9) }
}

/// Time for an empty frame to go and another to come back.
public struct RoundTripMeasurement: Sendable {
    /// The carrier.
    public var carrier: Carrier
    /// Round trips timed.
    public var count: Int
    /// Half of them were faster.
    public var medianMicroseconds: Double
    /// One of a hundred was slower.
    public var percentile99Microseconds: Double
    /// The fastest.
    public var leastMicroseconds: Double
}

/// Streams about `totalBytes` one way in frames of `payloadBytes`, and reads every byte on arrival.
///
/// - Parameter lanes: parallel connections.
public func measureStream(
    carrier: Carrier, payloadBytes: Int, totalBytes: Int, lanes: Int = 1,
    options: TransportOptions = .init()
) throws(TransportError) -> TransportMeasurement {
    let frames = max(1, totalBytes / max(1, payloadBytes) / lanes)
    var pairs: [(any Connection, any Connection)] = []
    for _ in 0..<lanes { pairs.append(try connectedPair(carrier, options: options)) }
    // Once through, untimed: fresh pages of rings and pools would be measured otherwise.
    let warmUp = max(2, min(frames / 4, options.ringBytes * 2 / max(1, payloadBytes)))
    try stream(pairs, frames: warmUp, payloadBytes: payloadBytes)
    let cpu = processorSeconds()
    let started = monotonicNanoseconds()
    try stream(pairs, frames: frames, payloadBytes: payloadBytes)
    let seconds = Double(monotonicNanoseconds() - started) / 1e9
    let measurement = TransportMeasurement(
        carrier: carrier, lanes: lanes, payloadBytes: payloadBytes,
        totalBytes: frames * lanes * payloadBytes, seconds: seconds,
        cpuSeconds: processorSeconds() - cpu,
        congestionControl: (pairs[0].0 as? StreamConnection)?.congestionControl ?? "")
    for (first, second) in pairs {
        first.close()
        second.close()
    }
    return measurement
}

/// Sends an empty frame back and forth `count` times.
public func measureRoundTrip(
    carrier: Carrier, count: Int = 5_000, options: TransportOptions = .init()
) throws(TransportError) -> RoundTripMeasurement {
    let (near, far) = try connectedPair(carrier, options: options)
    let nothing = UnsafeRawBufferPointer(start: nil, count: 0)
    let echo = DedicatedThread(name: "bench-echo") {
        while let frame = try? far.receive(deadline: nil) {
            guard (try? far.send(frame.header, payload: frame.payload)) != nil else { return }
        }
    }
    defer {
        near.close()
        echo.join()
        far.close()
    }
    var times: [UInt64] = []
    for turn in 0..<(count + count / 10) {
        let started = monotonicNanoseconds()
        try near.send(FrameHeader(.control), payload: nothing)
        _ = try near.receive(deadline: nil)
        if turn >= count / 10 { times.append(monotonicNanoseconds() - started) }
    }
    times.sort()
    return RoundTripMeasurement(
        carrier: carrier, count: count,
        medianMicroseconds: Double(times[times.count / 2]) / 1e3,
        percentile99Microseconds: Double(times[times.count * 99 / 100]) / 1e3,
        leastMicroseconds: Double(times[0]) / 1e3)
}

/// Two connected ends in this process, made the way two processes would make them.
public func connectedPair(
    _ carrier: Carrier, options: TransportOptions = .init()
) throws(TransportError) -> (any Connection, any Connection) {
    if carrier == .inProcess { return InProcess.pair(options: options) }
    var options = options
    if carrier == .tls && options.tls == nil { options.tls = try TLSAuthority().context() }
    let listener = try Listener(options: options)
    defer { listener.close() }
    let accepting = Accepting(carrier)
    let thread = DedicatedThread(name: "accept-pair") { accepting.run(listener) }
    defer { thread.join() }
    let dialled = try dial(
        listener.endpoint, carrier: .fixed(carrier), options: options,
        deadline: .after(.seconds(10)))
    try dialled.establish(deadline: .after(.seconds(10)))
    if let lane = dialled as? UCXConnection {
        try lane.connect(.caller, key: Accepting.key, deadline: .after(.seconds(10)))
    }
    thread.join()
    return (dialled, try accepting.result())
}

/// What an accepting thread brought; written by it, read after it was joined.
private final class Accepting: @unchecked Sendable {
    // Sendable: the join orders the accesses.
    /// Both ends are in this process; in a job it is the lanes' key.
    static let key = Array("a pair in one process".utf8)
    private let carrier: Carrier
    private var accepted: Result<any Connection, TransportError>?

    init(_ carrier: Carrier) { self.carrier = carrier }

    func run(_ listener: Listener) {
        do throws(TransportError) {
            let connection = try listener.accept(deadline: .after(.seconds(10)))
            try connection.establish(deadline: .after(.seconds(10)))
            guard carrier == .ucx else { return accepted = .success(connection) }
            let lane = try listener.overUCX(connection)
            try lane.connect(.listener, key: Self.key, deadline: .after(.seconds(10)))
            accepted = .success(lane)
        } catch {
            accepted = .failure(error)
        }
    }

    func result() throws(TransportError) -> any Connection {
        guard let accepted else { throw TransportError(.lost, "nothing was accepted") }
        return try accepted.get()
    }
}

private func stream(
    _ pairs: [(any Connection, any Connection)], frames: Int, payloadBytes: Int
) throws(TransportError) {
    let failure = Failure()
    let threads = pairs.enumerated().flatMap { index, pair in
        let (source, target) = pair
        return [
            DedicatedThread(name: "bench-send-\(index)") {
                failure.catching { () throws(TransportError) in
                    try sendFrames(source, frames: frames, payloadBytes: payloadBytes)
                }
            },
            DedicatedThread(name: "bench-recv-\(index)") {
                failure.catching { () throws(TransportError) in
                    try receiveFrames(target, frames: frames)
                }
            },
        ]
    }
    for thread in threads { thread.join() }
    if let error = failure.first { throw error }
}

private func sendFrames(
    _ connection: any Connection, frames: Int, payloadBytes: Int
) throws(TransportError) {
    let payload = UnsafeMutableRawBufferPointer.allocate(byteCount: payloadBytes, alignment: 4096)
    defer { payload.deallocate() }
    for index in payload.indices { payload[index] = UInt8(truncatingIfNeeded: index) }
    for _ in 0..<frames {
        try connection.send(FrameHeader(.push), payload: UnsafeRawBufferPointer(payload))
    }
}

private func receiveFrames(_ connection: any Connection, frames: Int) throws(TransportError) {
    var all: UInt64 = 0
    for _ in 0..<frames {
        let frame = try connection.receive(deadline: nil)
        all ^= geeps_xor_words(frame.payload.baseAddress, frame.payload.count)
    }
    // The words of a payload are the same in every frame, so an even count cancels out.
    if frames.isMultiple(of: 2) && all != 0 {
        throw TransportError(.malformed, "payloads arrived changed")
    }
}

/// The first failure of several threads.
private final class Failure: Sendable {
    private let error = Mutex<TransportError?>(nil)

    var first: TransportError? { error.withLock { $0 } }

    func catching(_ body: () throws(TransportError) -> Void) {
        do throws(TransportError) {
            try body()
        } catch {
            self.error.withLock { $0 = $0 ?? error }
        }
    }
}

/// Processor time of this process, user and system.
private func processorSeconds() -> Double {
    var time = timespec()
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time)
    return Double(time.tv_sec) + Double(time.tv_nsec) / 1e9
}
