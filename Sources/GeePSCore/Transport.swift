/// How two processes, or two threads of one, exchange frames.
public enum Carrier: String, Sendable, CaseIterable {
    case inProcess = "in-process"
    case sharedMemory = "shared-memory"
    case unixSocket = "unix-socket"
    case tcp = "tcp"
    /// TCP with TLS 1.3 over it.
    case tls = "tls"
    /// UCX: RDMA where there is a device for it.
    case ucx = "ucx"
}

/// One lane between a worker and a keeper: frames in order, both ways, nothing lost while it is open.
///
/// At most one thread sends and one receives at a time; `close` may come from any thread and ends both.
/// The client and the server know only this protocol; the front door hands them connections.
public protocol Connection: AnyObject, Sendable {
    /// Who is at the other end and by which way, for messages: "rank 2 (127.0.0.1:40123, tcp)".
    var peer: String { get }

    /// The way frames travel.
    var carrier: Carrier { get }

    /// Sends one frame; sets the header's `payloadBytes` itself.
    ///
    /// Waits while the receiver is behind; the wait ends by `close`, which the membership calls when the
    /// peer is silent for too long. The payload is the caller's again on return.
    func send(_ header: FrameHeader, payload: UnsafeRawBufferPointer) throws(TransportError)

    /// Waits for the next frame.
    ///
    /// - Parameter deadline: nil where the membership bounds the wait by `close`.
    /// - Throws: `.closed` after the peer's orderly close or our own, `.deadline`, or what broke.
    func receive(deadline: Deadline?) throws(TransportError) -> ReceivedFrame

    /// From now on a frame that announces more than `bytes` of payload is malformed, before anything is allocated for
    /// it: what a peer may send before it has proven who it is.
    ///
    /// Called by the receiving thread, between receives.
    func limitPayload(to bytes: Int)

    /// Does what the carrier needs before the first frame can travel, such as a TLS handshake.
    ///
    /// May be called again after `.deadline`, and goes on then. Where it is left out, the first send or receive does it.
    ///
    /// - Throws: `.certificate` when one side does not accept the other, `.deadline`, or what broke.
    func establish(deadline: Deadline) throws(TransportError)

    /// What is the same at both ends of this connection and of no other one; empty where the carrier has nothing
    /// such. Complete after `establish`.
    var channelBinding: [UInt8] { get }

    /// Ends the connection; sends and receives in progress throw `.closed`. Idempotent.
    func close()

    /// Bytes of headers and payloads handed to `send` since the connection was made.
    var bytesSent: UInt64 { get }

    /// Bytes of headers and payloads received.
    var bytesReceived: UInt64 { get }
}

extension Connection {
    /// No limit but the format's.
    public func limitPayload(to bytes: Int) {}

    /// Nothing is needed.
    public func establish(deadline: Deadline) throws(TransportError) {}

    /// None.
    public var channelBinding: [UInt8] { [] }

    /// Sends one frame with a payload that was made for it: short messages, not rows.
    public func send(_ header: FrameHeader, bytes: [UInt8]) throws(TransportError) {
        let result = bytes.withUnsafeBytes { payload -> Result<Void, TransportError> in
            do throws(TransportError) {
                return .success(try send(header, payload: payload))
            } catch {
                return .failure(error)
            }
        }
        try result.get()
    }
}

/// Where the memory of a received payload returns to.
///
/// Implemented by carriers.
public protocol FrameOwner: AnyObject, Sendable {
    /// The receiver has read the payload; `token` is the one the frame was made with.
    func release(token: Int)
}

/// A frame whose payload is lent by its carrier until this value is dropped: a pooled buffer for
/// sockets, a stretch of the ring for shared memory, the sender's own memory in one process.
///
/// Frames may be dropped by any thread and in any order.
public struct ReceivedFrame: ~Copyable, @unchecked Sendable {
    // Sendable: exactly one thread holds it at a time, it is noncopyable.

    /// The decoded header.
    public let header: FrameHeader
    /// `header.payloadBytes` bytes, aligned to at least 64.
    public let payload: UnsafeRawBufferPointer
    private let owner: (any FrameOwner)?
    private let token: Int

    /// Made by carriers only.
    public init(
        header: FrameHeader, payload: UnsafeRawBufferPointer, owner: (any FrameOwner)?,
        token: Int = 0
    ) {
        self.header = header
        self.payload = payload
        self.owner = owner
        self.token = token
    }

    deinit { owner?.release(token: token) }
}

/// What went wrong between two processes.
public struct TransportError: Error, Sendable, CustomStringConvertible {
    /// What kind of failure it is; callers switch over this, people read the message.
    public enum Code: String, Sendable {
        /// The connection was closed, by the peer or by us; nothing is wrong.
        case closed
        /// The connection broke: reset, end of stream inside a frame.
        case lost
        /// The peer sent what the format forbids.
        case malformed
        /// A wait reached its deadline.
        case deadline
        /// The address cannot be listened on or connected to.
        case unreachable
        /// The peer refused us or we refused it: wrong job, version, layout or rank.
        case refused
        /// A certificate, our own or the peer's, will not do, or TLS is not to be had.
        case certificate
        /// The operating system said no.
        case system
    }

    /// What kind of failure.
    public var code: Code
    /// What was being done, to whom, and what answered.
    public var message: String

    /// A failure of kind `code`.
    public init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The message a person reads.
    public var description: String { message }
}
