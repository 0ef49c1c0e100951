import CGeePSShims
public import GeePSCore
import Synchronization

/// One end of a TLS stream, without a socket: takes and gives encrypted bytes, never waits.
///
/// One thread may read and one write at the same time. OpenSSL's state of a stream is one for both directions, so
/// they take turns under a lock, a record of at most 16 KiB at a time; it is not held while bytes travel.
public final class TLSSession: @unchecked Sendable {
    // Sendable: OpenSSL's state and the buffers are guarded by `signal`, but for the lent parts: free input room
    // belongs to the reading thread, taken output to the writing one.

    /// Which side of the connection this is.
    public enum Side: Sendable {
        /// The side that connected.
        case caller
        /// The side that accepted.
        case listener
    }

    /// What came of a read.
    public enum Reading: Equatable, Sendable {
        /// So many bytes are in the target.
        case bytes(Int)
        /// There is no whole record yet.
        case needsInput
        /// The peer has ended the stream in order.
        case ended
    }

    /// Who is at the other end, for messages.
    public let peer: String
    private let context: TLSContext
    private let library: TLSLibrary
    private let ssl: OpaquePointer
    private let signal = Signal()
    private let buffers = UnsafeMutablePointer<geeps_tls_buffers>.allocate(capacity: 1)
    private let inputCapacity: Int
    // The output that the writing thread has taken; the other one is in `buffers`.
    private var taken: UnsafeMutablePointer<UInt8>
    private var hasBegun = false
    private var recordsOfKey: UInt64 = 0
    /// How often this side has taken a new key; guarded by `signal`.
    private(set) var keyUpdates = 0
    private let established = Atomic<Bool>(false)
    // Constant once `established` is true.
    private var binding: [UInt8] = []

    /// Bytes of a record beyond its at most 16,384 of content: RFC 8446, section 5.2.
    private static let recordBytes = 16_384 + 256 + 5
    /// Room that writes leave for what reads have to answer, such as key updates.
    private static let reserveBytes = 1024
    /// The label and length of RFC 9266's channel binding.
    private static let bindingLabel = "EXPORTER-Channel-Binding"
    private static let bindingBytes = 32

    /// A session that has not said anything.
    ///
    /// - Parameter bufferBytes: room for encrypted bytes, each way; a lane's is larger than a control connection's.
    public init(_ context: TLSContext, side: Side, peer: String, bufferBytes: Int) {
        let functions = context.library.functions
        library = context.library
        self.context = context
        self.peer = peer
        inputCapacity = bufferBytes
        let outputCapacity = bufferBytes + Self.recordBytes + Self.reserveBytes
        buffers.initialize(to: geeps_tls_buffers())
        buffers.pointee.input = .allocate(capacity: inputCapacity)
        buffers.pointee.output = .allocate(capacity: outputCapacity)
        buffers.pointee.output_capacity = outputCapacity
        taken = .allocate(capacity: outputCapacity)
        guard let ssl = functions.SSL_new(context.pointer), let bio = geeps_tls_make_bio(buffers)
        else { preconditionFailure("out of memory for a TLS session") }
        self.ssl = ssl
        // Read and write BIO are one, of which this takes the one reference.
        functions.SSL_set_bio(ssl, bio, bio)
        switch side {
        case .caller: functions.SSL_set_connect_state(ssl)
        case .listener: functions.SSL_set_accept_state(ssl)
        }
    }

    deinit {
        library.functions.SSL_free(ssl)
        buffers.pointee.input.deallocate()
        buffers.pointee.output.deallocate()
        taken.deallocate()
        buffers.deallocate()
    }

    /// Whether the handshake is complete on this side; a listener has then checked the caller's certificate, while a
    /// caller learns by its first read whether the listener has taken its own.
    public var isEstablished: Bool { established.load(ordering: .acquiring) }

    /// RFC 9266's `tls-exporter`: the same at both ends of this stream and of no other; empty before the handshake.
    public var channelBinding: [UInt8] { isEstablished ? binding : [] }

    /// "TLS_AES_128_GCM_SHA256"; empty before the handshake.
    public var cipher: String {
        signal.withLock {
            let cipher = library.functions.SSL_get_current_cipher(ssl)
            return cipher.map { library.words(library.functions.SSL_CIPHER_get_name($0)) } ?? ""
        }
    }

    // MARK: Handshake

    /// Goes on with the handshake as far as the input goes; call again with more of it.
    ///
    /// What `takeOutput` gives afterwards must be sent, also after an error: it tells the peer.
    ///
    /// - Returns: whether the handshake is complete.
    /// - Throws: `.certificate` when one side does not accept the other, `.malformed` for a peer that does not speak
    ///   TLS, `.refused` for all else that it refuses.
    public func handshake() throws(TransportError) -> Bool {
        signal.lock()
        defer { signal.unlock() }
        if isEstablished { return true }
        try checkFirstByte()
        let functions = library.functions
        functions.ERR_clear_error()
        let result = functions.SSL_do_handshake(ssl)
        guard result == 1 else {
            let error = functions.SSL_get_error(ssl, result)
            if error == Int32(GEEPS_TLS_ERROR_WANT_READ)
                || error == Int32(GEEPS_TLS_ERROR_WANT_WRITE)
            {
                return false
            }
            throw handshakeFailure()
        }
        var bytes = [UInt8](repeating: 0, count: Self.bindingBytes)
        guard
            functions.SSL_export_keying_material(
                ssl, &bytes, bytes.count, Self.bindingLabel, Self.bindingLabel.utf8.count, nil, 0, 0
            ) == 1
        else {
            throw TransportError(
                .certificate, "TLS with \(peer): no channel binding: \(library.lastError.text)")
        }
        binding = bytes
        established.store(true, ordering: .releasing)
        return true
    }

    /// Both handshakes and alerts are records that begin with their type.
    private func checkFirstByte() throws(TransportError) {
        let there = buffers.pointee.input_end - buffers.pointee.input_start
        guard !hasBegun, there > 0 else { return }
        hasBegun = true
        let start = buffers.pointee.input + buffers.pointee.input_start
        guard start[0] != 22 && start[0] != 21 else { return }
        let bytes = (0..<min(4, there)).map { start[$0] }
        let isOurs = bytes == Array("GPSF".utf8.prefix(there))
        let found =
            isOurs
            ? "GeePS without TLS"
            : "the bytes \(bytes.map { hexadecimal(UInt32($0)) }.joined(separator: " "))"
        throw TransportError(
            .malformed,
            "\(peer) does not speak TLS: found \(found), expected a TLS handshake; give all processes of the job "
                + "cluster.tls, or none")
    }

    /// With the lock held, right after the call that failed.
    private func handshakeFailure() -> TransportError {
        let functions = library.functions
        let (reason, text) = library.lastError
        let rejected = geeps_tls_take_rejected().map { TLSCertificate($0, library: library) }
        if reason == Int(GEEPS_TLS_REASON_VERIFY_FAILED) {
            let error = functions.SSL_get_verify_result(ssl)
            let objection = rejected?.objection(error, authority: context.authority) ?? text
            return TransportError(
                .certificate,
                "the certificate of \(peer) (\(rejected?.name ?? "no name")) \(objection)")
        }
        if let alert = alert(reason) { return alert }
        return TransportError(.refused, "TLS handshake with \(peer): \(text)")
    }

    /// What the peer has said by an alert; nil when `reason` is none.
    private func alert(_ reason: Int) -> TransportError? {
        let number = reason - Int(GEEPS_TLS_REASON_ALERT)
        guard (0..<256).contains(number) else { return nil }
        let text = library.words(library.functions.SSL_alert_desc_string_long(Int32(number)))
        // bad, unsupported, revoked, expired, unknown certificate; unknown CA; certificate required: RFC 8446, 6.2.
        let isAboutCertificate = (42...46).contains(number) || number == 48 || number == 116
        return TransportError(
            isAboutCertificate ? .certificate : .refused,
            isAboutCertificate
                ? "\(peer) does not accept the certificate of this process (\(context.name), valid until "
                    + "\(context.end)): \(text); all processes need certificates of one CA"
                : "\(peer) refused TLS: \(text)")
    }

    // MARK: Reading

    /// Room for encrypted bytes from the peer; the reading thread's until `received`.
    public func inputRoom() -> UnsafeMutableRawBufferPointer {
        signal.withLock {
            let state = buffers.pointee
            if state.input_start > 0 {
                let left = state.input_end - state.input_start
                state.input.update(from: state.input + state.input_start, count: left)
                buffers.pointee.input_start = 0
                buffers.pointee.input_end = left
            }
            let start = buffers.pointee.input_end
            return UnsafeMutableRawBufferPointer(
                start: state.input + start, count: inputCapacity - start)
        }
    }

    /// `count` bytes are in the room.
    public func received(_ count: Int) { signal.withLock { buffers.pointee.input_end += count } }

    /// Decrypts what is there, a record at most.
    ///
    /// - Throws: `.lost` for a record that was changed on its way, `.certificate` when the peer says that it does not
    ///   accept ours.
    public func read(
        into target: UnsafeMutableRawBufferPointer
    ) throws(TransportError) -> Reading {
        signal.lock()
        defer { signal.unlock() }
        let functions = library.functions
        functions.ERR_clear_error()
        var count = 0
        let result = functions.SSL_read_ex(ssl, target.baseAddress, target.count, &count)
        if result == 1 { return .bytes(count) }
        switch functions.SSL_get_error(ssl, result) {
        case Int32(GEEPS_TLS_ERROR_WANT_READ): return .needsInput
        case Int32(GEEPS_TLS_ERROR_ZERO_RETURN): return .ended
        default: throw streamFailure("receive from")
        }
    }

    // MARK: Writing

    /// Encrypts a record of `source`.
    ///
    /// - Returns: bytes taken; zero when the output must be sent first.
    public func write(_ source: UnsafeRawBufferPointer) throws(TransportError) -> Int {
        signal.lock()
        defer { signal.unlock() }
        let room = buffers.pointee.output_capacity - buffers.pointee.output_end
        guard room >= Self.recordBytes + Self.reserveBytes else { return 0 }
        let functions = library.functions
        functions.ERR_clear_error()
        if recordsOfKey >= context.recordsPerKey {
            _ = functions.SSL_key_update(ssl, Int32(GEEPS_TLS_KEY_UPDATE_NOT_REQUESTED))
            recordsOfKey = 0
            keyUpdates += 1
        }
        var count = 0
        guard functions.SSL_write_ex(ssl, source.baseAddress, source.count, &count) == 1 else {
            throw streamFailure("send to")
        }
        recordsOfKey += 1
        return count
    }

    /// The encrypted bytes that must be sent next; the writing thread's until its next call of this.
    public func takeOutput() -> UnsafeRawBufferPointer {
        signal.withLock {
            let full = buffers.pointee.output
            let count = buffers.pointee.output_end
            buffers.pointee.output = taken
            buffers.pointee.output_end = 0
            // Never null: it was allocated.
            if let full { taken = full }
            return UnsafeRawBufferPointer(start: taken, count: count)
        }
    }

    /// With the lock held, right after the call that failed.
    private func streamFailure(_ action: String) -> TransportError {
        let (reason, text) = library.lastError
        if let alert = alert(reason) { return alert }
        let what =
            reason == Int(GEEPS_TLS_REASON_BAD_RECORD_CODE)
            ? "a TLS record was changed on its way (\(text))" : "the TLS stream broke (\(text))"
        return TransportError(.lost, "\(action) \(peer): \(what)")
    }
}
