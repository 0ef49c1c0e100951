import GeePSCore
import Glibc

/// Sets an integer option; a kernel that does not know it is not an error.
@discardableResult
func setSocketOption(_ descriptor: Int32, _ level: Int32, _ name: Int32, _ value: Int32) -> Bool {
    var value = value
    return setsockopt(descriptor, level, name, &value, socklen_t(MemoryLayout<Int32>.size)) == 0
}

/// Sets both buffers of a socket.
func setSocketBuffers(_ descriptor: Int32, bytes: Int) {
    setSocketOption(descriptor, SOL_SOCKET, SO_SNDBUF, Int32(clamping: bytes))
    setSocketOption(descriptor, SOL_SOCKET, SO_RCVBUF, Int32(clamping: bytes))
}

/// Prepares a connected TCP socket: no delay for small frames, and on loopback buffers and congestion
/// control that suit it.
///
/// Congestion control that paces (bbr, often the kernel's default) halves the throughput of loopback,
/// where nothing can be congested; between hosts the kernel's choice stands.
///
/// - Returns: the congestion control in force.
func tuneTCP(_ descriptor: Int32, isLoopback: Bool, options: TransportOptions) -> String {
    setSocketOption(descriptor, Int32(IPPROTO_TCP), TCP_NODELAY, 1)
    if isLoopback {
        setSocketBuffers(descriptor, bytes: options.localSocketBufferBytes)
        for name in ["cubic", "reno"] where setCongestionControl(descriptor, name) { break }
    }
    return congestionControl(of: descriptor)
}

private func setCongestionControl(_ descriptor: Int32, _ name: String) -> Bool {
    setsockopt(
        descriptor, Int32(IPPROTO_TCP), TCP_CONGESTION, name, socklen_t(name.utf8.count)) == 0
}

private func congestionControl(of descriptor: Int32) -> String {
    var name = [UInt8](repeating: 0, count: 16)
    var length = socklen_t(name.count)
    guard getsockopt(descriptor, Int32(IPPROTO_TCP), TCP_CONGESTION, &name, &length) == 0 else {
        return "unknown"
    }
    return String(decoding: name.prefix { $0 != 0 }, as: UTF8.self)
}

/// The congestion control that TCP lanes between processes of this host get; for `geeps doctor`.
public func loopbackCongestionControl() -> String {
    let descriptor = socket(AF_INET, streamSocketType, 0)
    guard descriptor >= 0 else { return "unknown" }
    defer { close(descriptor) }
    return tuneTCP(descriptor, isLoopback: true, options: TransportOptions())
}

/// The type of every socket here: a stream that no child process inherits.
let streamSocketType = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
