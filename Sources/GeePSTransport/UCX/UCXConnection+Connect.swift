public import GeePSCore

/// How two sides that have proven themselves leave their TCP connection for UCX; docs/formats/frame.md is normative.
extension UCXConnection {
    /// Which side of the handshake this is.
    public enum Side: UInt8, Sendable {
        /// The side that connected.
        case caller = 1
        /// The side that accepted.
        case listener = 2

        fileprivate var other: Side { self == .caller ? .listener : .caller }
    }

    /// Longer addresses of workers are refused; one is some hundred bytes for each network device.
    private static let addressBytesMaximum = 64 << 10
    private static let codeBytes = SHA256.digestBytes

    /// Exchanges workers' addresses over the TCP connection, and from then on frames travel over UCX.
    ///
    /// To be called once, after both sides have proven themselves and before any thread uses the connection. Addresses
    /// carry a code made with `key`: UCX believes what is in them, so they must come from somebody who has it. The same key
    /// and both addresses make what each side puts beside its messages, so that UCX's port serves nobody else.
    ///
    /// - Throws: `.refused` when the other side has another version or another key, `.deadline`, or what broke.
    public func connect(
        _ side: Side, key: [UInt8], deadline: Deadline
    ) throws(TransportError) {
        do throws(TransportError) {
            let ours = try engine.withLock { () throws(TransportError) in
                try engine.worker.address()
            }
            try stream.send(
                header(.carrier), bytes: code(side, ours, key) + ours)
            let theirs = try receiveAddress(of: side.other, key: key, deadline)
            try engine.withLock { () throws(TransportError) in
                engine.inbox.token = token(side.other, ours: theirs, theirs: ours, key)
                try engine.worker.connect(to: theirs)
            }
            try meet(token(side, ours: ours, theirs: theirs, key), deadline)
        } catch {
            close()
            throw error
        }
    }

    private func header(_ kind: FrameKind) -> FrameHeader {
        var header = FrameHeader(kind)
        header.tick = library.wireVersion
        return header
    }

    private func receiveAddress(
        of side: Side, key: [UInt8], _ deadline: Deadline
    ) throws(TransportError) -> [UInt8] {
        stream.limitPayload(to: Self.codeBytes + Self.addressBytesMaximum)
        let frame = try receiveCarrierFrame(deadline)
        guard frame.header.tick == library.wireVersion else {
            throw TransportError(
                .refused,
                "\(peer) has UCX \(Self.text(frame.header.tick)), found \(Self.text(library.wireVersion)) here, expected "
                    + "the same: install one version everywhere, or take transport tcp")
        }
        let payload = Array(frame.payload)
        let address = Array(payload.dropFirst(Self.codeBytes))
        guard !address.isEmpty,
            isEqualInConstantTime(Array(payload.prefix(Self.codeBytes)), code(side, address, key))
        else {
            throw TransportError(
                .refused, "\(peer) sent a UCX address without the code of the job's key")
        }
        return address
    }

    private func receiveCarrierFrame(_ deadline: Deadline) throws(TransportError) -> ReceivedFrame {
        let frame = try stream.receive(deadline: deadline)
        guard frame.header.kind == .carrier else {
            throw TransportError(
                .malformed,
                "\(peer): expected a carrier frame to leave TCP for UCX, found \(frame.header.kind)"
            )
        }
        return frame
    }

    private static func text(_ version: UInt64) -> String {
        "\(version >> 32).\(version >> 16 & 0xffff).\(version & 0xffff)"
    }

    private func code(_ side: Side, _ address: [UInt8], _ key: [UInt8]) -> [UInt8] {
        hmacSHA256(key: key, Array("geeps ucx address 1".utf8) + [side.rawValue] + address)
    }

    /// What `side` puts beside its messages.
    private func token(
        _ side: Side, ours: [UInt8], theirs: [UInt8], _ key: [UInt8]
    ) -> [UInt8] {
        let message = Array("geeps ucx token 1".utf8) + [side.rawValue]
        return Array(hmacSHA256(key: key, message + ours + theirs).prefix(UCXInbox.tokenBytes))
    }

    /// Has the endpoints find each other, which takes both sides' progress, and returns when both have: UCX does
    /// nothing between calls, so neither may leave before.
    private func meet(_ token: [UInt8], _ deadline: Deadline) throws(TransportError) {
        finishConnecting(ours: token)
        try engine.withLock { () throws(TransportError) in try sendCredit() }
        try workUntil(deadline) { engine.inbox.creditOfPeer != nil }
        var flush = engine.withLock { engine.worker.flush() }
        try workUntil(deadline) { engine.worker.isOver(&flush) }
        if case .failed(let status) = flush {
            throw TransportError(
                .lost, "reach \(peer): \(engine.withLock { engine.worker.describe(status) })")
        }
        // Here the TCP connection says something for the last time.
        try stream.send(header(.carrier), bytes: [])
        while true {
            do throws(TransportError) {
                _ = try receiveCarrierFrame(min(deadline, .after(.milliseconds(1))))
                return engine.withLock { engine.expectsSilence = true }
            } catch {
                guard error.code == .deadline, !deadline.hasPassed else { throw error }
                engine.withLock { _ = engine.work() }
            }
        }
    }

    private func workUntil(
        _ deadline: Deadline, _ isDone: () -> Bool
    ) throws(TransportError) {
        let isInTime = try engine.wait(.receiver, until: deadline) {
            () throws(TransportError) in isDone()
        }
        guard isInTime else {
            throw TransportError(
                .deadline,
                "reach \(peer) over UCX: not before the deadline; do UCX_TLS and UCX_NET_DEVICES name a network that both "
                    + "machines share?")
        }
    }
}

extension Listener {
    /// The same connection, to be left for UCX as its caller wishes.
    ///
    /// - Throws: as `UCXConnection.init`.
    public func overUCX(_ connection: any Connection) throws(TransportError) -> UCXConnection {
        try UCXConnection(over: connection, options: options)
    }
}

extension Connection {
    /// Sends a frame with a small payload.
    fileprivate func send(_ header: FrameHeader, bytes: [UInt8]) throws(TransportError) {
        var failure: TransportError?
        bytes.withUnsafeBytes { payload in
            do throws(TransportError) {
                try send(header, payload: payload)
            } catch {
                failure = error
            }
        }
        if let failure { throw failure }
    }
}
