import GeePSCore

/// What may be chosen about a connection; both ends may choose differently unless said otherwise.
public struct TransportOptions: Sendable {
    /// Whether this side adds a CRC-32C to every payload it sends.
    ///
    /// A receiver verifies every frame that carries one, whatever its own choice.
    public var checksPayload = false

    /// Bytes of a shared-memory ring, one for each direction; the dialling side's choice counts.
    ///
    /// A whole number of pages between `RingLayout.capacityMinimum` and `RingLayout.capacityMaximum`.
    public var ringBytes = 4 << 20

    /// Send and receive buffer of a socket between processes of one host; the kernel halves it when
    /// its own limit is lower.
    ///
    /// Between hosts the kernel sizes them by what the link needs.
    public var localSocketBufferBytes = 2 << 20

    /// Who is being dialled, for messages: "keeper 2".
    ///
    /// Empty: the address alone.
    public var peerName = ""

    /// What TCP connections are encrypted with; nil: they are not.
    ///
    /// Both ends have it or neither. Ways within a host, shared memory and Unix-domain sockets, stay as they are: they
    /// are the kernel's, and compare users.
    public var tls: TLSContext?

    /// What UCX may use, as in its variable UCX_TLS: "tcp"; nil: what the variable says, else what UCX finds best.
    public var ucxTransports: String?

    /// The defaults.
    public init() {}
}
