import GeePSCore

/// Where things lie in the memory file of a shared-memory connection, and where frames lie in a ring.
///
/// The file: one page with the counters of both directions, then the ring from the dialling side to the
/// listening side, then the ring back. A frame is its 64-byte header followed by its payload, contiguous
/// and aligned to 64: a payload that would run over the end of the ring starts at the beginning instead.
/// Positions are byte counts since the connection was made, multiples of 64; a position modulo the
/// capacity is an offset in the ring.
struct RingLayout: Sendable {
    /// Smallest ring; holds frames of control traffic in place.
    static let capacityMinimum = 64 << 10
    /// Largest ring.
    static let capacityMaximum = 1 << 30
    static let alignment = 64
    private static let pageBytes = 4096

    // Offsets of a direction's counters from its first; a pair of cache lines each, because processors
    // fetch lines in pairs.
    /// UInt64, written by the sender: bytes published.
    static let headOffset = 0
    /// UInt64, written by the receiver: bytes released.
    static let tailOffset = 128
    /// UInt32, a futex: 1 while the receiver sleeps.
    static let receiverParkedOffset = 256
    /// UInt32, a futex: 1 while the sender sleeps.
    static let senderParkedOffset = 384
    private static let countersBytes = 512

    /// Bytes of each ring.
    let capacity: Int

    /// A layout for rings of `capacity` bytes; nil when that is not allowed.
    init?(capacity: Int) {
        guard capacity >= Self.capacityMinimum, capacity <= Self.capacityMaximum,
            capacity % Self.pageBytes == 0
        else { return nil }
        self.capacity = capacity
    }

    /// Bytes of the memory file.
    var fileBytes: Int { Self.pageBytes + 2 * capacity }

    /// Offset in the file of the counters of direction 0 (from the dialling side) or 1.
    func countersOffset(direction: Int) -> Int { direction * Self.countersBytes }

    /// Offset in the file of the ring of direction 0 or 1.
    func ringOffset(direction: Int) -> Int { Self.pageBytes + direction * capacity }

    /// Whether a payload travels in place.
    ///
    /// A longer one streams through the ring in pieces and is put together by the receiver.
    ///
    /// Half the ring is the bound because the gap before a payload at the beginning of the ring can be
    /// almost as long as the payload.
    func fitsInPlace(payloadBytes: Int) -> Bool {
        roundedUp(payloadBytes) <= capacity / 2 - Limits.frameHeaderBytes
    }

    /// Where the payload of a frame whose header lies at `position` starts and where the next frame
    /// starts.
    ///
    /// Both sides compute it, so it does not travel.
    ///
    /// - Precondition: `fitsInPlace`.
    func place(payloadBytes: Int, headerAt position: UInt64) -> (payload: UInt64, end: UInt64) {
        let capacity = UInt64(capacity)
        let padded = UInt64(roundedUp(payloadBytes))
        var payload = position + UInt64(Limits.frameHeaderBytes)
        let offset = payload % capacity
        if offset + padded > capacity { payload += capacity - offset }
        return (payload, payload + padded)
    }
}

/// `count` rounded up to a multiple of 64.
func roundedUp(_ count: Int) -> Int {
    (count + RingLayout.alignment - 1) & ~(RingLayout.alignment - 1)
}
