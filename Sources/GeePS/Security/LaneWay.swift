internal import GeePSCore
internal import GeePSTransport

/// By which way a lane's frames travel once both sides have proven themselves, as its hello says it.
enum LaneWay: UInt32 {
    /// As the handshake itself.
    case stays = 0
    /// Over UCX, the handshake's TCP connection staying beside it.
    case ucx = 1

    /// How long the sides may take to leave for it.
    static let patience = Duration.seconds(10)

    /// The way of a dialled connection.
    init(of connection: any Connection) { self = connection.carrier == .ucx ? .ucx : .stays }

    /// The keeper's side: the connection that `hello` asks for, over that which it came by.
    ///
    /// - Throws: `.refused` for a way that this process does not have, with what is missing.
    static func lane(
        over connection: any Connection, hello: FrameHeader, at listener: Listener
    ) throws(TransportError) -> any Connection {
        switch LaneWay(rawValue: hello.rowCount) {
        case .stays: return connection
        case .ucx:
            do throws(TransportError) {
                return try listener.overUCX(connection)
            } catch {
                throw TransportError(.refused, error.message)
            }
        case nil:
            throw TransportError(
                .refused, "lanes by way \(hello.rowCount) are unknown, expected 0 or 1")
        }
    }

    /// Both sides, after the welcome: leaves the handshake's connection for another one where there is one.
    static func leave(
        _ connection: any Connection, _ side: UCXConnection.Side, key: LaneKey, deadline: Deadline
    ) throws(TransportError) {
        guard let lane = connection as? UCXConnection else { return }
        try lane.connect(side, key: key.bytes, deadline: min(deadline, .after(patience)))
    }
}
