import CGeePSShims
import GeePSCore
import Glibc

/// The environment of this process; the first value wins where a name occurs twice.
func processEnvironment() -> [String: String] {
    var variables: [String: String] = [:]
    guard var next = geeps_environment() else { return [:] }
    while let entry = next.pointee {
        let text = String(cString: entry)
        if let equals = text.firstIndex(of: "="), variables[String(text[..<equals])] == nil {
            variables[String(text[..<equals])] = String(text[text.index(after: equals)...])
        }
        next += 1
    }
    return variables
}

/// A TCP port of 127.0.0.1 that nobody listens on right now.
///
/// - Throws: `CLIError` (unavailable) when the system gives none.
func freePort() throws(CLIError) -> UInt16 {
    guard let port = portThatCanBeHad(0) else {
        throw CLIError(.unavailable, "cannot find a free port on 127.0.0.1: \(lastError())")
    }
    return port
}

/// Waits a little for `port` of 127.0.0.1, which an earlier job may be about to give up.
///
/// - Throws: `CLIError` (unavailable) when somebody else keeps it.
func waitForPort(_ port: UInt16, within patience: Duration = .seconds(2)) throws(CLIError) {
    let deadline = Deadline.after(patience)
    while portThatCanBeHad(port) == nil {
        guard !deadline.hasPassed else {
            throw CLIError(
                .unavailable,
                "cannot listen on port \(port) of 127.0.0.1 (cluster.port): \(lastError()); another "
                    + "port, or 0 for any that is free, would do")
        }
        usleep(50_000)
    }
}

/// `port`, or for 0 one the system chose, if one can listen there now; otherwise nil with errno set.
private func portThatCanBeHad(_ port: UInt16) -> UInt16? {
    let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    guard descriptor >= 0 else { return nil }
    defer {
        let code = errno
        close(descriptor)
        errno = code
    }
    // As rank 0 will: connections of an earlier job that are fading away do not matter.
    var on: Int32 = 1
    setsockopt(descriptor, SOL_SOCKET, SO_REUSEADDR, &on, socklen_t(MemoryLayout<Int32>.size))
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
    address.sin_port = port.bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let status = withUnsafeMutablePointer(to: &address) { pointer in
        pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { generic in
            bind(descriptor, generic, length) == 0
                ? getsockname(descriptor, generic, &length) : -1
        }
    }
    return status == 0 ? UInt16(bigEndian: address.sin_port) : nil
}

/// Writes all of `text` to a descriptor; what cannot be written is dropped.
func write(_ text: String, to descriptor: Int32) {
    var text = text
    text.withUTF8 { bytes in
        var offset = 0
        while offset < bytes.count {
            let count = Glibc.write(
                descriptor, bytes.baseAddress.map { $0 + offset }, bytes.count - offset)
            if count < 0 && errno == EINTR { continue }
            if count < 0 && errno == EAGAIN {
                var waiting = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                poll(&waiting, 1, 1000)
                continue
            }
            guard count > 0 else { return }
            offset += count
        }
    }
}

/// Writes to standard error: logs, progress, reasons.
func writeError(_ text: String) { write(text, to: STDERR_FILENO) }

/// Writes to standard output: results.
func writeOutput(_ text: String) { write(text, to: STDOUT_FILENO) }
