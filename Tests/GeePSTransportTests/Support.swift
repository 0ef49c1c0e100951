import GeePSCore
import Glibc
import Synchronization
import Testing

@testable import GeePSTransport

/// Everything here runs one test at a time: sockets, threads and two cores.
@Suite(.serialized) enum TransportTests {}

/// All but TLS where there is no OpenSSL, and UCX where there is none.
let allCarriers = Carrier.allCases.filter {
    ($0 != .tls || hasOpenSSL) && ($0 != .ucx || hasUCX)
}
let hasUCX = (try? UCXLibrary.load()) != nil
let hasOpenSSL = (try? TLSLibrary.load()) != nil
let socketCarriers: [Carrier] = [.unixSocket, .tcp] + (hasOpenSSL ? [.tls] : [])

/// A value computed by a thread.
final class Running<Value: Sendable>: Sendable {
    private final class Box: Sendable {
        let value = Mutex<Value?>(nil)
    }

    private let box = Box()
    private let thread: DedicatedThread

    init(_ body: @escaping @Sendable () -> Value) {
        let box = box
        thread = DedicatedThread(name: "test") {
            let value = body()
            box.value.withLock { $0 = value }
        }
    }

    /// Waits for it.
    var value: Value {
        thread.join()
        return box.value.withLock { $0! }
    }
}

/// What a call that may throw said.
func outcome(_ body: () throws(TransportError) -> Void) -> TransportError? {
    do throws(TransportError) {
        try body()
        return nil
    } catch {
        return error
    }
}

func soon(_ duration: Duration = .seconds(20)) -> Deadline { .after(duration) }

func milliseconds(since start: UInt64) -> Double { Double(monotonicNanoseconds() - start) / 1e6 }

/// Bytes that differ from place to place and from seed to seed.
func pattern(_ count: Int, seed: UInt64) -> [UInt8] {
    var state = seed &* 0x9E37_79B9_7F4A_7C15 | 1
    var words = [UInt64](repeating: 0, count: (count + 7) / 8)
    for index in words.indices {
        state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
        words[index] = state
    }
    return words.withUnsafeBytes { Array($0.prefix(count)) }
}

extension Connection {
    func send(_ header: FrameHeader, _ payload: [UInt8] = []) throws(TransportError) {
        let error = payload.withUnsafeBytes { bytes in
            outcome { () throws(TransportError) in try send(header, payload: bytes) }
        }
        if let error { throw error }
    }

    /// Receives a frame and copies it.
    func receiveCopy(
        deadline: Deadline? = soon()
    ) throws(TransportError) -> (header: FrameHeader, payload: [UInt8]) {
        let frame = try receive(deadline: deadline)
        return (frame.header, Array(frame.payload))
    }
}

/// Two raw connected sockets; the test plays one side by hand.
func rawPair() -> (Int32, Int32) {
    var pair: [Int32] = [-1, -1]
    let status = socketpair(AF_UNIX, streamSocketType, 0, &pair)
    precondition(status == 0)
    return (pair[0], pair[1])
}

func writeAll(_ descriptor: Int32, _ bytes: [UInt8]) {
    _ = bytes.withUnsafeBytes {
        Glibc.send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
}

func encoded(_ header: FrameHeader) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 64)
    bytes.withUnsafeMutableBytes { header.encode(into: $0) }
    return bytes
}

/// Open sockets and memory files of this process.
func openTransportDescriptors() -> Int {
    var count = 0
    for descriptor in 0..<4096 {
        var target = [CChar](repeating: 0, count: 256)
        let length = readlink("/proc/self/fd/\(descriptor)", &target, 255)
        guard length > 0 else { continue }
        let name = String(decoding: target[..<length].map(UInt8.init(bitPattern:)), as: UTF8.self)
        if name.hasPrefix("socket:") || name.contains("memfd:") || name.contains("[eventfd]") {
            count += 1
        }
    }
    return count
}
